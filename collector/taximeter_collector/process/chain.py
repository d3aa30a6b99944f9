"""A pipeline's processors that look at one request at a time: each may change it, none may keep it.

They run behind the log, once for every cursor that reads it: what was acknowledged is what came, and
a changed configuration applies to all that is not exported yet. The same row always gives the same
bytes, so that a repeated delivery is a repetition.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from taximeter_collector.log import Batch, Row
from taximeter_collector.signals import Signal

_logger = logging.getLogger(__name__)


class Processor(ABC):
    """One configured processor. ``fails_closed``: what it breaks on is withheld, not passed on."""

    fails_closed = False

    def concerns(self, payload: bytes) -> bool:
        """Whether the request needs decoding at all; a cheap look at its bytes."""
        return True

    @abstractmethod
    def change(self, request: Any) -> None:
        """Change a decoded Export*ServiceRequest in place."""


class Chain:
    """Processors in their order."""

    def __init__(self, processors: Sequence[Processor], signal: Signal) -> None:
        self._processors = processors
        self._signal = signal

    def __bool__(self) -> bool:
        return bool(self._processors)

    def row(self, row: Row) -> Row:
        """The row as the pipeline's next part shall see it, empty where nothing is left of it."""
        wanted = [p for p in self._processors if p.concerns(row.payload)]
        if not wanted:
            return row
        request = self._signal.request.FromString(row.payload)
        for processor in wanted:
            try:
                processor.change(request)
            except Exception:  # one strange request must not stop the pipeline: it goes on as it is
                if any(p.fails_closed for p in self._processors):
                    _logger.exception("a processor failed on request %d; it is withheld", row.seq)
                    return Row(row.seq, row.received_ns, 0, b"")
                _logger.exception("a processor failed on request %d; it is passed on unchanged", row.seq)
                return row
        items = self._signal.count(request)
        return Row(row.seq, row.received_ns, items, request.SerializeToString() if items else b"")

    def batch(self, batch: Batch) -> Batch:
        """Every row of a batch."""
        if not self._processors:
            return batch
        rows = [changed for row in batch.rows if (changed := self.row(row)).payload]
        return Batch(rows, batch.first, batch.last)


def holders(request: Any) -> Iterator[Any]:
    """Everything in a request that has attributes and is no resource: spans, points, log records."""
    for resource in resources(request):
        for scope in _children(resource, "scope_spans", "scope_metrics", "scope_logs"):
            yield from _children(scope, "spans", "log_records")
            for metric in _children(scope, "metrics"):
                kind = metric.WhichOneof("data")
                if kind:
                    yield from getattr(metric, kind).data_points


def resources(request: Any) -> Iterator[Any]:
    """The ResourceSpans, ResourceMetrics or ResourceLogs of a request."""
    yield from _children(request, "resource_spans", "resource_metrics", "resource_logs")


def _children(message: Any, *names: str) -> Iterable[Any]:
    fields = message.DESCRIPTOR.fields_by_name
    for name in names:
        if name in fields:
            return list(getattr(message, name))
    return ()
