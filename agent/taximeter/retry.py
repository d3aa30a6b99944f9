"""The OTLP/HTTP exporter's retries, made fit for a collector that restarts.

The SDK's exporter pauses 1, 2, 4, 8 ... seconds between tries and drops the batch after about
half a minute. Two things are changed, through its (private, hence the exact dependency range)
HTTP client:

- Spans are tried for as long as the process lives: an outage costs only what exceeds the
  queue, which is bounded and counted. Metrics give up as before, since the next export
  carries the same sums.
- When the process is told to stop, a pause is cut short and tries follow each other quickly
  until the flush's time is over: a batch must not sleep through its last chance.

A permanent refusal is never tried again. Each failed try is counted (``taximeter.agent.errors``,
hook ``export.spans`` or ``export.metrics``); an outage is told when it begins and when it is
over, where the SDK would log every try. Of an answer no more than a few kilobytes are read, for
a few seconds: a collector that lies must not fill the host's memory.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from typing import Any, Final
from urllib.parse import urlsplit

from taximeter import guard

_RETRYABLE: Final = frozenset({429, 502, 503, 504})  # OTLP specification, OTLP/HTTP response
_QUICK: Final = 0.25  # s between tries while the process is stopping
_MAX_ANSWER: Final = 65_536  # bytes of an answer that are read
_MAX_ANSWERING: Final = 5.0  # s
_SILENT: Final = logging.Logger("taximeter.sdk", logging.CRITICAL + 1)

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
    session: Any = getattr(client._transport, "_session", None)
    if session is not None and session.__class__ is _requests("Session"):
        session.stream = True  # the answer is read by us, see below
    outage = _Outage(client)
    client._logger = _SILENT
    once, submit = client.export, client._submit

    def heard(data: bytes, timeout: float) -> Any:
        result = submit(data, timeout)
        try:
            _read(getattr(result, "response", None))
            outage.heard(result)
        except Exception as error:
            guard.caught("retry.heard", error)
        return result

    def export(data: bytes) -> Any:
        while True:
            result = once(data)
            final = result.status_code is not None and result.status_code not in _RETRYABLE
            pause = client._shutdown_event
            if result.success or final or pause.is_set() or not (endless or hurrying()):
                return result
            pause.wait(_QUICK)

    client.export, client._submit = export, heard


def _requests(name: str) -> Any:
    """A class of requests, where that is in use."""
    return getattr(sys.modules.get("requests"), name, None)


def _read(response: Any) -> None:
    """Read the answer to its end, so that its connection can be used again, or close it."""
    kind = _requests("Response")
    if kind is None or not isinstance(response, kind) or response.raw is None:
        return
    until = time.monotonic() + _MAX_ANSWERING
    size = 0
    try:
        while part := response.raw.read1(4096):
            size += len(part)
            if size > _MAX_ANSWER or time.monotonic() > until:
                response.close()
                return
    except Exception:
        response.close()  # what it says does not matter, its status does


class _Outage:
    """Tells when exporting begins to fail, and when it is over."""

    def __init__(self, client: Any) -> None:
        self.kind: str = client._kind
        parts = urlsplit(client._endpoint)
        self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self.failed = 0

    def heard(self, result: Any) -> None:
        status = result.status_code
        if status is not None and 200 <= status < 400:
            if self.failed:
                guard.logger.warning(
                    "%s takes %s again, after %d failed tries.", self.address, self.kind, self.failed
                )
            self.failed = 0
            return
        self.failed += 1
        guard.count(f"export.{self.kind}")
        if self.failed == 1:
            guard.logger.warning(
                "%s does not take %s (%s). Each failed try is counted; this is said once.",
                self.address,
                self.kind,
                type(result.error).__name__ if status is None else f"HTTP {status}",
            )


def renew() -> None:
    """Begin anew in a forked process: two processes must not talk over one connection."""
    global _until  # noqa: PLW0603
    _until = 0.0
    for client in list(_clients):
        client._shutdown_event = _Pause()
        old: Any = getattr(client._transport, "_session", None)
        session = _requests("Session")
        if session is not None and old.__class__ is session:
            new = client._transport._session = session()
            new.verify, new.cert, new.auth = old.verify, old.cert, old.auth
            new.headers, new.proxies, new.trust_env = old.headers, old.proxies, old.trust_env
            new.stream = old.stream


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
