"""Merges small segments into large ones, and sums up on the way what a report would ask of them.

Run by DuckDB in a bounded amount of memory; the exporter runs it in a process of its own. The order
makes a kill at any moment harmless: the merged ``requests`` get their name first, then the merged
``spans``, and the merged-from files stay until no reader can still be using them. Only what both tables
have is merged: a ``requests`` segment whose ``spans`` are not there yet is the writer's business.

Rows keep the order in which they came: by trace within what was flushed together, by time beyond, so
that a window of time is a few row groups. Segments of one size class are merged with each other (every
row is rewritten a few times at most, however much there is), never across a time slot, so that
retention can drop old segments whole.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from taximeter_collector.store import sums
from taximeter_collector.store.schema import REQUESTS, SCHEMA_VERSION, SPANS, SUMS, VERSION_KEY
from taximeter_collector.store.segments import Segment, adopt, segment_name, segments, superseded
from taximeter_collector.store.totals import TOTALS_KEY, totals_of

TARGET_BYTES = 64 << 20  # of a spans segment; larger ones are not merged any further
FAN_IN = 8  # so many of a size class make one of the next
_SMALLEST = 256 << 10  # up to here all are of one class
DAY_S = 86400.0
MEMORY = "400MB"
_ROW_GROUP = 122_880


@dataclass(frozen=True)
class Merge:
    """Spans segments to become one, in order."""

    spans: tuple[Segment, ...]

    @property
    def name(self) -> str:
        return segment_name(self.spans[0].prefix, self.spans[0].first, self.spans[-1].last)


def plan(found: Iterable[Segment], *, settled_before: float, slot_s: float = DAY_S) -> Merge | None:
    """The next merge worth doing, if any.

    Args:
        found: the spans table's segments that count, in order.
        settled_before: segments written later than this are left alone.
        slot_s: length of the time slots (by when rows were written).
    """
    old = [segment for segment in found if segment.modified < settled_before]
    for _, slot in itertools.groupby(old, key=lambda segment: (segment.prefix, segment.modified // slot_s)):
        run = list(slot)
        for level in range(_level(TARGET_BYTES)):
            for members in _runs(run, level):
                chosen = _fill(members)
                if len(chosen) >= FAN_IN or sum(segment.size for segment in chosen) >= TARGET_BYTES:
                    return Merge(tuple(chosen))
    return None


def plan_all(found: Iterable[Segment], current: set[Path], *, slot_s: float = DAY_S) -> Iterator[Merge]:
    """Everything that can be merged, at once; alone what is ``current`` (summed up, in today's schema)."""
    for _, slot in itertools.groupby(found, key=lambda segment: (segment.prefix, segment.modified // slot_s)):
        rest = list(slot)
        while rest:
            chosen = _fill(rest)
            rest = rest[len(chosen) :]
            if len(chosen) > 1 or chosen[0].path not in current:
                yield Merge(tuple(chosen))


def _level(size: int) -> int:
    return 0 if size <= _SMALLEST else 1 + int(math.log(size / _SMALLEST, FAN_IN))


def _runs(found: list[Segment], level: int) -> Iterator[list[Segment]]:
    """Neighbours of at most this size class."""
    for small, run in itertools.groupby(found, key=lambda segment: _level(segment.size) <= level):
        if small:
            yield list(run)


def _fill(run: list[Segment]) -> list[Segment]:
    """The first of them that together reach the target; at least one."""
    size = 0
    for number, segment in enumerate(run):
        size += segment.size
        if size >= TARGET_BYTES:
            return run[: number + (1 if number == 0 or size <= TARGET_BYTES * 3 // 2 else 0)]
    return run


def merge(store: Path, wanted: Merge) -> Path:
    """Write the merged segments of both tables; returns that of ``spans``.

    Raises:
        OSError: the disk is full or the like; the store is as it was.
        duckdb.Error: a segment cannot be read.
    """
    first, last, prefix = wanted.spans[0].first, wanted.spans[-1].last, wanted.spans[0].prefix
    every = segments(store / "requests")
    gone = superseded(every)
    requests = [
        segment
        for segment in every
        if segment not in gone
        and segment.prefix == prefix
        and first <= segment.first
        and segment.last <= last
    ]
    spill = store / ".spill"
    shutil.rmtree(spill, ignore_errors=True)
    parts: dict[str, Path] = {}
    try:
        with duckdb.connect(
            config={"threads": 1, "memory_limit": MEMORY, "temp_directory": str(spill)}
        ) as db:
            _read(db, "spans", [segment.path for segment in wanted.spans])
            _read(db, "requests", [segment.path for segment in requests])
            _sum_up(db)
            for table, sql in (("requests", _REQUESTS), ("spans", _SPANS)):
                if table == "requests" and not requests:
                    continue
                parts[table] = store / table / f".{wanted.name}.tmp"
                if table == "requests":
                    db.execute(f"CREATE TEMP TABLE merged AS {sql}")
                    write(db, "FROM merged", parts[table], totals_of(db, "merged"))
                    db.execute("DROP TABLE merged")
                else:
                    write(db, sql, parts[table])
        newest = max(segment.modified for segment in wanted.spans)
        for table, part in parts.items():
            adopt(part, store / table / wanted.name, newest)
    except duckdb.IOException as error:
        raise OSError(f"{store}: cannot merge {len(wanted.spans)} segments: {error}") from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
        shutil.rmtree(spill, ignore_errors=True)
    return store / "spans" / wanted.name


def _read(db: duckdb.DuckDBPyConnection, table: str, files: list[Path]) -> None:
    """A view of today's columns over these files."""
    schema = SPANS if table == "spans" else REQUESTS
    if not files:
        db.register(table, schema.empty_table())
        return
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    source = f"read_parquet([{names}], union_by_name = true)"
    present = {row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    computed = SUMS[table]
    columns = ", ".join(name for name in schema.names if name in present and name not in computed)
    db.execute(f"CREATE VIEW {table} AS SELECT {columns} FROM {source}")


def _sum_up(db: duckdb.DuckDBPyConnection) -> None:
    for statement in (
        f"CREATE TEMP TABLE found AS SELECT {sums.CALL}, {sums.FAMILY} AS family FROM spans "
        "WHERE family IS NOT NULL",
        "CREATE TEMP TABLE servers AS SELECT trace_hi, trace_lo, span_id, coalesce(service, '') AS svc, "
        f"{sums.SANE} FROM requests",
        # Most calls are made by the request itself: its parent is the server span.
        "CREATE TEMP TABLE direct AS SELECT f.trace_hi, f.trace_lo, f.span_id, f.parent_id AS owner_id "
        "FROM found f SEMI JOIN servers s ON s.trace_hi = f.trace_hi AND s.trace_lo = f.trace_lo "
        "AND s.svc = f.svc AND s.span_id = f.parent_id",
        "CREATE TEMP TABLE climbing AS "
        "SELECT * FROM found f ANTI JOIN direct USING (trace_hi, trace_lo, span_id)",
        "CREATE TEMP VIEW parents AS SELECT trace_hi, trace_lo, span_id, parent_id FROM spans "
        "SEMI JOIN climbing USING (trace_hi, trace_lo)",
        f"INSERT INTO direct {sums.CLIMB}",
        # A sender may use an id twice; rows must not multiply for it.
        "CREATE TEMP TABLE owned AS SELECT trace_hi, trace_lo, span_id, min(owner_id) AS owner_id "
        "FROM direct GROUP BY trace_hi, trace_lo, span_id",
        f"CREATE TEMP TABLE seen AS {sums.SEEN}",
        f"CREATE TEMP TABLE repeats AS {sums.REPEATS}",
        f"CREATE TEMP TABLE busy AS {sums.BUSY}",
        f"CREATE TEMP TABLE strays AS {sums.STRAY}",
        f"CREATE TEMP TABLE used AS {sums.USES}",
        f"CREATE TEMP TABLE slow AS {sums.SLOW_STATEMENTS}",
    ):
        db.execute(statement)
    for table in ("found", "servers", "direct", "climbing"):
        db.execute(f"DROP TABLE {table} CASCADE")


_REQUESTS = f"""
SELECT r.*, true AS summed, {SCHEMA_VERSION}::INT AS sums, {sums.FIGURES}
FROM requests r
LEFT JOIN seen s ON s.trace_hi = r.trace_hi AND s.trace_lo = r.trace_lo AND s.owner_id = r.span_id
LEFT JOIN repeats p ON p.trace_hi = r.trace_hi AND p.trace_lo = r.trace_lo AND p.owner_id = r.span_id
LEFT JOIN busy b ON b.trace_hi = r.trace_hi AND b.trace_lo = r.trace_lo AND b.owner_id = r.span_id
LEFT JOIN strays t ON t.trace_hi = r.trace_hi AND t.trace_lo = r.trace_lo AND t.owner_id = r.span_id
LEFT JOIN used u ON u.trace_hi = r.trace_hi AND u.trace_lo = r.trace_lo AND u.owner_id = r.span_id
LEFT JOIN slow w ON w.trace_hi = r.trace_hi AND w.trace_lo = r.trace_lo AND w.owner_id = r.span_id"""
_SPANS = f"""
SELECT *, CASE WHEN family IS NOT NULL AND owner_id IS NULL THEN true END AS loose FROM (
SELECT s.*, true AS summed, {sums.FAMILY} AS family, o.owner_id
FROM spans s LEFT JOIN owned o USING (trace_hi, trace_lo, span_id))"""


def write(db: duckdb.DuckDBPyConnection, sql: str, path: Path, totals: str | None = None) -> None:
    """Write rows as compacted segments are: compression, row groups, schema version, totals."""
    target = str(path).replace("'", "''")
    metadata = {VERSION_KEY: str(SCHEMA_VERSION)} | ({} if totals is None else {TOTALS_KEY: totals})
    db.execute(
        f"COPY ({sql}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP}, "
        f"KV_METADATA {metadata})"
    )
