"""Log lines and traces: the official logging instrumentor, told when to do what.

* Every log record gets ``otelTraceID``, ``otelSpanID``, ``otelTraceSampled`` and
  ``otelServiceName``, so that the service's own formatter (JSON, say) can write them.
* ``OTEL_PYTHON_LOG_CORRELATION=true`` also configures logging with a format that has them.
* ``OTEL_LOGS_EXPORTER=otlp`` sends records over OTLP, with the trace and span they belong to.
  They say what the service wrote in them, so nothing is sent unless that is set. Only then is a
  handler put on the root logger.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from opentelemetry import _logs


def exported() -> bool:
    """Whether log records are sent anywhere."""
    return os.environ.get("OTEL_LOGS_EXPORTER", "none").strip().lower() not in {"", "none"}


def arguments() -> dict[str, Any]:
    """What the logging instrumentor is called with."""
    # With OTLP the ids are the record's own; as attributes they would only be sent twice.
    return {"enable_log_auto_instrumentation": exported(), "inject_trace_context": not exported()}


def flushes() -> list[Callable[[], object]]:
    """The call that sends what is held back, where records are sent."""
    flush = getattr(_logs.get_logger_provider(), "force_flush", None) if exported() else None
    return [flush] if callable(flush) else []
