"""``taximeter collector forget``: erase traces, or a tenant, from everything this collector keeps.

From the logs (whole and sampled), the dead letters, the Prometheus state and the span stores. A tenant is
forgotten with every trace in which the tenant is named, and its own points and log records.

Erased means gone from the disk: SQLite files are written anew (``VACUUM`` after an overwriting delete), the
log's, Parquet and letter files replaced, so that no freed page keeps a copy. That needs the files to
oneself, so the data directory is taken: a running collector must be stopped. What was delivered elsewhere
is not reached, nor what a ``file`` exporter wrote.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taximeter import semconv
from taximeter_collector.config.loader import CollectorConfig
from taximeter_collector.directory import DataDirectory, data_directory
from taximeter_collector.errors import ConfigError, StartError
from taximeter_collector.export import dead_letters
from taximeter_collector.log_index import FORMAT, INSERT, Transaction, row
from taximeter_collector.packing import worth_packing
from taximeter_collector.process import decisions, raw
from taximeter_collector.process.chain import holders
from taximeter_collector.prometheus.names import label_name
from taximeter_collector.segments import (
    Damaged,
    Record,
    files,
    number,
    packed,
    scan,
    sync_directory,
    write_file,
)
from taximeter_collector.signals import SIGNALS
from taximeter_collector.store.segments import TABLES, adopt
from taximeter_collector.store.upkeep import InUse, lock
from taximeter_collector.values import as_text, plain


@dataclass
class Wanted:
    """What is to be forgotten; a tenant's traces are added as they are found."""

    traces: set[bytes] = field(default_factory=set)
    tenant: str = ""

    @classmethod
    def of(cls, traces: list[str], tenant: str | None) -> Wanted:
        """Raises ConfigError for what is no trace id."""
        found = set()
        for text in traces:
            try:
                found.add(bytes.fromhex(text))
            except ValueError:
                found.add(b"")
            if {len(each) for each in found} != {16}:
                raise ConfigError(f"--trace {text}: is no trace id of 32 hex digits")
        return cls(found, tenant or "")

    def names(self, attributes: Any) -> bool:
        """Whether these attributes are the tenant's."""
        return bool(self.tenant) and any(
            pair.key == semconv.TENANT and as_text(plain(pair.value)) == self.tenant for pair in attributes
        )


def forget(config: CollectorConfig, data_dir: Path | None, wanted: Wanted, *, dry_run: bool) -> Iterator[str]:
    """Erase; yields a line for every place that had something, and one at the end."""
    folder = data_directory(config, data_dir)
    if not folder.is_dir():
        raise StartError(f"{folder}: there is no such data directory")
    stores = [Path(c.values["directory"]) for c in config.exporters.values() if c.type == "span_store"]
    directory = DataDirectory(folder)
    try:
        with contextlib.ExitStack() as held:
            for store in stores:
                if store.is_dir():
                    try:
                        held.enter_context(lock(store))
                    except InUse as error:
                        raise StartError(str(error)) from error
            if wanted.tenant:
                _find_traces(folder, stores, wanted)
            total = 0
            for place, count in _everywhere(folder, stores, wanted, dry_run=dry_run):
                if count:
                    total += count
                    yield f"{place}: {count}"
            verb = "would be erased" if dry_run else "erased"
            yield f"{total} spans, points, records, exemplars, series {verb}, of {len(wanted.traces)} traces"
    finally:
        directory.close()


def _everywhere(
    folder: Path, stores: list[Path], wanted: Wanted, *, dry_run: bool
) -> Iterator[tuple[str, int]]:
    for path in sorted((folder / "log").glob("*.sqlite")):
        yield str(path), _log(path, wanted, dry_run=dry_run)
    for path in sorted((folder / "log" / "quarantine").glob("*")):
        yield str(path), _quarantined(path, wanted, dry_run=dry_run)
    for path in sorted((folder / "dead-letters").glob("*.dead*")):
        yield str(path), _letters(path, wanted, dry_run=dry_run)
    for path in sorted((folder / "state").glob("*.sqlite")):
        yield str(path), _state(path, wanted, dry_run=dry_run)
    for store in stores:
        for table in TABLES:
            for path in sorted((store / table).glob("*.parquet")):
                yield str(path), _segment(path, wanted, dry_run=dry_run)
            for path in (store / table).glob(".*.tmp"):  # of a merge that was killed
                if not dry_run:
                    path.unlink()


