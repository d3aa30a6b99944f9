"""The receiver of the rehearsal: takes what Alertmanager's webhook sends, and remembers when."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Notice:
    """One alert of one notification. ``at`` is this process's monotonic clock."""

    at: float
    firing: bool
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Webhook:
    """Listens on loopback, on a free port, while the ``with`` block lasts."""

    def __init__(self) -> None:
        self._notices: list[Notice] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._take))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def notices(self) -> list[Notice]:
        """Everything so far, in order of arrival."""
        with self._changed:
            return list(self._notices)

    def wait(self, wanted: Callable[[Notice], bool], timeout: float) -> Notice | None:
        """The first notice that is wanted, from the past or within ``timeout`` seconds; else None."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for notice in self._notices[seen:]:
                    if wanted(notice):
                        return notice
                seen = len(self._notices)
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None

    def _take(self, message: dict[str, Any]) -> None:
        now = time.monotonic()
        with self._changed:
            self._notices += [
                Notice(
                    now,
                    alert["status"] == "firing",
                    alert["labels"]["alertname"],
                    alert["labels"],
                    alert["annotations"],
                )
                for alert in message["alerts"]
            ]
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(take: Callable[[dict[str, Any]], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > _MOST_BYTES:
                self.send_error(413)
                return
            take(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    return Handler
