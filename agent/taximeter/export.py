"""Export of spans that says nothing of people, and counts what it loses.

Every span passes :class:`GuardedExporter`, which applies the rules of ``taximeter.redact``.

Where the exporter can encode (:mod:`taximeter.sending`), what waits of a span is a flat tuple
(:mod:`taximeter.waiting`), and the exporting thread redacts and encodes them in a row, a few at a
time: it runs while an event loop waits.

The SDK drops spans when its queue is full and when the exporter has given up after its
timeout; it only logs that. Both are counted here and exported as
``taximeter.agent.dropped_spans`` by reason (``queue_full``, ``export_failed``); a span that
cannot be redacted is not sent (``not_redacted``), nor one that cannot be encoded (``not_encoded``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan, Span
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status
from opentelemetry.util.types import Attributes

from taximeter import guard, noted, otlp, redact, retry, waiting

#: Spans of a batch that is yet to be encoded: that takes 2 to 3 ms, in which an event loop waits.
_MOST_OBJECTS: Final = 64

#: Of spans that wait as tuples: so many take 0.2 ms. A pause of 0 would not let go of the interpreter.
_SLICE: Final = 8
_PAUSE: Final = 5e-5

_lock = threading.Lock()
_dropped: Counter[str] = Counter()


def drop(reason: str, spans: int) -> None:
    """Count ``spans`` as lost for ``reason``; told once for each."""
    with _lock:
        first = not _dropped[reason]
        _dropped[reason] += spans
    if first:
        guard.logger.warning(
            "Spans are lost (%s): from now on counted in taximeter.agent.dropped_spans, not told.", reason
        )


def dropped() -> dict[str, int]:
    """Spans lost so far, by reason."""
    with _lock:
        return dict(_dropped)


def renew() -> None:
    """Begin anew in a forked process."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # another thread may have held it
    _dropped.clear()


class GuardedExporter(SpanExporter):
    """Passes on to ``inner`` what may leave, and counts what could not be delivered."""

    def __init__(self, inner: SpanExporter, redactor: redact.Redactor) -> None:
        self.inner = inner
        self.redactor = redactor
        self._encode: Callable[[ReadableSpan], Any] | None = getattr(inner, "encode", None)

    def ready(self, span: ReadableSpan) -> Any:
        """What waits to be exported of ``span``: itself, or all that will be said of it, or nothing."""
        if self._encode is None:
            return span
        return waiting.keep(span) or self._bytes(span)

    @property
    def encodes(self) -> bool:
        """Whether spans do not wait as they are."""
        return self._encode is not None

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        noted.settle()
        if self._encode is None:
            spans = [clean for span in spans if (clean := self._clean(span)) is not None]
        else:
            spans = self._encoded(spans)
        try:
            result = self.inner.export(spans)
        except Exception:
            drop("export_failed", len(spans))
            raise
        if result is not SpanExportResult.SUCCESS:
            drop("export_failed", len(spans))
        return result

    def _encoded(self, spans: Sequence[Any]) -> list[Any]:
        encoded = []
        for number, span in enumerate(spans, 1):
            try:
                kept = type(span[0]) is int  # else it is bytes already
                encoded.append(waiting.encode(span, self.redactor) if kept else span)
            except Exception as error:
                drop("not_encoded", 1)
                guard.caught("export.encode", error)
            if number % _SLICE == 0 and not retry.hurrying():
                time.sleep(_PAUSE)
        return encoded

    def _bytes(self, span: ReadableSpan) -> Any:
        """All that may leave of ``span``."""
        assert self._encode is not None
        clean = self._clean(span)
        if clean is None:
            return None
        try:
            return self._encode(clean)
        except Exception as error:
            drop("not_encoded", 1)
            guard.caught("export.encode", error)
            return None

    def _clean(self, span: ReadableSpan) -> ReadableSpan | None:
        try:
            return without_content(span, self.redactor)
        except Exception as error:
            drop("not_redacted", 1)
            guard.caught("export.redact", error)
            return None

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.inner.force_flush(timeout_millis)


def without_content(span: ReadableSpan, redactor: redact.Redactor) -> ReadableSpan:
    """``span`` as it may leave: itself where it says nothing of people."""
    given = otlp.plain(span._attributes)
    attributes = redactor.attributes(given, server=span.kind is SpanKind.SERVER)
    happened = span.events
    events = [_event(event, redactor) for event in happened]
    description = redactor.description(span.status.description, attributes)
    if (
        attributes is given
        and description is span.status.description
        and all(new is old for new, old in zip(events, happened, strict=True))
    ):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, description),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _event(event: Event, redactor: redact.Redactor) -> Event:
    given = event.attributes or {}
    attributes = redactor.attributes(given)
    return event if attributes is given else Event(event.name, attributes, event.timestamp)


def silence_exceptions() -> None:
    """Make spans record of an exception its type and its stack, not what it says."""
    record = Span.record_exception
    if getattr(record, "_taximeter", False):
        return

    def silent(
        self: Span,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        try:
            self.add_event("exception", redact.exception_event(exception, attributes), timestamp)
        except Exception as error:
            guard.caught("export.exception", error)

    silent._taximeter = True  # type: ignore[attr-defined]
    Span.record_exception = silent  # type: ignore[method-assign]


def _told_by_us(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Queue full")


class CountingProcessor(BatchSpanProcessor):
    """A batch processor that counts the spans a full queue pushes out."""

    def __init__(self, exporter: GuardedExporter, **kwargs: Any) -> None:
        super().__init__(exporter, **kwargs)
        self._ready = exporter.ready
        batch = self._batch_processor
        if not exporter.encodes:
            batch._max_export_batch_size = min(batch._max_export_batch_size, _MOST_OBJECTS)
        logging.getLogger("opentelemetry.sdk._shared_internal").addFilter(_told_by_us)

    def on_end(self, span: ReadableSpan) -> None:
        context, batch = span._context, self._batch_processor
        if context is None or not context[3] & 1:
            return
        try:  # on the thread of the request
            item = self._ready(span)
            if item is None:
                return
            queue = batch._queue
            if batch._shutdown or len(queue) >= batch._max_queue_size:
                if not batch._shutdown:
                    drop("queue_full", 1)
                batch.emit(item)
                return
            # As emit() does, without its question whether this is a fork: the SDK's hook has seen to it.
            queue.appendleft(item)
            if len(queue) >= batch._max_export_batch_size and not batch._worker_awaken.is_set():
                batch._worker_awaken.set()
        except Exception as error:
            guard.caught("export.end", error)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        # The SDK's takes as long as the exporter does, whatever the timeout: for ever, where the
        # collector is away.
        done: list[bool] = []
        flush = super().force_flush
        thread = threading.Thread(
            target=lambda: done.append(flush()), name="taximeter-force-flush", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # Python 3.12 starts no threads while it exits
            return flush()
        thread.join(30 if timeout_millis is None else timeout_millis / 1e3)
        return done == [True]

    def waiting(self) -> int:
        """Spans in the queue, not yet given to the exporter."""
        return len(self._batch_processor._queue)
