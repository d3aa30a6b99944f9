"""The log's index, in SQLite: the requests and where they lie, what was seen, how far each cursor is.

A request's record is on disk (:mod:`~taximeter_collector.segments`) before its row here is committed;
rows that a crash took are made from the records at the next start. What a stage writes beside a request
(``within``) is committed with its row and synced: it is there if and only if the request is.

On-disk format, version 3 (tables; version 2 had the same)::

    meta     key TEXT PRIMARY KEY, value        format, log_id (16 hex digits), signal
    requests seq INTEGER PRIMARY KEY AUTOINCREMENT, received_ns, source, items, segment, at, size
             items: spans, metric points or log records in it; source: the receiver's id
    digests  digest BLOB PRIMARY KEY, received_ns    BLAKE3-128 of source and payload
    cursors  name TEXT PRIMARY KEY, seq         "<pipeline>|<exporter>"

``log_id`` tells two logs apart: who keeps a position elsewhere keeps the id with it, so that
a position of a deleted log is not mistaken for one of its successor.

Version 1 kept the payloads in ``requests``; it is read and rewritten at the first start. An index that
is damaged is moved to ``quarantine/`` and made anew from the records: its cursors then begin at the
oldest request.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from taximeter_collector.errors import StartError
from taximeter_collector.segments import (
    HEAD_BYTES,
    Damaged,
    Place,
    Record,
    Segments,
    files,
    log_id,
    number,
    scan,
    sync_directory,
)

FORMAT = 3
_logger = logging.getLogger(__name__)
_REQUESTS = """CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, received_ns INTEGER NOT NULL, source TEXT NOT NULL,
    items INTEGER NOT NULL, segment INTEGER NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL)"""
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
{_REQUESTS};
CREATE TABLE digests (digest BLOB PRIMARY KEY, received_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX digests_by_time ON digests (received_ns);
CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL);
"""
INSERT = "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)"
_SKIP = 1_000_000  # after a repair: a number given to a lost request is not given again
_UPGRADE_BYTES = 8 << 20


class Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when anything is raised."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
                return
            except sqlite3.Error:
                self._rollback()
                raise
        self._rollback()

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def digest(source: str, payload: bytes) -> bytes:
    """What tells two requests of one receiver apart."""
    found: bytes = blake3(source.encode() + b"\0").update(payload).digest(16)
    return found


def row(record: Record, place: Place) -> tuple[int, int, str, int, int, int, int]:
    """A record's row in ``requests``."""
    return (
        record.seq, record.received_ns, record.source, record.items, place.segment, place.at, place.size,
    )  # fmt: skip


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA busy_timeout=30000")
    return connection


def open_log(path: Path, signal: str) -> tuple[sqlite3.Connection, Segments]:
    """The index and the files of a log, made, upgraded or repaired where need be."""
    folder = path.with_suffix(".segments")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _open(path, signal, None)
    except sqlite3.DatabaseError as error:
        known = log_id(folder) if folder.is_dir() else None
        if known is None:
            raise StartError(
                f"the log {path} cannot be opened ({error}): it is damaged or not a Taximeter log; "
                "move it aside to start with an empty one"
            ) from error
        _set_aside(path, error)
        connection = _open(path, signal, known)
        _rebuild(connection, folder, known)
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if meta.get("format") not in ("1", "2", str(FORMAT)) or meta.get("signal") != signal:
        raise StartError(
            f"the log {path} has format {meta.get('format')} for {meta.get('signal')}; this release reads "
            f"formats 1 to {FORMAT} for {signal}: use the release that wrote it, or another directory"
        )
    segments = Segments(folder, meta["log_id"])
    if meta["format"] == "1":
        _upgrade(connection, segments, path)
    elif meta["format"] == "2":  # an older release must not take packed records for damaged ones
        connection.execute("UPDATE meta SET value=? WHERE key='format'", (str(FORMAT),))
    ends = {
        segment: (last, end)
        for segment, last, end in connection.execute(
            f"SELECT segment, MAX(seq), MAX(at + {HEAD_BYTES} + LENGTH(CAST(source AS BLOB)) + size) "  # noqa: S608
            "FROM requests GROUP BY segment"
        )
    }
    _complete(connection, segments, path, ends)
    segments.adopt(ends)
    return connection, segments


