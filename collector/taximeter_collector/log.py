"""The durable log: what is acknowledged is in here, on disk, until every exporter has passed it.

One log per signal: an index in SQLite, ``<directory>/log/<signal>.sqlite``
(:mod:`~taximeter_collector.log_index`), and the payloads in files beside it
(:mod:`~taximeter_collector.segments`), written by one thread (:mod:`~taximeter_collector.log_writer`).
Invariants:

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
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taximeter_collector.directory import room
from taximeter_collector.errors import Refusal
from taximeter_collector.log_index import Transaction, connect, open_log
from taximeter_collector.log_writer import Append, Committed, Job, Move, Writer
from taximeter_collector.segments import Damaged, Place, Record

_logger = logging.getLogger(__name__)
DEDUPLICATION_WINDOW_S = 600
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
        self._index, self._segments = open_log(path, signal)
        self._reader = connect(path)
        self._cursors = dict(self._index.execute("SELECT name, seq FROM cursors"))
        self.log_id: str = self._index.execute("SELECT value FROM meta WHERE key='log_id'").fetchone()[0]
        self._bytes: int = self._index.execute("SELECT COALESCE(SUM(size), 0) FROM requests").fetchone()[0]
        last = self._index.execute("SELECT seq FROM sqlite_sequence WHERE name='requests'").fetchone()
        self.last_seq: int = last[0] if last else 0
        self._writer = Writer(
            signal,
            self._index,
            self._segments,
            last=self.last_seq,
            window_ns=int(window_s * 1e9),
            clock=clock,
            committed=self._after_commit,
        )
        self.appended_items = 0  # since the start: lets a cursor wait for a full batch
        self.damaged_requests = self.damaged_items = 0  # found since the start, and quarantined
        self._damaged: set[int] = set()
        self.news = asyncio.Event()  # set, and replaced, at every commit that stored something
        self._recent: deque[Record] = deque()  # the last ones, without a gap
        self._recent_bytes = 0
        self._reading = ThreadPoolExecutor(1, f"log-read-{signal}")
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
        oldest = self._index.execute("SELECT MIN(seq) FROM requests").fetchone()[0]
        begin = self.last_seq if oldest is None else oldest - 1
        abandoned = {n: self.last_seq - seq for n, seq in self._cursors.items() if n not in names}
        self._cursors = {name: self._cursors.get(name, begin) for name in names}
        with Transaction(self._index):
            self._index.execute("DELETE FROM cursors")
            self._index.executemany("INSERT INTO cursors VALUES (?, ?)", self._cursors.items())
        return abandoned

    def position(self, name: str) -> int:
        """The cursor's committed position."""
        seq: int = self._cursors[name]
        return seq

    def start(self) -> None:
        """Begin to write; called in the event loop that will use the log."""
        self._loop = asyncio.get_running_loop()
        self._writer.start(self._cursors)

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
        self._writer.put(Append(payload, items, source, within, again, done))
        return await asyncio.shield(done)

    async def move(self, name: str, seq: int) -> None:
        """Commit a cursor. Returns when it is on disk."""
        if seq <= self._cursors[name]:
            return
        assert self._loop is not None
        done: asyncio.Future[None] = self._loop.create_future()
        self._writer.put(Move(name, seq, done))
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
        self._index.executescript(schema)
        return self._index

    async def close(self) -> None:
        """Finish what is queued, then close the files."""
        self._closed = True
        await asyncio.to_thread(self._writer.finish)
        self._reading.shutdown()
        self._reader.close()
        self._index.close()
        self._segments.close()

    # --- after a commit ------------------------------------------------------------------

    def _after_commit(self, group: list[Job], done: Committed, error: Exception | None) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._committed, group, done, error)

    def _committed(self, group: list[Job], done: Committed, error: Exception | None) -> None:
        if error is not None:
            for job in group:
                if isinstance(job, Append):
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
