"""The OTLP/HTTP exporter's retries, made fit for a collector that restarts.

The SDK's exporter pauses 1, 2, 4, 8 ... seconds between tries and drops the batch after about
half a minute. Two things are changed, through its (private, hence the exact dependency range)
HTTP client:

- Spans are tried for as long as the process lives: an outage costs only what exceeds the
  queue, which is bounded and counted. Metrics give up as before, since the next export
  carries the same sums.
- When the process is told to stop, a pause is cut short and tries follow each other quickly
  until the flush's time is over: a batch must not sleep through its last chance.

A permanent refusal is never tried again.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from typing import Any, Final

_RETRYABLE: Final = frozenset({429, 502, 503, 504})  # OTLP specification, OTLP/HTTP response
_QUICK: Final = 0.25  # s between tries while the process is stopping

_pauses: weakref.WeakSet[_Pause] = weakref.WeakSet()
_clients: weakref.WeakSet[Any] = weakref.WeakSet()
_until = 0.0  # monotonic: until then the process is stopping


def hurry(until: float) -> None:
    """Cut pauses short until ``until`` (``time.monotonic()``)."""
    global _until  # noqa: PLW0603
    _until = until
    for pause in list(_pauses):
        pause.woken.set()


def hurrying() -> bool:
    """Whether the process is stopping and there is time left."""
    return time.monotonic() < _until


def improve(exporter: Any, *, endless: bool) -> None:
    """Change the retries of an OTLP/HTTP exporter; any other is left as it is.

    ``endless``: try again for as long as the process lives (not only while it is stopping).
    """
    client: Any = getattr(exporter, "_client", None)
    if not hasattr(client, "_shutdown_event") or not hasattr(client, "export"):
        return
    client._shutdown_event = _Pause()
    _clients.add(client)
    once = client.export

    def export(data: bytes) -> Any:
        while True:
            result = once(data)
            final = result.status_code is not None and result.status_code not in _RETRYABLE
            pause = client._shutdown_event
            if result.success or final or pause.is_set() or not (endless or hurrying()):
                return result
            pause.wait(_QUICK)

    client.export = export


def renew() -> None:
    """Begin anew in a forked process: two processes must not talk over one connection."""
    global _until  # noqa: PLW0603
    _until = 0.0
    for client in list(_clients):
        client._shutdown_event = _Pause()
        old: Any = getattr(client._transport, "_session", None)
        session: Any = getattr(sys.modules.get("requests"), "Session", None)  # where it is in use
        if session is not None and old.__class__ is session:
            new = client._transport._session = session()
            new.verify, new.cert, new.auth = old.verify, old.cert, old.auth
            new.headers, new.proxies, new.trust_env = old.headers, old.proxies, old.trust_env


class _Pause(threading.Event):
    # Stands where the client's shutdown event stood: set when the exporter is shut down. It
    # waits on another event, so that a pause can end without a shutdown.

    def __init__(self) -> None:
        super().__init__()
        self.woken = threading.Event()
        _pauses.add(self)

    def set(self) -> None:
        super().set()
        self.woken.set()

    def wait(self, timeout: float | None = None) -> bool:
        if hurrying():
            return super().wait(_QUICK if timeout is None else min(timeout, _QUICK))
        self.woken.clear()
        if not self.is_set() and not hurrying():  # either may have come just before the clear
            self.woken.wait(timeout)
        return self.is_set()
