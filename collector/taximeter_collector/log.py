"""The durable log: what is acknowledged is in here, on disk, until every exporter has passed it.

One log per signal: an index in SQLite, ``<directory>/log/<signal>.sqlite``
(:mod:`~taximeter_collector.log_index`), and the payloads in files beside it
(:mod:`~taximeter_collector.segments`). Invariants:

1. ``append`` returns only after the record is synced to disk and its row in the index (SQLite, WAL)
   committed. Requests that arrive together share one sync. The commit itself is synced only where the
   index holds what the records do not (``within``): the next start completes the index from the records.
2. ``seq`` grows by one per stored request and is never used twice, not even after trimming
   or a restart (AUTOINCREMENT), so a cursor is one number: all ``seq <= cursor`` are done.
3. A request whose payload was stored within the last 10 minutes is acknowledged and not
   stored again. Its digest outlives the payload: trimming does not open the window.
4. A request is deleted only when every registered cursor has passed it.
5. The log never drops: beyond ``max_bytes`` of untrimmed payload as it is stored (packed, where that is
   smaller), or when the disk has no more than its reserve left, ``append`` refuses. Cursors still move
   then: they live on the reserve.
6. What disk or hand has damaged is quarantined and counted, request by request; the rest is delivered.

So after a power cut a cursor may stand a little earlier, and what it had passed is delivered again. What was
received last is kept in memory too, up to 16 MiB, so that a cursor that keeps up reads no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taximeter_collector.directory import room
from taximeter_collector.errors import Refusal
from taximeter_collector.log_index import INSERT, Transaction, connect, digest, open_log, row
from taximeter_collector.packing import worth_packing
from taximeter_collector.segments import Damaged, Place, Record

_logger = logging.getLogger(__name__)
DEDUPLICATION_WINDOW_S = 600
_GROUP_BYTES = 8 << 20  # one commit takes at most this much payload
_TRIM_ROWS = 10_000  # per commit, so that no acknowledgement waits for a long delete
_PRUNE_EVERY_S = 15
_RECENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One stored request."""

    seq: int
    received_ns: int
    items: int
    payload: bytes
    packed: bytes = b""  # the same, where it is stored packed


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


