"""The ``span_store`` exporter: immutable Parquet segments of spans and requests.

A batch of the log becomes one segment of each table, under one name (`store.segments`), written to
a temporary name, fsynced and renamed, ``requests`` first and ``spans`` last. So the
files themselves say how far the store is: a crash between the rename and the cursor's commit
cannot write a range twice, and a ``requests`` segment whose ``spans`` never came is removed at
the next start and written again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taximeter_collector.directory import RESERVE_BYTES, file_name, room
from taximeter_collector.errors import StartError
from taximeter_collector.export.base import Exporter, Origin, Retry
from taximeter_collector.log import DEDUPLICATION_WINDOW_S, Batch
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.store.keeper import Keeper
from taximeter_collector.store.rows import Row, rows_of
from taximeter_collector.store.schema import REQUESTS, SCHEMA_VERSION, SPANS, VERSION_KEY
from taximeter_collector.store.segments import (
    TABLES,
    counting,
    segment_name,
    segments,
    sync_folder,
    write_whole,
)
from taximeter_collector.store.window import RecentKeys

_logger = logging.getLogger(__name__)
_ORDER = [("trace_hi", "ascending"), ("trace_lo", "ascending"), ("start_ns", "ascending")]


class SpanStoreExporter(Exporter):
    """``flush_interval`` is how long spans gather before they become a segment."""

    max_bytes = 64 << 20

    def __init__(self, name: str, values: dict[str, Any], own: OwnMetrics) -> None:
        super().__init__(name)
        self.linger_s = values["flush_interval"]
        self.max_items = values["max_rows"]
        self.directory = Path(values["directory"])
        self._own = own
        self._recent = RecentKeys(DEDUPLICATION_WINDOW_S)
        own.add("taximeter_collector_duplicate_spans", 0, exporter=name)
        self._upkeep = Keeper(name, self.directory, values["upkeep_interval"], values["retention"], own)

    async def start(self) -> None:
        try:
            for table in TABLES:
                (self.directory / table).mkdir(parents=True, exist_ok=True)
                for leftover in (self.directory / table).glob(".*.tmp"):
                    leftover.unlink()
        except OSError as error:
            raise StartError(
                f"exporters.{self.name}.directory: {self.directory} cannot be written ({error.strerror}): "
                "make it writable, or name another one"
            ) from error
        await asyncio.to_thread(self._remember_recent)
        self._upkeep.start()

    async def close(self) -> None:
        await self._upkeep.close()

    def position(self, origin: Origin, committed: int) -> int:
        spans = self._segments("spans", origin)
        done = max([committed, *spans.values()])
        for path, last in self._segments("requests", origin).items():
            if last > done:  # its spans never came: the range is written again
                path.unlink()
                sync_folder(path.parent)
        return done

    async def export(self, origin: Origin, batch: Batch) -> int:
        try:
            if room(self.directory, RESERVE_BYTES // 2) < 0:  # the cursors' last room on this disk
                raise OSError(errno.ENOSPC, "the disk is full but for its reserve")
            repeated = await asyncio.to_thread(self._write, origin, batch)
        except OSError as error:
            raise Retry(f"{self.directory} cannot be written: {error}") from error
        if repeated:
            self._own.add("taximeter_collector_duplicate_spans", repeated, exporter=self.name)
        return 0

    def _write(self, origin: Origin, batch: Batch) -> int:
        spans: list[Row] = []
        requests: list[Row] = []
        fresh: set[bytes] = set()
        repeated = 0

        def is_new(key: bytes) -> bool:
            if key in fresh or key in self._recent:
                return False
            fresh.add(key)
            return True

        for row in batch.rows:
            more_spans, more_requests, known = rows_of(origin.signal.request.FromString(row.payload), is_new)
            spans += more_spans
            requests += more_requests
            repeated += known
        name = segment_name(_prefix(origin), batch.first, batch.last)
        # Both tables are made before either is written: what no column can hold must fail here,
        # or the requests of this range would be there twice.
        tables = [
            (table, _table(rows, schema))
            for table, rows, schema in (("requests", requests, REQUESTS), ("spans", spans, SPANS))
            if rows
        ]
        written: list[Path] = []
        try:
            for table, data in tables:
                path = self.directory / table / name
                write_whole(path, partial(pq.write_table, data, compression="zstd"))
                written.append(path)
        except BaseException:
            for path in written:  # requests without their spans: they come again, perhaps in other company
                path.unlink(missing_ok=True)
            raise
        self._recent.add(fresh)
        return repeated

    def _segments(self, table: str, origin: Origin) -> dict[Path, int]:
        """This origin's segments and the last seq of each."""
        found = segments(self.directory / table)
        return {segment.path: segment.last for segment in found if segment.prefix == _prefix(origin)}

    def _remember_recent(self) -> None:
        since = time.time() - DEDUPLICATION_WINDOW_S
        files = counting((self.directory / "spans").glob("*.parquet"))
        paths = [(path.stat().st_mtime, path) for path in files]
        for modified, path in sorted(paths):
            if modified < since:
                continue
            try:
                ids = pq.read_table(path, columns=["trace_hi", "trace_lo", "span_id"], memory_map=False)
            except (OSError, pa.ArrowException) as error:
                _logger.warning(
                    "segment %s cannot be read (%s); its spans are not known as stored", path, error
                )
                continue
            columns = (ids.column(name).to_pylist() for name in ("trace_hi", "trace_lo", "span_id"))
            self._recent.add(
                hi.to_bytes(8) + lo.to_bytes(8) + span.to_bytes(8)
                for hi, lo, span in zip(*columns, strict=True)
            )


def _prefix(origin: Origin) -> str:
    return f"{origin.log_id[:8]}-{file_name(origin.pipeline)}"


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
    metadata = {VERSION_KEY: str(SCHEMA_VERSION)}
    return pa.Table.from_pydict(columns, schema=schema.with_metadata(metadata)).sort_by(_ORDER)
