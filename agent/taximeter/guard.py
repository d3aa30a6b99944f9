"""The one place where the agent's own failures end up, so that they never reach the host.

Promise: a failure inside the agent costs telemetry, never a request. Every hook catches what
it raises and hands it to :func:`caught`, which counts it by hook (exported as the counter
``taximeter.agent.errors``), logs it once per hook and exception type with its stack, and
returns. What the exception says is not logged: it may quote a guest. With
``TAXIMETER_STRICT=1`` (the test suite) it raises again, so no failure hides.

Pure: imports nothing of OpenTelemetry, since the pure modules use it too.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter

from taximeter import redact

logger = logging.getLogger("taximeter")

_lock = threading.Lock()
_errors: Counter[str] = Counter()
_logged: set[tuple[str, str]] = set()


def strict() -> bool:
    """Whether internal failures are raised again (``TAXIMETER_STRICT=1``)."""
    return os.environ.get("TAXIMETER_STRICT", "").strip().lower() in {"1", "true", "yes"}


def caught(hook: str, error: BaseException) -> None:
    """Count and log ``error``, raised inside ``hook``; call it from an ``except`` block.

    Raises ``error`` again in strict mode, and nothing otherwise.
    """
    with _lock:
        _errors[hook] += 1
        kind = (hook, type(error).__name__)
        first = kind not in _logged
        _logged.add(kind)
    if first:
        logger.error(
            "Taximeter failed in %s and goes on with less telemetry (reported once, counted in "
            "taximeter.agent.errors): %s: no message, it may quote a guest\n%s",
            hook,
            type(error).__name__,
            redact.frames(error),
        )
    if strict():
        raise error


def count(hook: str) -> None:
    """Count a failure that is told elsewhere."""
    with _lock:
        _errors[hook] += 1


def note(hook: str, message: str) -> None:
    """Count and log a failure that is no exception, e.g. a library of an unknown version."""
    with _lock:
        _errors[hook] += 1
    logger.warning("%s", message)


def counts() -> dict[str, int]:
    """Failures so far, by hook."""
    with _lock:
        return dict(_errors)


def renew() -> None:
    """Begin anew in a forked process."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # another thread may have held it
    reset()


def reset() -> None:
    """Forget every failure."""
    with _lock:
        _errors.clear()
        _logged.clear()
