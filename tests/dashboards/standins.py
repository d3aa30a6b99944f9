"""Metrics pages of programs that are not started here, in the words that the real ones use.

A Tempo that discards, a pooler with clients in its queue, the host of a busy database, and a collector that
shows far too many series. Each is well until it is told to be sick.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from taximeter_collector.prometheus import catalogue as c

MANY = 50_500
_TIMES = 8  # scrapes that see them: enough for a rule, and no load afterwards


@dataclass
class Health:
    """Since when the programs are sick (monotonic), and how often the many series were shown."""

    since: float | None = None
    shown: int = 0
    born: float = field(default_factory=time.monotonic)

    def others(self) -> str:
        now = time.monotonic()
        sick = 0.0 if self.since is None else now - self.since
        idle = now - self.born - sick  # a busy processor's idle time stands still
        lines = [
            f'{c.PGBOUNCER_WAITING}{{database="hotel",user="app"}} {3 if sick else 0}',
            f'{c.NODE_CPU}{{cpu="0",mode="idle"}} {idle:.3f}',
            f'{c.NODE_CPU}{{cpu="0",mode="user"}} {sick:.3f}',
        ]
        if sick:  # as in Tempo, the series is born with its first discarded span
            lines.append(
                f'{c.TEMPO_DISCARDED}{{reason="rate_limited",tenant="single-tenant"}} {1 + sick:.0f}'
            )
        return "\n".join((*lines, ""))

    def many(self) -> str:
        if self.since is None or self.shown >= _TIMES:
            return "many_of_them 1\n"
        self.shown += 1
        return "".join(f'many_of_them{{id="{number}"}} 1\n' for number in range(MANY))


@contextmanager
def metrics_page(text: Callable[[], str]) -> Iterator[int]:
    """Serve the text at ``/metrics`` on loopback until the block ends; the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text().encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