@dataclass(slots=True)
class _Committed:
    """What a commit did, for the event loop."""

    stored: list[tuple[_Append, bool]]
    moves: list[_Move]
    records: list[Record]
    cursors: dict[str, int]
    last: int
    freed: int = 0
    saved: int = 0  # by packing what was stored


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
        self._writer, self._segments = open_log(path, signal)
        self._reader = connect(path)
        self._cursors = dict(self._writer.execute("SELECT name, seq FROM cursors"))
        self.log_id: str = self._writer.execute("SELECT value FROM meta WHERE key='log_id'").fetchone()[0]
        self._bytes: int = self._writer.execute("SELECT COALESCE(SUM(size), 0) FROM requests").fetchone()[0]
        last = self._writer.execute("SELECT seq FROM sqlite_sequence WHERE name='requests'").fetchone()
        self.last_seq: int = last[0] if last else 0
        self._written = self.last_seq  # the writer thread's own count
        self.appended_items = 0  # since the start: lets a cursor wait for a full batch
        self.damaged_requests = self.damaged_items = 0  # found since the start, and quarantined
        self._damaged: set[int] = set()
        self.news = asyncio.Event()  # set, and replaced, at every commit that stored something
        self._recent: deque[Record] = deque()  # the last ones, without a gap
        self._recent_bytes = 0
        self._queue: queue.SimpleQueue[_Append | _Move | None] = queue.SimpleQueue()
        self._pruned = 0.0
        self._synced = True
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
        with Transaction(self._writer):
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
        if after >= self.last_seq:
            return Batch([], after + 1, after)
        if self._recent and self._recent[0].seq <= after + 1:
            return self._select(after, max_bytes, max_items, sources)
        loop = asyncio.get_running_loop()
        upto = self.last_seq
        return await loop.run_in_executor(
            self._reading, self._read, after, upto, max_bytes, max_items, sources
        )

    def _select(self, after: int, max_bytes: int, max_items: int, sources: Collection[str]) -> Batch:
        rows: list[Row] = []
        last, size, items = after, 0, 0
        for record in self._recent:
            if record.seq <= after:
                continue
            if record.source in sources:
                size += len(record.payload)
                items += record.items
                if rows and (size > max_bytes or items > max_items):
                    break
                rows.append(_row(record))
            last = record.seq
        return Batch(rows, rows[0].seq if rows else after + 1, last)

    def _read(self, after: int, upto: int, max_bytes: int, max_items: int, sources: Collection[str]) -> Batch:
        rows: list[Row] = []
        last, size, items = after, 0, 0
        found = self._reader.execute("SELECT * FROM requests WHERE seq > ? ORDER BY seq", (after,))
        for seq, _, source, count, *place in found:
            if source in sources:
                loaded = self._load(seq, source, count, Place(*place))
                size += sum(len(row.payload) for row in loaded)
                items += count
                if rows and (size > max_bytes or items > max_items):
                    break
                rows += loaded
            last = seq
        else:
            last = max(last, upto)  # a repair leaves a gap in the numbers
        found.close()
        return Batch(rows, rows[0].seq if rows else after + 1, last)

    async def rows(self, seqs: Collection[int]) -> list[Row]:
        """The rows with these numbers that are still held, in order."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, self._rows, sorted(seqs))

    def _rows(self, seqs: list[int]) -> list[Row]:
        rows: list[Row] = []
        for at in range(0, len(seqs), 500):
            some = seqs[at : at + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT * FROM requests WHERE seq IN ({marks}) ORDER BY seq"  # noqa: S608
            for seq, _, source, count, *place in self._reader.execute(query, some):
                rows += self._load(seq, source, count, Place(*place))
        return rows

    def _load(self, seq: int, source: str, items: int, place: Place) -> list[Row]:
        """The row, or nothing where it is damaged."""
        try:
            return [_row(self._segments.read(seq, place, source))]
        except Damaged as damage:
            if seq not in self._damaged:
                self._damaged.add(seq)
                self.damaged_requests += 1
                self.damaged_items += items
                folder = self.path.parent / "quarantine"
                _logger.error(
                    "request %d of %s (%d items) is damaged and left out (%s); what is left of it: %s",
                    seq, self.path.name, items, damage, folder,
                )  # fmt: skip
                with contextlib.suppress(OSError):
                    folder.mkdir(exist_ok=True)
                    (folder / f"{self.path.stem}-{seq}.bin").write_bytes(damage.found)
            return []

    async def first_received_ns(self, after: int) -> int | None:
        """When the first request after a position came."""
        query = "SELECT received_ns FROM requests WHERE seq > ? ORDER BY seq LIMIT 1"

        def look() -> int | None:
            found = self._reader.execute(query, (after,)).fetchone()
            return found[0] if found else None

        return await asyncio.get_running_loop().run_in_executor(self._reading, look)

    def prepare(self, schema: str) -> sqlite3.Connection:
        """Add tables of a stage's own to this file, before the start; returns the connection to read them."""
        self._writer.executescript(schema)
        return self._writer

    async def close(self) -> None:
        """Finish what is queued, then close the files."""
        self._closed = True
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        self._reading.shutdown()
        self._reader.close()
        self._writer.close()
        self._segments.close()

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
        done = _Committed(
            [], [j for j in group if isinstance(j, _Move)], [], dict(self._cursors), self._written
        )
        for move in done.moves:
            done.cursors[move.name] = max(done.cursors[move.name], move.seq)
        passed = min(done.cursors.values(), default=0) if done.moves else 0
        error: Exception | None = None
        try:
            # A file may only be removed when the index is known to have forgotten it.
            within = any(isinstance(job, _Append) and job.within for job in group)
            self._sync(within or bool(self._segments.passed(passed)))
            with Transaction(self._writer):
                self._store(group, done)
                removed = 0
                if done.moves:
                    self._writer.executemany(
                        "UPDATE cursors SET seq=? WHERE name=?",
                        [(done.cursors[m.name], m.name) for m in done.moves],
                    )
                    done.freed, removed = self._trim(passed)
            self._written = done.last
            if self._synced and removed:
                self._segments.remove(self._segments.passed(removed))
        except (sqlite3.Error, OSError) as problem:
            error = problem
            if done.records:
                self._segments.undo()
        self._loop.call_soon_threadsafe(self._committed, group, done, error)

    def _store(self, group: list[_Append | _Move], done: _Committed) -> None:
        now = self._clock()
        for job in group:
            if isinstance(job, _Append):
                fresh = self._fresh(job, now)
                done.stored.append((job, fresh))
                if fresh:
                    done.last += 1
                    packed = worth_packing(job.payload)
                    done.saved += len(job.payload) - len(packed or job.payload)
                    done.records.append(
                        Record(
                            done.last, now, job.source, job.items, job.payload, job.within is not None, packed
                        )
                    )
        if done.records:
            places = self._segments.append(done.records)
            rows = [row(record, place) for record, place in zip(done.records, places, strict=True)]
            self._writer.executemany(INSERT, rows)
        self._prune(now)

    def _sync(self, wanted: bool) -> None:
        if wanted != self._synced:
            self._writer.execute(f"PRAGMA synchronous={'FULL' if wanted else 'NORMAL'}")
            self._synced = wanted

    def _fresh(self, job: _Append, now: int) -> bool:
        if job.within is not None:
            job.within(self._writer)
        if not job.payload:
            return False
        seen = self._writer.execute(
            "INSERT INTO digests VALUES (?, ?) ON CONFLICT (digest) "
            "DO UPDATE SET received_ns=excluded.received_ns WHERE received_ns < ?",
            (digest(job.source, job.payload), now, now - self._window_ns),
        )
        return bool(seen.rowcount) or job.again

    def _trim(self, passed: int) -> tuple[int, int]:
        """Forget what every cursor has passed; returns the bytes and the last number forgotten."""
        first = self._writer.execute("SELECT MIN(seq) FROM requests").fetchone()[0]
        if first is None or first > passed:
            return 0, passed
        upto = min(passed, first + _TRIM_ROWS)
        found = self._writer.execute("SELECT SUM(size) FROM requests WHERE seq<=?", (upto,))
        freed: int = found.fetchone()[0]
        self._writer.execute("DELETE FROM requests WHERE seq<=?", (upto,))
        return freed, upto

    def _prune(self, now: int) -> None:
        if time.monotonic() - self._pruned > _PRUNE_EVERY_S:
            self._pruned = time.monotonic()
            self._writer.execute("DELETE FROM digests WHERE received_ns < ?", (now - self._window_ns,))

    # --- back in the event loop ----------------------------------------------------------

    def _committed(self, group: Iterable[_Append | _Move], done: _Committed, error: Exception | None) -> None:
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
        self._bytes -= done.freed + done.saved
        self._cursors = done.cursors
        self._remember(done.records)
        self.last_seq = done.last  # before any acknowledgement, so that "nothing pending" is never a lie
        for job, stored in done.stored:
            if stored:
                self.appended_items += job.items
            else:
                self._bytes -= len(job.payload)
            _resolve(job.done, stored)
        for move in done.moves:
            _resolve(move.done, None)
        if done.records:
            news, self.news = self.news, asyncio.Event()
            news.set()

    def _remember(self, records: list[Record]) -> None:
        self._recent += records
        self._recent_bytes += sum(len(record.payload) for record in records)
        passed = min(self._cursors.values(), default=0)
        while self._recent and (self._recent_bytes > _RECENT_BYTES or self._recent[0].seq <= passed):
            self._recent_bytes -= len(self._recent.popleft().payload)


def _row(record: Record) -> Row:
    return Row(record.seq, record.received_ns, record.items, record.payload, record.packed)


def _resolve(future: asyncio.Future[Any], value: object = None, *, error: Exception | None = None) -> None:
    if future.done():  # the sender went away; the request is stored all the same
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