def _find_traces(folder: Path, stores: list[Path], wanted: Wanted) -> None:
    """Add every trace in which the tenant is named."""
    mark = wanted.tenant.encode()
    for path in (folder / "log").glob("*.sqlite"):
        with _database(path) as database:
            signal = database.execute("SELECT value FROM meta WHERE key='signal'").fetchone()[0]
        if signal == "traces":
            for segment in files(path.with_suffix(".segments")):
                for record in _records(segment):
                    if mark in record.payload:
                        wanted.traces |= _traces_of(record.payload, wanted)
    for path in (folder / "dead-letters").glob("*.dead*"):
        for header, payload in dead_letters.read(path):
            if header["signal"] == "traces" and mark in payload:
                wanted.traces |= _traces_of(payload, wanted)
    for store in stores:
        for path in (store / "spans").glob("*.parquet"):
            found = pq.read_table(
                path, columns=["trace_hi", "trace_lo"], filters=[("tenant", "=", wanted.tenant)]
            )
            for hi, lo in zip(*(found.column(name).to_pylist() for name in found.column_names), strict=True):
                wanted.traces.add(hi.to_bytes(8) + lo.to_bytes(8))


def _traces_of(payload: bytes, wanted: Wanted) -> set[bytes]:
    request = SIGNALS["traces"].request.FromString(payload)
    return {span.trace_id for span in holders(request) if wanted.names(span.attributes)}


def without(signal: str, payload: bytes, wanted: Wanted) -> tuple[bytes, int, int]:
    """A serialised request less what is wanted: its bytes, its items, and how much is gone."""
    if signal == "traces":
        parts = list(raw.spans(payload))
        kept = [part for part in parts if part.trace_id not in wanted.traces]
        return (
            (raw.join(kept), len(kept), len(parts) - len(kept))
            if len(kept) < len(parts)
            else (payload, -1, 0)
        )
    request: Any = SIGNALS[signal].request.FromString(payload)
    gone = 0
    for group in (*getattr(request, "resource_metrics", ()), *getattr(request, "resource_logs", ())):
        for scope in (*getattr(group, "scope_metrics", ()), *getattr(group, "scope_logs", ())):
            if signal == "logs":
                gone += _drop(scope.log_records, wanted)
                continue
            for metric in scope.metrics:
                form = metric.WhichOneof("data")
                points = getattr(metric, form).data_points if form else []
                gone += _drop(points, wanted)
                for point in points:
                    gone += _drop(getattr(point, "exemplars", []), wanted)
    return (request.SerializeToString(), SIGNALS[signal].count(request), gone) if gone else (payload, -1, 0)


def _drop(held: Any, wanted: Wanted) -> int:
    before = len(held)
    for at in range(before - 1, -1, -1):
        each = held[at]
        if getattr(each, "trace_id", b"") in wanted.traces or wanted.names(getattr(each, "attributes", ())):
            del held[at]
    return before - len(held)


@contextlib.contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(path, isolation_level=None)
    try:
        yield database
    finally:
        database.close()


def _log(path: Path, wanted: Wanted, *, dry_run: bool) -> int:
    gone = 0
    with _database(path) as database:
        database.execute("PRAGMA secure_delete=ON")
        meta = dict(database.execute("SELECT key, value FROM meta"))
        if meta["format"] != str(FORMAT):
            raise StartError(
                f"{path}: has format {meta['format']}: start the collector once, which upgrades it"
            )
        for segment in files(path.with_suffix(".segments")):
            kept = []
            lost_here = 0
            for record in _records(segment):
                rest, items, lost = without(meta["signal"], record.payload, wanted)
                lost_here += lost
                if items:
                    changed = replace(record, payload=rest, items=items, packed=worth_packing(rest))
                    kept.append(changed if lost else record)
            gone += lost_here
            if lost_here and not dry_run:
                _rewrite_segment(database, segment, meta["log_id"], kept)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if not dry_run:
            if tables & {"decided", "decisions"}:
                decisions.forget(database, wanted.traces)
            if "counted" in tables and wanted.tenant:
                pattern = f"%{json.dumps([semconv.TENANT, wanted.tenant])[1:-1]}%"
                gone += database.execute("DELETE FROM counted WHERE attributes LIKE ?", (pattern,)).rowcount
            _rewrite(database)
    return gone


def _records(segment: Path) -> Iterator[Record]:
    """The whole records of a file of a log, passed ones included."""
    for found in scan(segment):
        if not isinstance(found, Damaged):
            yield found[0]


