"""A span store's writer for tests; as a program, one that exports, compacts and drops until it is killed.

    python -m tests.collector.storing DIRECTORY

prints the number of each batch once the exporter has taken it. It imports little: it is started often.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter_collector.config.components import EXPORTERS
from taximeter_collector.config.fields import Notes, read_section
from taximeter_collector.export.base import Origin
from taximeter_collector.log import Batch, Row
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.signals import SIGNALS
from taximeter_collector.store.upkeep import Rules, keep
from taximeter_collector.store.writer import SpanStoreExporter

ORIGIN = Origin(SIGNALS["traces"], "traces", "0123456789abcdef")


def exporter_of(folder: Path, **keys: Any) -> SpanStoreExporter:
    values = read_section(EXPORTERS["span_store"], {"directory": str(folder), **keys}, "x", Notes())
    return SpanStoreExporter("span_store", values, OwnMetrics())


def batch(number: int, each: int = 5, note: str = "") -> Batch:
    """One request of ``each`` server spans, as the log gives it out."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for offset in range(each):
        own = number * 1000 + offset + 1
        span = spans.add(trace_id=own.to_bytes(16), span_id=own.to_bytes(8), name="s", kind=2)
        span.start_time_unix_nano, span.end_time_unix_nano = own * 1000, own * 1000 + 500
        span.attributes.add(key="note").value.string_value = note
    return Batch([Row(number, 1, each, request.SerializeToString())], number, number)


def expected(numbers: range, each: int = 5) -> Counter[int]:
    """The span ids of those batches."""
    return Counter(number * 1000 + offset + 1 for number in numbers for offset in range(each))


async def write(folder: Path, numbers: range) -> None:
    """One segment a number."""
    exporter = exporter_of(folder)
    await exporter.start()
    for number in numbers:
        await exporter.export(ORIGIN, batch(number))
    await exporter.close()


async def _compact(folder: Path) -> None:
    while True:
        await asyncio.to_thread(keep, folder, Rules(), everything=True, grace_s=0.3)


async def _main(folder: Path) -> None:
    exporter = exporter_of(folder, upkeep_interval="0")
    await exporter.start()
    number = exporter.position(ORIGIN, 0)
    task = asyncio.create_task(_compact(folder))
    while not task.done():
        number += 1
        await exporter.export(ORIGIN, batch(number))
        print(number, flush=True)
    await task


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
