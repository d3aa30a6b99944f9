"""Export of spans that counts what it loses.

The SDK drops spans when its queue is full and when the exporter has given up after its
timeout; it only logs that. Both are counted here and exported as
``taximeter.agent.dropped_spans`` by reason (``queue_full``, ``export_failed``).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

_lock = threading.Lock()
_dropped: Counter[str] = Counter()


def drop(reason: str, spans: int) -> None:
    """Count ``spans`` as lost for ``reason``."""
    with _lock:
        _dropped[reason] += spans


def dropped() -> dict[str, int]:
    """Spans lost so far, by reason."""
    with _lock:
        return dict(_dropped)


class CountingExporter(SpanExporter):
    """Passes on to ``inner`` and counts what it could not deliver."""

    def __init__(self, inner: SpanExporter) -> None:
        self.inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self.inner.export(spans)
        except Exception:
            drop("export_failed", len(spans))
            raise
        if result is not SpanExportResult.SUCCESS:
            drop("export_failed", len(spans))
        return result

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.inner.force_flush(timeout_millis)


class CountingProcessor(BatchSpanProcessor):
    """A batch processor that counts the spans a full queue pushes out."""

    def on_end(self, span: ReadableSpan) -> None:
        batch = self._batch_processor
        if len(batch._queue) >= batch._max_queue_size and span.context and span.context.trace_flags.sampled:
            drop("queue_full", 1)
        super().on_end(span)

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