def _open(path: Path, signal: str, known: str | None) -> sqlite3.Connection:
    connection = connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=1000")
        state = connection.execute("PRAGMA quick_check(1)").fetchone()
        if state != ("ok",):
            raise sqlite3.DatabaseError(state[0])
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
            if log_id(path.with_suffix(".segments")) and known is None:
                raise sqlite3.DatabaseError("it is empty, but there are records")
            values = {"format": str(FORMAT), "log_id": known or secrets.token_hex(8), "signal": signal}
            with Transaction(connection):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
            sync_directory(path.parent)
        for table in ("meta", "requests", "digests", "cursors", "sqlite_sequence"):
            connection.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608  (our own names)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _set_aside(path: Path, error: Exception) -> None:
    folder = path.parent / "quarantine"
    folder.mkdir(exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(folder / f"{time.time_ns()}-{part.name}")
    _logger.error(
        "the index %s is damaged (%s): moved to %s, made anew from the records; what some exporters have "
        "already may be delivered to them again", path, error, folder,
    )  # fmt: skip


def _rebuild(connection: sqlite3.Connection, folder: Path, known: str) -> None:
    last = 0
    with Transaction(connection):
        for path in files(folder):
            for found in scan(path):
                if isinstance(found, Damaged):
                    _logger.error("a part of the log is lost: %s", found)
                    continue
                record, place = found
                last = max(last, record.seq)
                _add(connection, record, place)
        connection.execute("DELETE FROM sqlite_sequence WHERE name='requests'")
        connection.execute("INSERT INTO sqlite_sequence VALUES ('requests', ?)", (last + _SKIP,))


def _complete(
    connection: sqlite3.Connection, segments: Segments, path: Path, ends: dict[int, tuple[int, int]]
) -> None:
    """Rows for the records behind the last row: acknowledged, but not in the index when the power went."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='requests'").fetchone()
    last = found[0] if found else 0
    added = 0
    with Transaction(connection):
        for file in files(segments.folder):
            begin = ends.get(number(file), (0, None))[1]
            if file.stat().st_size <= (begin or 0):
                continue
            for record, place in _sound(file, begin):
                if record.seq <= last or record.bound:
                    continue
                last = record.seq
                added += 1
                _add(connection, record, place)
                ends[place.segment] = (last, place.at + HEAD_BYTES + len(record.source.encode()) + place.size)
    if added:
        _logger.warning("the index %s was completed with %d requests from the records", path, added)


def _sound(file: Path, begin: int | None) -> Iterator[tuple[Record, Place]]:
    """The records of a file from ``begin`` up to the first that is none: a crash ends a file anywhere."""
    for found in scan(file, begin):
        if isinstance(found, Damaged):
            return
        yield found


def _add(connection: sqlite3.Connection, record: Record, place: Place) -> None:
    connection.execute(INSERT.replace("INSERT", "INSERT OR REPLACE"), row(record, place))
    seen = (digest(record.source, record.payload), record.received_ns)
    connection.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", seen)


def _upgrade(connection: sqlite3.Connection, segments: Segments, path: Path) -> None:
    """Version 1 to 3: payloads out of the table, in one transaction, so that a crash begins anew."""
    segments.adopt({})
    with Transaction(connection):
        held = connection.execute("SELECT COUNT(*) FROM requests").fetchone()[0]
        connection.execute("ALTER TABLE requests RENAME TO old")
        connection.execute(_REQUESTS)
        group: list[Record] = []
        found = connection.execute("SELECT seq, received_ns, source, items, payload FROM old ORDER BY seq")
        for values in found:
            group.append(Record(*values))
            if sum(len(record.payload) for record in group) > _UPGRADE_BYTES:
                _move_in(connection, segments, group)
                group = []
        if group:
            _move_in(connection, segments, group)
        connection.execute(
            "INSERT INTO sqlite_sequence SELECT 'requests', seq FROM sqlite_sequence WHERE name='old' "
            "AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name='requests')"
        )
        connection.execute(
            "UPDATE sqlite_sequence SET seq=MAX(seq, (SELECT seq FROM sqlite_sequence WHERE name='old')) "
            "WHERE name='requests' AND EXISTS (SELECT 1 FROM sqlite_sequence WHERE name='old')"
        )
        connection.execute("DROP TABLE old")
        connection.execute("UPDATE meta SET value=? WHERE key='format'", (str(FORMAT),))
    segments.close()
    connection.execute("VACUUM")
    _logger.warning("the log %s was of format 1: %d requests rewritten in format %d", path, held, FORMAT)


def _move_in(connection: sqlite3.Connection, segments: Segments, group: list[Record]) -> None:
    places = segments.append(group)
    connection.executemany(INSERT, [row(r, place) for r, place in zip(group, places, strict=True)])
