"""Log records over OTLP: what the service wrote, and nothing that others added of people's words.

The body of a record is the service's own sentence and leaves as it is: nothing is sent unless
``OTEL_LOGS_EXPORTER`` asks for it. Its attributes pass the rules of :mod:`taximeter.redact`, as those
of spans do: the handler adds an exception's message and its whole traceback, which quotes it, and
instrumentors put prompts and answers into events of their own. Of a traceback the frames are kept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from taximeter import guard, redact, retry

_STACK = "exception.stacktrace"


def build(kinds: Iterable[Any], resource: Resource, redactor: redact.Redactor) -> LoggerProvider:
    """Build and install the global provider, with an exporter of each of ``kinds``."""
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for kind in kinds:
        exporter = kind()
        retry.improve(exporter, endless=False)
        guarded: Any = GuardedLogExporter(exporter, redactor)
        provider.add_log_record_processor(BatchLogRecordProcessor(guarded))
    _logs.set_logger_provider(provider)
    return provider


class GuardedLogExporter:
    """Passes on to ``inner`` what may leave."""

    def __init__(self, inner: Any, redactor: redact.Redactor) -> None:
        self.inner = inner
        self.redactor = redactor

    def export(self, batch: Sequence[Any]) -> Any:
        return self.inner.export([clean for record in batch if (clean := self._clean(record)) is not None])

    def _clean(self, record: Any) -> Any:
        try:
            return without_content(record, self.redactor)
        except Exception as error:
            guard.caught("logexport.redact", error)
            return None  # not sent, and counted

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return bool(self.inner.force_flush(timeout_millis))


def without_content(record: Any, redactor: redact.Redactor) -> Any:
    """``record`` as it may leave: itself where it says nothing of people."""
    told = record.log_record
    given = told.attributes or {}
    attributes = redactor.attributes(given)
    event = told.event_name or given.get("event.name") or ""
    conversation = str(event).startswith("gen_ai.") and "messages" not in redactor.capture
    if attributes is given and not conversation:
        return record
    attributes = dict(attributes)
    if _STACK in given and _STACK not in attributes:
        attributes[_STACK] = redact.stack(str(given[_STACK]))
    changed = copy.copy(told)
    changed.attributes = attributes
    if conversation:
        changed.body = None
    return replace(record, log_record=changed)
