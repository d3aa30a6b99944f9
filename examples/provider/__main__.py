"""``python -m examples.provider --port P --ledger FILE.jsonl``: run the stand-in until told to stop."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import uvicorn

from .app import create_app
from .attempts import Provider
from .ledger import Ledger
from .weather import Weather


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _scale(text: str) -> float:
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ledger", type=Path, required=True, help="JSON lines, one per attempt; appended to")
    parser.add_argument("--latency-scale", type=_scale, default=1.0, help="1.0: about the real services'")
    parser.add_argument("--fail-rate", type=_fraction, default=0.02, help="share of first attempts that fail")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    try:
        ledger = Ledger(options.ledger)
    except OSError as error:
        print(f"cannot write the ledger {options.ledger}: {error.strerror}; name a file in an existing "
              "folder with --ledger", file=sys.stderr)  # fmt: skip
        return 1
    provider = Provider(ledger, Weather(options.seed, options.latency_scale, options.fail_rate))
    config = uvicorn.Config(
        create_app(provider),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        # Longer than any client keeps an idle connection: reusing one never meets a closed door.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    # uvicorn shuts down in order and then repeats the signal: that is the expected end here.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
