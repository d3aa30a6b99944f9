"""A temporary span store of what a file or Tempo holds, written by the collector's own exporter.

So whatever the store does to spans (promoted columns, spans counted once, hostile texts cut) is done to
these too, and every question has one answer. The store is removed with the ``with`` block.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taximeter_collector.config.components import EXPORTERS
from taximeter_collector.config.fields import Notes, read_section
from taximeter_collector.export.base import Origin
from taximeter_collector.log import Batch, Row
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.signals import SIGNALS
from taximeter_collector.store.segments import TABLES
from taximeter_collector.store.writer import SpanStoreExporter

_ORIGIN = Origin(SIGNALS["traces"], "reader", "0" * 16)
_SEGMENT_BYTES = 32 << 20


@contextmanager
def temporary_store(
    requests: Iterable[bytes], progress: Callable[[int], None] = lambda number: None
) -> Iterator[Path]:
    """A store of these serialised requests. ``progress`` hears how many were read."""
    with tempfile.TemporaryDirectory(prefix="taximeter-") as folder:
        write_store(Path(folder), requests, progress)
        yield Path(folder)


def write_store(folder: Path, requests: Iterable[bytes], progress: Callable[[int], None]) -> None:
    """Write the requests as segments of a store."""
    for table in TABLES:
        (folder / table).mkdir(parents=True, exist_ok=True)
    values = read_section(EXPORTERS["span_store"], {"directory": str(folder)}, "reader", Notes())
    exporter = SpanStoreExporter("reader", values, OwnMetrics())
    size = 0
    rows: list[Row] = []

    def flush() -> None:
        if rows:
            batch = Batch(list(rows), rows[0].seq, rows[-1].seq)
            asyncio.run(exporter.export(_ORIGIN, batch))
            rows.clear()

    for number, payload in enumerate(requests, 1):
        size += len(payload)
        rows.append(Row(number, 0, 1, payload))
        if size >= _SEGMENT_BYTES:
            flush()
            size = 0
        progress(number)
    flush()
