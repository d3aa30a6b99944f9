"""Opens a span store for reading: DuckDB over the collector's Parquet segments.

Promises: nothing is written to the store, no network is touched, and a reader may run while the
collector writes (segments are complete the moment they appear under their name; the list is
taken once, at opening). What cannot be read is a `StoreError` that names the path and the remedy.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from taximeter_collector.store.schema import ADDED, REQUESTS, SCHEMA_VERSION, SPANS, VERSION_KEY
from taximeter_collector.store.segments import counting
from taximeter_collector.store.totals import read_totals

TABLES: dict[str, pa.Schema] = {"spans": SPANS, "requests": REQUESTS}


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


class StoreError(Exception):
    """The store cannot be read. The message has the value, the place and the remedy."""


class NoStore(StoreError):
    """The path is no span store."""


class NothingToReport(StoreError):
    """The store is fine, but holds nothing that was asked for."""


@dataclass(frozen=True)
class Check:
    """What `Store.check` found. Duplicates are rows beyond the first with the same trace and span id."""

    spans: int
    requests: int
    duplicate_spans: int
    duplicate_requests: int
    requests_without_span: int

    @property
    def ok(self) -> bool:
        """True when every span and request is there once and every request has its span."""
        return not (self.duplicate_spans or self.duplicate_requests or self.requests_without_span)


class Store:
    """A span store opened for reading, with views ``spans`` and ``requests``. A context manager."""

    def __init__(self, path: Path, segments: dict[str, list[Path]]) -> None:
        self.path = path
        self.segments = segments
        self._totals: dict[str, pa.Table] | None = None
        self.kept: dict[Any, Any] = {}  # what figures of one selection have worked out for each other
        self._db = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "preserve_insertion_order": False,  # what is ordered says so
            }
        )
        try:
            self._db.execute("SET parquet_metadata_cache = true")  # of segments, which never change
            for table, schema in TABLES.items():
                self._add_view(table, schema)
        except BaseException:
            self._db.close()
            raise

    def _add_view(self, table: str, schema: pa.Schema) -> None:
        files = self.segments[table]
        if not files:
            self._db.register(
                table, schema.empty_table().append_column("filename", pa.array([], pa.string()))
            )
            return
        names = ", ".join(literal(str(file)) for file in files)
        source = f"read_parquet([{names}], union_by_name = true, filename = true)"
        try:
            found = self._db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
            versions = self._db.execute(
                f"SELECT DISTINCT value::VARCHAR FROM parquet_kv_metadata([{names}]) "
                f"WHERE key::VARCHAR = '{VERSION_KEY}'"
            ).fetchall()
        except duckdb.Error as error:
            raise StoreError(self._unreadable(error)) from error
        newer = [int(row[0]) for row in versions if row[0].isdigit() and int(row[0]) > SCHEMA_VERSION]
        if newer:
            raise StoreError(
                f"{self.path / table}: written by a later version of Taximeter (schema {max(newer)}; this "
                f"one reads up to {SCHEMA_VERSION}): report with that version"
            )
        present = {row[0] for row in found}
        missing = [name for name in schema.names if name not in present]
        if lost := [name for name in missing if name not in ADDED[table]]:
            raise StoreError(
                f"{self.path / table}: the segments lack the column(s) {', '.join(lost)}: they are no "
                "segments of Taximeter's; move them out of the store"
            )
        # Columns of later versions than the segments': null, typed by an empty table of today's schema.
        self._db.register(f"{table}_schema", schema.empty_table())
        self._db.execute(
            f"CREATE VIEW {table} AS SELECT * FROM {source} UNION ALL BY NAME SELECT * FROM {table}_schema"
            if missing
            else f"CREATE VIEW {table} AS SELECT * FROM {source}"
        )

    def set(self, **variables: str | int | None) -> None:
        """Set variables of the connection, for ``getvariable``: constants to the planner, values to us."""
        for name, value in variables.items():
            shown = (
                "NULL::VARCHAR" if value is None else literal(value) if isinstance(value, str) else str(value)
            )
            self._db.execute(f"SET VARIABLE {name} = {shown}")

    def rows(self, sql: str, parameters: list[Any] | dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one query and fetch its rows.

        Raises:
            StoreError: a segment is damaged or was removed while reading.
        """
        try:
            return self._db.execute(sql, parameters).fetchall()
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise StoreError(self._unreadable(error)) from error

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Run one query and read its rows by columns, a part at a time.

        Raises:
            StoreError: a segment is damaged or was removed while reading.
        """
        try:
            reader: pa.RecordBatchReader = self._db.sql(sql).to_arrow_reader(1 << 18)
            yield from reader
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise StoreError(self._unreadable(error)) from error

    def show(self, name: str, rows: pa.Table) -> None:
        """Let queries read these rows under a name."""
        self._db.register(name, rows)

    def totals(self) -> dict[str, pa.Table]:
        """What compaction says of whole segments of requests, by file; read once."""
        if self._totals is None:
            self._totals = read_totals(self._db, self.segments["requests"])
        return self._totals

    def _unreadable(self, error: duckdb.Error) -> str:
        found = re.search(r"[^\s'\"]+\.parquet", str(error))
        where = found.group(0) if found else str(self.path)
        reason = str(error).splitlines()[0]
        return (
            f"{where}: cannot be read ({reason}); if the collector has just removed it, run again, "
            "else move the file out of the store"
        )

    def check(self) -> Check:
        """Count what should not be there: doubled ids, and requests without their span."""

        def one(sql: str) -> int:
            return int(self.rows(sql)[0][0])

        key = "trace_hi, trace_lo, span_id"
        counts = {table: one(f"SELECT count(*) FROM {table}") for table in TABLES}
        unique = {
            table: one(f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM {table})") for table in TABLES
        }
        orphans = one(f"SELECT count(*) FROM requests ANTI JOIN spans USING ({key})")
        return Check(
            spans=counts["spans"],
            requests=counts["requests"],
            duplicate_spans=counts["spans"] - unique["spans"],
            duplicate_requests=counts["requests"] - unique["requests"],
            requests_without_span=orphans,
        )

    def close(self) -> None:
        """Let the files go."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _newer(files: list[Path], since: float) -> list[Path]:
    """The segments that hold a row written then or later: a merge keeps the age of its newest."""
    kept = []
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime >= since:
                kept.append(file)
    return kept


