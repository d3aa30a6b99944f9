"""The durable log: what is acknowledged is in here, on disk, until every exporter has passed it.

One file per signal, ``<directory>/log/<signal>.sqlite``. Invariants:

1. ``append`` returns only after the request's transaction is committed with an fsync
   (SQLite, WAL, ``synchronous=FULL``). Requests that arrive together share one commit.
2. ``seq`` grows by one per stored request and is never used twice, not even after trimming
   or a restart (AUTOINCREMENT), so a cursor is one number: all ``seq <= cursor`` are done.
3. A request whose payload was stored within the last 10 minutes is acknowledged and not
   stored again. Its digest outlives the payload: trimming does not open the window.
4. A row is deleted only when every registered cursor has passed it.
5. The log never drops: beyond ``max_bytes`` of untrimmed payload, or when the disk has no more
   than its reserve left, ``append`` refuses. Cursors still move then: they live on the reserve.

On-disk format, version 1 (tables)::

    meta     key TEXT PRIMARY KEY, value        format, log_id (16 hex digits), signal
    requests seq INTEGER PRIMARY KEY AUTOINCREMENT, received_ns, source, items, payload
             payload: the serialised Export*ServiceRequest, uncompressed
             items: spans, metric points or log records in it; source: the receiver's id
    digests  digest BLOB PRIMARY KEY, received_ns    BLAKE2b-128 of source and payload
    cursors  name TEXT PRIMARY KEY, seq         "<pipeline>|<exporter>"

``log_id`` tells two logs apart: who keeps a position elsewhere keeps the id with it, so that
a position of a deleted log is not mistaken for one of its successor.
The file does not shrink; freed pages are used again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from taximeter_collector.directory import room
from taximeter_collector.errors import Refusal, StartError

FORMAT = 1
DEDUPLICATION_WINDOW_S = 600
_GROUP_BYTES = 8 << 20  # one commit takes at most this much payload
_TRIM_ROWS = 10_000  # per commit, so that no acknowledgement waits for a long delete
_PRUNE_EVERY_S = 15

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, received_ns INTEGER NOT NULL,
    source TEXT NOT NULL, items INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE digests (digest BLOB PRIMARY KEY, received_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX digests_by_time ON digests (received_ns);
CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored request."""

    seq: int
    received_ns: int
    items: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows read for one cursor, and the position the cursor has when they are done."""

    rows: list[Row]
    first: int
    last: int

    @property
    def items(self) -> int:
        return sum(row.items for row in self.rows)


@dataclass(slots=True)
class _Append:
    payload: bytes
    items: int
    source: str
    within: Callable[[sqlite3.Connection], None] | None
    again: bool
    done: asyncio.Future[bool]  # True: stored; False: a duplicate


@dataclass(slots=True)
class _Move:
    name: str
    seq: int
    done: asyncio.Future[None]


class Log:
    """One signal's log. Used from one event loop; a thread of its own does the writing."""

    def __init__(
        self,
        path: Path,
        signal: str,
        *,
        max_bytes: int = 1 << 30,
        window_s: float = DEDUPLICATION_WINDOW_S,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._window_ns = int(window_s * 1e9)
        self._clock = clock
        self._writer = _open(path, signal)
        self._reader = _connect(path)
        self._cursors = dict(self._writer.execute("SELECT name, seq FROM cursors"))
        self.log_id: str = self._writer.execute("SELECT value FROM meta WHERE key='log_id'").fetchone()[0]
        stored = self._writer.execute("SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM requests").fetchone()
        self._bytes: int = stored[0]
        last = self._writer.execute("SELECT seq FROM sqlite_sequence WHERE name='requests'").fetchone()
        self.last_seq: int = last[0] if last else 0
        self.appended_items = 0  # since the start: lets a cursor wait for a full batch
        self.news = asyncio.Event()  # set, and replaced, at every commit that stored something
        self._queue: queue.SimpleQueue[_Append | _Move | None] = queue.SimpleQueue()
        self._pruned = 0.0
        self._reading = ThreadPoolExecutor(1, f"log-read-{signal}")
        self._thread = threading.Thread(target=self._write_loop, name=f"log-write-{signal}", daemon=True)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def bytes_stored(self) -> int:
        """Untrimmed payload, in bytes, what waits for its commit included."""
        return self._bytes

    def register(self, names: Collection[str]) -> dict[str, int]:
        """Make ``names`` the log's cursors, before the start; return those abandoned, with their lag.

        A new cursor begins at the oldest request still held. A cursor that is no longer
        configured is dropped, since it would keep the log from ever being trimmed.
        """
        oldest = self._writer.execute("SELECT MIN(seq) FROM requests").fetchone()[0]
        begin = self.last_seq if oldest is None else oldest - 1
        abandoned = {n: self.last_seq - seq for n, seq in self._cursors.items() if n not in names}
        self._cursors = {name: self._cursors.get(name, begin) for name in names}
        with self._transaction():
            self._writer.execute("DELETE FROM cursors")
            self._writer.executemany("INSERT INTO cursors VALUES (?, ?)", self._cursors.items())
        return abandoned

    def position(self, name: str) -> int:
        """The cursor's committed position."""
        seq: int = self._cursors[name]
        return seq

    def start(self) -> None:
        """Begin to write; called in the event loop that will use the log."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def append(
        self,
        payload: bytes,
        items: int,
        source: str,
        within: Callable[[sqlite3.Connection], None] | None = None,
        *,
        again: bool = False,
    ) -> bool:
        """Store a request durably; False if it is a duplicate. Raises a retryable :class:`Refusal`.

        ``within`` is called with the connection inside the same transaction, in the writer's thread: what
        it writes is there if and only if the request is. An empty payload stores nothing else. With
        ``again`` an equal payload is no duplicate: the caller sees to it by ``within``.
        """
        if self._closed or self._loop is None:
            raise Refusal("stopping", "the collector is stopping", retryable=True)
        if self._bytes + len(payload) > self.max_bytes:
            raise Refusal(
                "log_full",
                f"the log holds {self._bytes} bytes not yet exported, limit {self.max_bytes}: "
                "see otelcol_exporter_queue_size for the exporter that is behind",
                retryable=True,
                retry_after_s=5,
            )
        free = room(self.path.parent)
        if free < len(payload):
            raise Refusal(
                "disk_full",
                f"the disk of {self.path.parent} has {max(0, free)} bytes left beyond its reserve: free some "
                "space there, or let the exporters catch up (otelcol_exporter_queue_size)",
                retryable=True,
                retry_after_s=5,
            )
        self._bytes += len(payload)
        done: asyncio.Future[bool] = self._loop.create_future()
        self._queue.put(_Append(payload, items, source, within, again, done))
        return await asyncio.shield(done)

    async def move(self, name: str, seq: int) -> None:
        """Commit a cursor. Returns when it is on disk."""
        if seq <= self._cursors[name]:
            return
        assert self._loop is not None
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Move(name, seq, done))
        await asyncio.shield(done)

    async def read(self, after: int, max_bytes: int, max_items: int, sources: Collection[str]) -> Batch:
        """The next requests after a position: at least one row scanned, more while the limits allow."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, self._read, after, max_bytes, max_items, sources)

    def _read(self, after: int, max_bytes: int, max_items: int, sources: Collection[str]) -> Batch:
        rows: list[Row] = []
        last, size, items = after, 0, 0
        found = self._reader.execute(
            "SELECT seq, received_ns, source, items, payload FROM requests WHERE seq > ? ORDER BY seq",
            (after,),
        )
        for seq, received_ns, source, count, payload in found:
            if source in sources:
                size += len(payload)
                items += count
                if rows and (size > max_bytes or items > max_items):
                    break
                rows.append(Row(seq, received_ns, count, payload))
            last = seq
        found.close()
        return Batch(rows, rows[0].seq if rows else after + 1, last)

    async def rows(self, seqs: Collection[int]) -> list[Row]:
        """The rows with these numbers that are still held, in order."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, self._rows, sorted(seqs))

    def _rows(self, seqs: list[int]) -> list[Row]:
        found = []
        for at in range(0, len(seqs), 500):
            some = seqs[at : at + 500]
            marks = ",".join("?" * len(some))
            query = (
                f"SELECT seq, received_ns, items, payload FROM requests WHERE seq IN ({marks}) ORDER BY seq"  # noqa: S608
            )
            found += [Row(*row) for row in self._reader.execute(query, some)]
        return found

    def prepare(self, schema: str) -> sqlite3.Connection:
        """Add tables of a stage's own to this file, before the start; returns the connection to read them."""
        self._writer.executescript(schema)
        return self._writer

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        self._closed = True
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        self._reading.shutdown()
        self._reader.close()
        self._writer.close()

    # --- the writer thread ---------------------------------------------------------------

    def _write_loop(self) -> None:
        closing = False
        while not closing:
            job = self._queue.get()
            group: list[_Append | _Move] = []
            size = 0
            while True:
                if job is None:
                    closing = True
                    break
                group.append(job)
                size += len(job.payload) if isinstance(job, _Append) else 0
                if size > _GROUP_BYTES or self._queue.empty():
                    break
                job = self._queue.get()
            if group:
                self._commit(group)

    def _commit(self, group: list[_Append | _Move]) -> None:
        assert self._loop is not None
        results: list[tuple[_Append, bool]] = []
        moves = [job for job in group if isinstance(job, _Move)]
        cursors = dict(self._cursors)
        freed = 0
        error: sqlite3.Error | None = None
        try:
            with self._transaction():
                now = self._clock()
                for job in group:
                    if isinstance(job, _Append):
                        results.append((job, self._insert(job, now)))
                for move in moves:
                    cursors[move.name] = max(cursors[move.name], move.seq)
                if moves:
                    self._writer.executemany(
                        "UPDATE cursors SET seq=? WHERE name=?", [(cursors[m.name], m.name) for m in moves]
                    )
                    freed = self._trim(min(cursors.values()))
                self._prune(now)
                found = self._writer.execute(
                    "SELECT seq FROM sqlite_sequence WHERE name='requests'"
                ).fetchone()
                last = found[0] if found else 0
        except sqlite3.Error as problem:
            error, last, freed = problem, self.last_seq, 0
        self._loop.call_soon_threadsafe(
            partial(self._committed, group, results, cursors, last=last, freed=freed, error=error)
        )

    def _insert(self, job: _Append, now: int) -> bool:
        if job.within is not None:
            job.within(self._writer)
        if not job.payload:
            return False
        digest = hashlib.blake2b(job.payload, digest_size=16, key=job.source.encode()[:64]).digest()
        fresh = self._writer.execute(
            "INSERT INTO digests VALUES (?, ?) ON CONFLICT (digest) "
            "DO UPDATE SET received_ns=excluded.received_ns WHERE received_ns < ?",
            (digest, now, now - self._window_ns),
        ).rowcount
        if fresh or job.again:
            self._writer.execute(
                "INSERT INTO requests (received_ns, source, items, payload) VALUES (?, ?, ?, ?)",
                (now, job.source, job.items, job.payload),
            )
        return bool(fresh or job.again)

    def _trim(self, passed: int) -> int:
        first = self._writer.execute("SELECT MIN(seq) FROM requests").fetchone()[0]
        if first is None or first > passed:
            return 0
        upto = min(passed, first + _TRIM_ROWS)
        found = self._writer.execute("SELECT SUM(LENGTH(payload)) FROM requests WHERE seq<=?", (upto,))
        freed: int = found.fetchone()[0]
        self._writer.execute("DELETE FROM requests WHERE seq<=?", (upto,))
        return freed

    def _prune(self, now: int) -> None:
        if time.monotonic() - self._pruned > _PRUNE_EVERY_S:
            self._pruned = time.monotonic()
            self._writer.execute("DELETE FROM digests WHERE received_ns < ?", (now - self._window_ns,))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._writer)

    # --- back in the event loop ----------------------------------------------------------

    def _committed(
        self,
        group: Iterable[_Append | _Move],
        results: Iterable[tuple[_Append, bool]],
        cursors: dict[str, int],
        *,
        last: int,
        freed: int,
        error: sqlite3.Error | None,
    ) -> None:
        self._bytes -= freed
        if error is not None:
            for job in group:
                if isinstance(job, _Append):
                    self._bytes -= len(job.payload)
                    refusal = Refusal(
                        "log_failed",
                        f"the log {self.path} could not be written ({error}): check the disk",
                        retryable=True,
                        retry_after_s=5,
                    )
                    _resolve(job.done, error=refusal)
                else:
                    _resolve(job.done, error=error)
            return
        self._cursors = cursors
        grown = last > self.last_seq
        self.last_seq = last  # before any acknowledgement, so that "nothing pending" is never a lie
        for job, stored in results:
            if stored:
                self.appended_items += job.items
            else:
                self._bytes -= len(job.payload)
            _resolve(job.done, stored)
        for job in group:
            if isinstance(job, _Move):
                _resolve(job.done, None)
        if grown:
            news, self.news = self.news, asyncio.Event()
            news.set()


def _resolve(future: asyncio.Future[Any], value: object = None, *, error: Exception | None = None) -> None:
    if future.done():  # the sender went away; the request is stored all the same
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


class _Transaction:
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


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA busy_timeout=30000")
    return connection


def _open(path: Path, signal: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    try:
        connection = _connect(path)
        if new:
            connection.execute("PRAGMA page_size=16384")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=1000")
        has_meta = connection.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone()
        if not has_meta:
            values = {"format": str(FORMAT), "log_id": secrets.token_hex(8), "signal": signal}
            with _Transaction(connection):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
            _sync_directory(path.parent)
        meta = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.DatabaseError as error:
        raise StartError(
            f"the log {path} cannot be opened ({error}): it is damaged or not a Taximeter log; "
            "move it aside to start with an empty one"
        ) from error
    if meta.get("format") != str(FORMAT) or meta.get("signal") != signal:
        raise StartError(
            f"the log {path} has format {meta.get('format')} for {meta.get('signal')}; this release reads "
            f"format {FORMAT} for {signal}: use the release that wrote it, or another directory"
        )
    return connection


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
