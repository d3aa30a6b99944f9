"""Makes a large store from a small one: its compacted segments again and again, later and under other ids.

Each copy is a real segment, written by pyarrow with the schema, compression and row groups of the
collector's; only its trace ids (mixed with the copy's number) and its times (shifted by the length of the
original) differ, so that a report has all the rows to read, all over a longer time.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taximeter_collector.store.segments import TABLES, segment_name, segments, write_whole

_ROW_GROUP = 122_880
_MIX = 0x9E37_79B9_7F4A_7C15  # the golden ratio: other bits in every copy


def multiply(source: Path, target: Path, copies: int, *, tell: bool = False) -> int:
    """Write ``copies`` of the compacted store ``source``; returns the number of spans."""
    for table in TABLES:
        (target / table).mkdir(parents=True)
    found = {table: segments(source / table) for table in TABLES}
    length = max(segment.last for segment in found["spans"])
    shift_ns = _observed_ns(source)
    spans = done = 0
    for table in TABLES:
        for segment in found[table]:
            rows = pq.read_table(segment.path, memory_map=False)
            for copy in range(copies):
                first, last = segment.first + copy * length, segment.last + copy * length
                path = target / table / segment_name(segment.prefix, first, last)
                moved = _moved(rows, copy, shift_ns * copy)
                write = partial(pq.write_table, moved, compression="zstd", row_group_size=_ROW_GROUP)
                write_whole(path, write)
                modified = segment.modified + shift_ns * copy / 1e9
                os.utime(path, (modified, modified))
                spans += rows.num_rows if table == "spans" else 0
                done += 1
                if tell:
                    share = done / copies / sum(map(len, found.values()))
                    print(f"\r  {share:4.0%}, {spans / 1e6:6.1f} M spans", end="", flush=True)
    if tell:
        print()
    return spans


def _observed_ns(source: Path) -> int:
    starts = pq.read_table(source / "requests", columns=["start_ns"]).column("start_ns")
    return int(pc.max(starts).as_py() - pc.min(starts).as_py()) + 6_000_000


def _moved(rows: pa.Table, copy: int, shift_ns: int) -> pa.Table:
    if copy == 0:
        return rows
    mixed = pa.scalar(copy * _MIX % 2**64, pa.uint64())
    rows = _set(rows, "trace_hi", pc.bit_wise_xor(rows.column("trace_hi"), mixed))
    return _set(rows, "start_ns", pc.add(rows.column("start_ns"), shift_ns))


def _set(rows: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.set_column(at, rows.schema.field(at), values)
