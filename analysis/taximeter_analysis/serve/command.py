"""``taximeter serve``: an HTTP server on the loopback interface, for one person's browser.

Nothing leaves the machine: it listens on loopback only, answers GET and HEAD only, and refuses a Host that
is not loopback (so that no web page can have a browser read it by a name of its own). Its pages load nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import sys
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from taximeter_analysis.command import EXIT_FAILED, EXIT_USAGE
from taximeter_analysis.render.page import script_hash
from taximeter_analysis.report import SLOW_S, TOP
from taximeter_analysis.serve.site import Answer, Site
from taximeter_analysis.sources import add_selection, filters_of
from taximeter_analysis.store import NoStore, NothingToReport, StoreError, open_store
from taximeter_analysis.window import parse_duration

DEFAULT_PORT = 8890

EPILOG = """\
examples:
  taximeter serve                                    http://localhost:8890/
  taximeter serve --store demo-output/store --since 1h --port 0

exit code: 0 stopped as asked, 1 the port cannot be had, 2 wrong usage or no such store
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter serve`` to its parser."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_selection(parser)
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"0: any free one (default: {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--slow", metavar="DURATION", type=parse_duration, default=SLOW_S, help="as in taximeter report"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until interrupted; returns the exit code."""
    try:
        filters_of(args, time.time())
        open_store(args.store).close()
    except NothingToReport:
        pass  # it may come
    except (ValueError, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_FAILED)
    site = Site(Path(args.store), lambda: filters_of(args, time.time()), slow_s=args.slow, top=TOP)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", args.port), partial(Handler, site))
    except (OSError, OverflowError) as error:
        return _fail(f"port {args.port} cannot be had ({error}); give another with --port", EXIT_FAILED)
    server.daemon_threads = True
    with server:
        print(f"http://localhost:{server.server_address[1]}/  (Ctrl-C ends it)", flush=True)  # noqa: T201
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server_version, sys_version = "taximeter", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def __init__(self, site: Site, *args: object) -> None:
        self._site = site
        super().__init__(*args)  # type: ignore[arg-type]  # the server's own

    def do_GET(self) -> None:
        if not is_loopback(self.headers.get("Host", "")):
            self._send(Answer(421, "this server answers to localhost only\n", "text/plain; charset=utf-8"))
            return
        asked = urlsplit(self.path)
        self._send(self._site.answer(asked.path, asked.query))

    do_HEAD = do_GET  # noqa: N815  (the base class's naming)

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", _POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Paths hold trace ids and route names: they are nobody's business on standard error."""


_POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script_hash(live=True)}'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine's loopback interface, with or without a port."""
    name = urlsplit(f"//{host}").hostname if "/" not in host and "@" not in host else None
    if name is None or name == "localhost":
        return name is not None
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _fail(message: str, code: int) -> int:
    print(f"taximeter serve: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
