"""Waiting for a free connection of psycopg's pool: on the request's account, and as a metric.

Timed is the part of ``getconn()`` that waits for a connection to be free (or made), without
the pool's check of it, which is a round trip to the database and no waiting.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from taximeter import account as accounts
from taximeter import guard, meters, noted, semconv

_now = time.perf_counter
_MAX_KEPT: Final = 1024
_labels: dict[str, noted.Labels] = {}  # by the pool's name


def install() -> None:
    """Wrap psycopg_pool's pools; call when it has been imported."""
    import psycopg_pool  # noqa: PLC0415  (only where it is installed)

    for cls, wrap in (
        (psycopg_pool.ConnectionPool, _timed),
        (psycopg_pool.AsyncConnectionPool, _timed_async),
    ):
        # Private, but the only place where waiting is told from checking; else all of getconn.
        name = "_getconn_unchecked" if hasattr(cls, "_getconn_unchecked") else "getconn"
        function = getattr(cls, name)
        if not getattr(function, "_taximeter", False):
            wrapped: Any = wrap(function)
            wrapped._taximeter = True
            setattr(cls, name, wrapped)


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    def getconn(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = _now()
        try:
            return function(self, *args, **kwargs)
        finally:
            _waited(self, _now() - started)

    return getconn


def _timed_async(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def getconn(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = _now()
        try:
            return await function(self, *args, **kwargs)
        finally:
            _waited(self, _now() - started)

    return getconn


def _waited(pool: Any, seconds: float) -> None:
    try:
        (accounts.current.get() or accounts.OUTSIDE).pool_wait(seconds)
        if (instruments := meters.get()) is not None:
            # A pool is named pool-1, pool-2 in the order of making unless the service names it.
            labels = _labels.get(pool.name)
            if labels is None:
                if len(_labels) >= _MAX_KEPT:
                    _labels.clear()
                name = instruments.pool(pool.name)
                labels = _labels[pool.name] = noted.Labels({semconv.DB_CLIENT_CONNECTION_POOL_NAME: name})
            instruments.connection_wait.record(seconds, labels)
    except Exception as error:
        guard.caught("pool", error)
