"""Nothing is lost when the process is told to stop.

Under uvicorn a SIGTERM ends the process without running ``atexit``, so stock telemetry loses
its last batch. Here the last export happens at whichever of these comes, each after the
in-flight requests: the ASGI lifespan's shutdown, the end of uvicorn's server (under gunicorn a
worker resets the signals, and an application may have no lifespan), the signal (uvicorn restores
the handler that was there before it and raises the signal again once it has shut down
gracefully), and the interpreter's exit. It takes at most ``TAXIMETER_FLUSH_TIMEOUT`` seconds (5) in all
that it cannot deliver in; handlers found in place are called afterwards.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

import wrapt

from taximeter import guard, retry, settings

Flush = Callable[[], object]

_flushes: list[Flush] = []
_deadline: float | None = None  # of all flushes together, once one has not ended in time
_owner = 0


def install(*flushes: Flush) -> None:
    """Run ``flushes`` (blocking calls) when the process stops. Once per process."""
    global _owner  # noqa: PLW0603
    _flushes[:] = flushes
    _owner = os.getpid()
    atexit.register(flush)
    if threading.current_thread() is threading.main_thread():
        _chain(signal.SIGTERM)


def renew() -> None:
    """Make a forked process run its own last export."""
    global _owner, _deadline  # noqa: PLW0603
    _owner = os.getpid()
    _deadline = None


def flush() -> bool:
    """Export what there is, in at most the configured time; whether all of it went out."""
    global _deadline
    if not _flushes or os.getpid() != _owner:
        return True
    started = time.monotonic()
    limit = settings.number("TAXIMETER_FLUSH_TIMEOUT")
    until = started + limit if _deadline is None else min(_deadline, started + limit)
    retry.hurry(until)
    threads = []
    for call in _flushes:
        thread = threading.Thread(target=_guarded, args=(call,), name="taximeter-flush", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # Python 3.12 starts no threads while it exits
            _guarded(call)
            continue
        threads.append(thread)
    for thread in threads:
        thread.join(max(0.05, until - time.monotonic()))
    if not any(thread.is_alive() for thread in threads):
        return True
    told, _deadline = _deadline is not None, until
    if told:
        return False
    guard.logger.warning(
        "Taximeter could not export everything within %g s: is the collector reachable at %s?",
        limit,
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
    )
    return False


def flushing(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    """An ASGI lifespan's ``send`` that flushes before it says that the shutdown is done."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
            try:
                from anyio import to_thread  # noqa: PLC0415  (comes with every ASGI framework of ours)

                await to_thread.run_sync(flush)
            except Exception as error:
                guard.caught("shutdown.lifespan", error)
        await send(message)

    return sending


def install_uvicorn() -> None:
    """Flush when uvicorn's server has shut down, before it raises the signal that ends the process."""
    wrapt.wrap_function_wrapper("uvicorn.server", "Server.shutdown", _after_uvicorn)


async def _after_uvicorn(
    wrapped: Callable[..., Awaitable[None]], _: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    await wrapped(*args, **kwargs)
    try:
        await asyncio.to_thread(flush)
    except Exception as error:
        guard.caught("shutdown.uvicorn", error)


def _guarded(call: Flush) -> None:
    try:
        call()
    except Exception as error:
        guard.caught("shutdown.flush", error)


def _chain(number: signal.Signals) -> None:
    previous = signal.getsignal(number)
    if previous is None:
        return  # installed by something that is not Python: leave it alone

    def handle(received: int, frame: FrameType | None) -> None:
        if os.getpid() == _owner:
            try:
                flush()
            except Exception as error:
                guard.caught("shutdown.signal", error)
        if callable(previous):
            previous(received, frame)
        elif previous is signal.SIG_DFL:
            signal.signal(received, signal.SIG_DFL)
            os.kill(os.getpid(), received)

    signal.signal(number, handle)
