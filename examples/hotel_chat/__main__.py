"""``[opentelemetry-instrument] python -m examples.hotel_chat --port P``: serve until SIGTERM.

Stock uvicorn: on SIGTERM or Ctrl-C it finishes what is in flight, shuts the application down and
ends by the same signal.
"""

from __future__ import annotations

import argparse
import os
import sys

import psycopg
import uvicorn

from .app import create_app
from .settings import SettingsError, read_settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.hotel_chat", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    try:
        settings = read_settings(os.environ)
        # Opens and closes a connection without a statement: the pool would retry in silence.
        psycopg.connect(settings.database_url, connect_timeout=10).close()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    except psycopg.Error as error:
        print(f"the hotel chat cannot reach the database of DATABASE_URL: {error}\n"
              "Start Postgres, fill it with python -m examples.hotel_chat.seed, or correct the variable.",
              file=sys.stderr)  # fmt: skip
        return 1
    uvicorn.run(
        create_app(settings),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        # Longer than any client keeps an idle connection: reusing one never meets a closed door.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
