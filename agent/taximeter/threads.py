"""Threads that a request starts work for the request's account, and under its span.

Tasks and ``asyncio.to_thread`` take their context along; ``threading.Thread``, executors and
``run_in_executor`` do not, so what they do would belong to no request. Here a started thread and
a submitted function carry two things, the account and OpenTelemetry's context, and nothing of
the service's own context variables: what the service sees does not change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry import context

from taximeter import account as accounts
from taximeter import guard

_Carried = tuple[accounts.Account, context.Context]


def install() -> None:
    """Extend ``Thread`` and ``ThreadPoolExecutor``, once."""
    if getattr(threading.Thread.start, "_taximeter", False):
        return
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def started(self: threading.Thread) -> None:
        try:
            # A pool's own thread lives longer than the request that happens to need it.
            if (account := accounts.current.get()) is not None and not _of_a_pool(self):
                _carry_into(self, (account, context.get_current()))
        except Exception as error:
            guard.caught("threads.start", error)
        start(self)

    def submitted(self: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            if (account := accounts.current.get()) is not None:
                function = _carrying((account, context.get_current()), function)
        except Exception as error:
            guard.caught("threads.submit", error)
        return submit(self, function, *args, **kwargs)

    started._taximeter = True  # type: ignore[attr-defined]
    threading.Thread.start = started  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submitted  # type: ignore[method-assign]


def _of_a_pool(thread: threading.Thread) -> bool:
    module = getattr(getattr(thread, "_target", None), "__module__", None) or type(thread).__module__
    return module.startswith(("concurrent.futures", "anyio.", "psycopg_pool", "opentelemetry."))


def _carry_into(thread: threading.Thread, carried: _Carried) -> None:
    """Make ``thread`` run as before, whatever its class makes of ``run``, but for the account."""
    run = thread.run

    def once() -> None:
        thread.__dict__.pop("run", None)
        _carrying(carried, run)()

    thread.run = once  # type: ignore[method-assign]


def _carrying(carried: _Carried, call: Callable[..., Any]) -> Callable[..., Any]:
    account, current = carried

    def carrying(*args: Any, **kwargs: Any) -> Any:
        mine = accounts.current.set(account)
        token = context.attach(current)
        try:
            return call(*args, **kwargs)
        finally:
            context.detach(token)
            accounts.current.reset(mine)

    return carrying