def _rewrite_segment(database: sqlite3.Connection, segment: Path, log_id: str, kept: list[Record]) -> None:
    """A new file in the place of an old one. Records that all cursors have passed go for good."""
    of = (number(segment),)
    held = {seq for (seq,) in database.execute("SELECT seq FROM requests WHERE segment=?", of)}
    kept = [record for record in kept if record.seq in held]
    places = write_file(segment.parent, log_id, kept) if kept else []
    with Transaction(database):
        database.execute("DELETE FROM requests WHERE segment=?", of)
        database.executemany(INSERT, [row(r, p) for r, p in zip(kept, places, strict=True)])
    segment.unlink()
    sync_directory(segment.parent)


def _quarantined(path: Path, wanted: Wanted, *, dry_run: bool) -> int:
    """What is left of a damaged request cannot be read: it goes whole if it names what is wanted.

    Of a packed one nobody can say what it names, so it goes too.
    """
    content = path.read_bytes()
    if packed(content):
        if not dry_run:
            path.unlink()
        return 1
    names = [*wanted.traces, *([wanted.tenant.encode()] if wanted.tenant else [])]
    if not any(name in content for name in names):
        return 0
    if not dry_run:
        path.unlink()
    return 1


def _state(path: Path, wanted: Wanted, *, dry_run: bool) -> int:
    """Exemplars that name the traces; series of the tenant."""
    gone = 0
    ids = {trace.hex() for trace in wanted.traces}
    tenant = [label_name(semconv.TENANT), wanted.tenant]
    with _database(path) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name='series'").fetchone():
            return 0
        database.execute("PRAGMA secure_delete=ON")
        for family, labels, data in list(database.execute("SELECT family, labels, data FROM series")):
            key = (family, labels)
            if wanted.tenant and tenant in json.loads(labels):
                gone += 1
                if not dry_run:
                    database.execute("DELETE FROM series WHERE family=? AND labels=?", key)
                continue
            series = json.loads(data)
            kept = {
                at: exemplar
                for at, exemplar in series["exemplars"].items()
                if not ids & {value for _, value in exemplar["labels"]}
            }
            if len(kept) < len(series["exemplars"]):
                gone += len(series["exemplars"]) - len(kept)
                if not dry_run:
                    text = json.dumps({**series, "exemplars": kept}, separators=(",", ":"))
                    database.execute("UPDATE series SET data=? WHERE family=? AND labels=?", (text, *key))
        if not dry_run:
            if wanted.tenant:
                ended = list(database.execute("SELECT family, labels FROM ended"))
                mine = [row for row in ended if tenant in json.loads(row[1])]
                database.executemany("DELETE FROM ended WHERE family=? AND labels=?", mine)
            _rewrite(database)
    return gone


def _rewrite(database: sqlite3.Connection) -> None:
    """The whole file anew, and the write-ahead log emptied: no page of the past is left."""
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute("VACUUM")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _letters(path: Path, wanted: Wanted, *, dry_run: bool) -> int:
    gone = 0
    records = []
    for header, payload in dead_letters.read(path):
        rest, items, lost = without(header["signal"], payload, wanted)
        gone += lost
        if items:
            records.append(dead_letters.record({**header, "items": items if lost else header["items"]}, rest))
    if gone and not dry_run:
        dead_letters.replace(path, records)
    return gone


def _segment(path: Path, wanted: Wanted, *, dry_run: bool) -> int:
    """Write a Parquet segment without those rows, under the same name and age; an empty one stays."""
    file = pq.ParquetFile(path)
    ids = [(int.from_bytes(trace[:8]), int.from_bytes(trace[8:])) for trace in wanted.traces]
    his = pa.array([hi for hi, _ in ids], pa.uint64())
    pairs = set(ids)

    def mask(rows: Any) -> list[bool]:
        maybe = pc.is_in(rows.column("trace_hi"), value_set=his).to_pylist()
        los = rows.column("trace_lo").to_pylist()
        found = rows.column("trace_hi").to_pylist()
        return [not (m and (hi, lo) in pairs) for m, hi, lo in zip(maybe, found, los, strict=True)]

    gone = 0
    for batch in file.iter_batches(columns=["trace_hi", "trace_lo"]):
        gone += mask(batch).count(False)
    if gone and not dry_run:
        part = path.with_name(f".{path.name}.tmp")
        modified = path.stat().st_mtime
        with pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer:
            for at in range(file.num_row_groups):
                group = file.read_row_group(at)
                writer.write_table(group.filter(pa.array(mask(group))))
        adopt(part, path, modified)
    file.close()
    return gone