def open_store(path: str | Path, written_since: float | None = None) -> Store:
    """Open the span store in a directory (``<path>/spans/*.parquet``, ``<path>/requests/*.parquet``).

    ``written_since`` (Unix seconds): leave out segments whose newest row was written before; their
    spans had all ended by then. For who looks at the last minutes of a large store again and again.

    Raises:
        NoStore: no such directory, or not a store.
        StoreError: segments that cannot be read, or of another schema.
        NothingToReport: a store without a single segment.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file, not a directory" if root.exists() else "no such directory"
        raise NoStore(f"{root}: {what}; give the directory of the collector's span store with --store")
    if not any((root / table).is_dir() for table in TABLES):
        inside = [str(child.parent) for child in sorted(root.glob("*/spans")) if child.is_dir()]
        hint = (
            f"did you mean --store {inside[0]}?" if inside else "give the exporter's directory with --store"
        )
        raise NoStore(f"{root}: not a span store (it has no spans/ and no requests/ in it); {hint}")
    segments = {table: counting((root / table).glob("*.parquet")) for table in TABLES}
    if written_since is not None:
        segments = {table: _newer(files, written_since) for table, files in segments.items()}
    if not any(segments.values()):
        raise NothingToReport(
            f"{root}: the span store is empty (no .parquet segment in it yet); send the service some "
            "requests, or wait until the collector has written its first segment"
        )
    return Store(root, segments)
