"""The log's writing half: one thread that takes what waits, and commits it together.

It alone changes the index and the files while the collector runs. What the log promises is said in
:mod:`~taximeter_collector.log`; here is the order that keeps it: records are written and synced, then their
rows committed; a file is removed only when the index is known to have forgotten it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from taximeter_collector.log_index import INSERT, Transaction, digest, row
from taximeter_collector.packing import worth_packing
from taximeter_collector.segments import Record, Segments

_GROUP_BYTES = 8 << 20  # one commit takes at most this much payload
_TRIM_ROWS = 10_000  # per commit, so that no acknowledgement waits for a long delete
_PRUNE_EVERY_S = 15


@dataclass(slots=True)
class Append:
    payload: bytes
    items: int
    source: str
    within: Callable[[sqlite3.Connection], None] | None
    again: bool
    done: asyncio.Future[bool]  # True: stored; False: a duplicate


@dataclass(slots=True)
class Move:
    name: str
    seq: int
    done: asyncio.Future[None]


Job = Append | Move


@dataclass(slots=True)
class Committed:
    """What a commit did, for the event loop."""

    stored: list[tuple[Append, bool]]
    moves: list[Move]
    records: list[Record]
    cursors: dict[str, int]
    last: int
    freed: int = 0
    saved: int = 0  # by packing what was stored


class Writer:
    """The thread. ``committed`` is called in it, after each commit or its failure."""

    def __init__(
        self,
        name: str,
        index: sqlite3.Connection,
        segments: Segments,
        *,
        last: int,
        window_ns: int,
        clock: Callable[[], int],
        committed: Callable[[list[Job], Committed, Exception | None], None],
    ) -> None:
        self._index, self._segments = index, segments
        self._window_ns, self._clock, self._tell = window_ns, clock, committed
        self._cursors: dict[str, int] = {}
        self._last = last  # the last number given
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pruned = 0.0
        self._synced = True
        self._thread = threading.Thread(target=self._run, name=f"log-write-{name}", daemon=True)

    def start(self, cursors: dict[str, int]) -> None:
        self._cursors = dict(cursors)
        self._thread.start()

    def put(self, job: Job) -> None:
        self._queue.put(job)

    def finish(self) -> None:
        """Commit what is queued, and end."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            job = self._queue.get()
            group: list[Job] = []
            size = 0
            while True:
                if job is None:
                    closing = True
                    break
                group.append(job)
                size += len(job.payload) if isinstance(job, Append) else 0
                if size > _GROUP_BYTES or self._queue.empty():
                    break
                job = self._queue.get()
            if group:
                self._commit(group)

    def _commit(self, group: list[Job]) -> None:
        done = Committed([], [j for j in group if isinstance(j, Move)], [], dict(self._cursors), self._last)
        for move in done.moves:
            done.cursors[move.name] = max(done.cursors[move.name], move.seq)
        passed = min(done.cursors.values(), default=0) if done.moves else 0
        error: Exception | None = None
        try:
            # A file may only be removed when the index is known to have forgotten it.
            within = any(isinstance(job, Append) and job.within for job in group)
            self._sync(within or bool(self._segments.passed(passed)))
            with Transaction(self._index):
                self._store(group, done)
                removed = 0
                if done.moves:
                    self._index.executemany(
                        "UPDATE cursors SET seq=? WHERE name=?",
                        [(done.cursors[m.name], m.name) for m in done.moves],
                    )
                    done.freed, removed = self._trim(passed)
            self._last, self._cursors = done.last, done.cursors
            if self._synced and removed:
                with contextlib.suppress(OSError):  # what stays is removed by the next start
                    self._segments.remove(self._segments.passed(removed))
        except (sqlite3.Error, OSError) as problem:
            error = problem
            if done.records:
                self._segments.undo()
        self._tell(group, done, error)

    def _store(self, group: list[Job], done: Committed) -> None:
        now = self._clock()
        for job in group:
            if isinstance(job, Append):
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
            self._index.executemany(INSERT, rows)
        self._prune(now)

    def _sync(self, wanted: bool) -> None:
        if wanted != self._synced:
            self._index.execute(f"PRAGMA synchronous={'FULL' if wanted else 'NORMAL'}")
            self._synced = wanted

    def _fresh(self, job: Append, now: int) -> bool:
        if job.within is not None:
            job.within(self._index)
        if not job.payload:
            return False
        seen = self._index.execute(
            "INSERT INTO digests VALUES (?, ?) ON CONFLICT (digest) "
            "DO UPDATE SET received_ns=excluded.received_ns WHERE received_ns < ?",
            (digest(job.source, job.payload), now, now - self._window_ns),
        )
        return bool(seen.rowcount) or job.again

    def _trim(self, passed: int) -> tuple[int, int]:
        """Forget what every cursor has passed; returns the bytes and the last number forgotten."""
        first = self._index.execute("SELECT MIN(seq) FROM requests").fetchone()[0]
        if first is None or first > passed:
            return 0, passed
        upto = min(passed, first + _TRIM_ROWS)
        found = self._index.execute("SELECT SUM(size) FROM requests WHERE seq<=?", (upto,))
        freed: int = found.fetchone()[0]
        self._index.execute("DELETE FROM requests WHERE seq<=?", (upto,))
        return freed, upto

    def _prune(self, now: int) -> None:
        if time.monotonic() - self._pruned > _PRUNE_EVERY_S:
            self._pruned = time.monotonic()
            self._index.execute("DELETE FROM digests WHERE received_ns < ?", (now - self._window_ns,))
