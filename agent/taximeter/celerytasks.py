"""Celery: each task has an account of its own, and a worker's child loses nothing when it ends.

The official instrumentor makes the spans. What a task causes reaches the metrics at once, without a route,
as all work outside requests does; its account lets the task name its tenant and read what it has spent, and
is written on the task's span when it ends. A child of the pool ends without ``atexit``: Celery's own signal
for that is where it flushes.
"""

from __future__ import annotations

from contextvars import Token
from typing import Any

from opentelemetry import trace

from taximeter import account as accounts
from taximeter import guard, meters, serverspan, shutdown

_running: dict[str, tuple[accounts.Account, Token[accounts.Account | None]]] = {}


def install() -> None:
    """Connect to Celery's signals; before the instrumentor does, whose span is to be open still."""
    from celery import signals  # noqa: PLC0415  (only where it is)

    signals.task_prerun.connect(_begun, weak=False)
    signals.task_postrun.connect(_ended, weak=False)
    signals.worker_process_shutdown.connect(_last, weak=False)


def _begun(task_id: str = "", **_: Any) -> None:
    try:
        account = accounts.Account()
        if (instruments := meters.get()) is not None:
            account.late = instruments.record
        _running[task_id] = account, accounts.current.set(account)
    except Exception as error:
        guard.caught("celerytasks.begin", error)


def _ended(task_id: str = "", **_: Any) -> None:
    try:
        if (known := _running.pop(task_id, None)) is None:
            return
        account, token = known
        accounts.current.reset(token)
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(serverspan.attributes(account))
    except Exception as error:
        guard.caught("celerytasks.end", error)


def _last(**_: Any) -> None:
    try:
        shutdown.flush()
    except Exception as error:
        guard.caught("celerytasks.last", error)
