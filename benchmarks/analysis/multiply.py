"""Makes a large store from a small one: its compacted segments again and again, later and under other ids.

Each copy is a real segment, written by DuckDB as the collector's compaction writes it; only its trace ids
(mixed with the copy's number) and its times (shifted by the length of the original) differ, so that a report
has all the rows to read, all over a longer time.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from taximeter_collector.store.compaction import write
from taximeter_collector.store.segments import TABLES, adopt, segment_name, segments
from taximeter_collector.store.totals import totals_of

_MIX = 0x9E37_79B9_7F4A_7C15  # the golden ratio: other bits in every copy
_SLOW = "list_transform(slow_statements, lambda s: struct_update(s, start_ns := s.start_ns + {shift}))"


def multiply(source: Path, target: Path, copies: int, *, tell: bool = False) -> int:
    """Write ``copies`` of the compacted store ``source``; returns the number of spans."""
    for table in TABLES:
        (target / table).mkdir(parents=True)
    found = {table: segments(source / table) for table in TABLES}
    length = max(segment.last for segment in found["spans"])
    spans = done = told = 0
    with duckdb.connect(config={"threads": 2, "memory_limit": "3GB"}) as db:
        shift_ns = _observed_ns(db, source)
        for table in TABLES:
            for segment in found[table]:
                db.execute(f"CREATE OR REPLACE TEMP TABLE rows AS FROM read_parquet('{segment.path}')")
                for copy in range(copies):
                    first, last = segment.first + copy * length, segment.last + copy * length
                    path = target / table / segment_name(segment.prefix, first, last)
                    part = path.with_name(f".{path.name}.tmp")
                    moved = f"SELECT * REPLACE ({_moved(table, copy, shift_ns * copy)}) FROM rows"
                    write(db, moved, part, totals_of(db, f"({moved})") if table == "requests" else None)
                    adopt(part, path, segment.modified + shift_ns * copy / 1e9)
                    spans += pq.read_metadata(path).num_rows if table == "spans" else 0
                    done += 1
                    tenths = 10 * done // (copies * sum(map(len, found.values())))
                    if tell and tenths > told:
                        told = tenths
                        print(f"  {tenths * 10} %, {spans / 1e6:.1f} M spans", flush=True)
    return spans


def _observed_ns(db: duckdb.DuckDBPyConnection, source: Path) -> int:
    sql = f"SELECT max(start_ns) - min(start_ns) + 6000000 FROM read_parquet('{source}/requests/*.parquet')"
    [(length,)] = db.execute(sql).fetchall()
    return int(length)


def _moved(table: str, copy: int, shift_ns: int) -> str:
    moved = f"xor(trace_hi, {copy * _MIX % 2**64}::UBIGINT) AS trace_hi, start_ns + {shift_ns} AS start_ns"
    if table == "requests":
        moved += f", {_SLOW.format(shift=shift_ns)} AS slow_statements"
    return moved
