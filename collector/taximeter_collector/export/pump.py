"""One cursor at work: reads the log, hands batches to its exporter, moves on when they are delivered.

Every pipeline and exporter has a pump of its own, so a slow or dead destination holds up
nobody else. What happens to a batch, and why, is one of: delivered; repeated later (the
reason is logged once per outage); split, when a merged batch was refused for good, so that
only the guilty request suffers; written to the dead letters.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Collection

from taximeter_collector.export.base import Backoff, Exporter, Origin, Permanent, Retry
from taximeter_collector.export.dead_letters import DeadLetters
from taximeter_collector.log import Batch, Log, Row
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.process.chain import Chain

_logger = logging.getLogger(__name__)
_REMIND_S = 60.0


class Pump:
    """The task of one cursor. ``position``: every seq up to it is delivered and the cursor on disk."""

    def __init__(
        self,
        log: Log,
        origin: Origin,
        sources: Collection[str],
        exporter: Exporter,
        *,
        backoff: Backoff,
        dead_letters: DeadLetters,
        own: OwnMetrics,
        chain: Chain,
        linger_s: float | None = None,
        enough_items: int = 0,
        max_items: int = 0,
    ) -> None:
        self.cursor = cursor_name(origin.pipeline, exporter.name)
        self.position = log.position(self.cursor)
        self.exporter = exporter
        self._log, self._origin, self._sources = log, origin, sources
        self._backoff, self._dead_letters, self._own = backoff, dead_letters, own
        self._chain = chain
        self._linger_s = exporter.linger_s if linger_s is None else linger_s
        self._enough_items = enough_items or exporter.max_items
        self._max_items = min(max_items or exporter.max_items, exporter.max_items)
        self._draining = asyncio.Event()
        self._behind = log.last_seq > self.position  # what an earlier run left needs no company
        self._seen_items = 0
        self._catch_up_to: int | None = log.last_seq
        self._failing_since = 0.0
        self._reminded = 0.0
        self.last_error: tuple[float, str] | None = None  # when (Unix time), and what
        for verb in ("sent", "send_failed"):
            self._count(verb, 0)
        self._own.add("taximeter_collector_dead_letters", 0, self.labels)

    @property
    def lag(self) -> int:
        """Acknowledged requests not yet delivered."""
        return self._log.last_seq - self.position

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed and will be repeated."""
        return bool(self._failing_since)

    async def oldest_waiting_s(self) -> float:
        """For how long the first request that is not delivered has waited."""
        received_ns = await self._log.first_received_ns(self.position) if self.lag else None
        return max(0.0, time.time() - received_ns / 1e9) if received_ns else 0.0

    @property
    def labels(self) -> dict[str, str]:
        return {"exporter": self.exporter.name, "data_type": self._origin.signal.name}

    def drain(self) -> None:
        """Deliver what is there without waiting for company, then end; give up at the first failure."""
        self._draining.set()

    async def run(self) -> None:
        """Until drained."""
        reached = self.exporter.position(self._origin, self.position)
        if reached > self.position:
            await self._done(min(reached, self._log.last_seq))
        while True:
            if self._catch_up_to is not None and self.position >= self._catch_up_to:
                self._catch_up_to = None
                self.exporter.caught_up(self._origin)
            news = self._log.news
            if self._log.last_seq <= self.position:
                if self._draining.is_set():
                    return
                await self._wait(news)
                continue
            await self._linger()
            last, self._seen_items = self._log.last_seq, self._log.appended_items
            batch = await self._log.read(
                self.position, self.exporter.max_bytes, self._max_items, self._sources
            )
            self._behind = batch.last < last
            if self._chain:
                batch = await asyncio.to_thread(self._chain.batch, batch)
            if batch.rows and not await self._deliver(batch):
                return
            await self._done(batch.last)

    async def _done(self, seq: int) -> None:
        while True:
            try:
                await self._log.move(self.cursor, seq)
                break
            except sqlite3.Error as error:  # a full disk: deliver no further until the cursor can move
                _logger.error("cursor %s cannot be saved (%s); trying again", self.cursor, error)
                if self._draining.is_set():
                    return
                await asyncio.sleep(1)
        self.position = max(self.position, seq)

    async def _linger(self) -> None:
        deadline = time.monotonic() + self._linger_s
        while not (self._behind or self._draining.is_set()):
            news = self._log.news
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._log.appended_items - self._seen_items >= self._enough_items:
                return
            await self._wait(news, remaining)

    async def _wait(self, news: asyncio.Event | None, seconds: float | None = None) -> None:
        """Until there is news, the drain begins, or so many seconds are over."""
        events = [self._draining] if news is None else [self._draining, news]
        tasks = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _deliver(self, batch: Batch) -> bool:
        """True when the batch is settled, one way or the other; False to leave it in the log."""
        begun = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            last_chance = self._draining.is_set()
            try:
                rejected = await self.exporter.export(self._origin, batch)
            except Retry as retry:
                elapsed = time.monotonic() - begun
                if not self._backoff.enabled or 0 < self._backoff.give_up_s < elapsed:
                    reason = f"gave up after {attempt} attempts in {elapsed:.0f} s: {retry}"
                    return await self._bury(batch.rows, reason)
                self._note_failure(str(retry))
                if last_chance:
                    return False
                wait = max(self._backoff.wait_s(attempt), retry.after_s or 0.0)
                await self._wait(None, wait)
            except Exception as error:
                if not isinstance(error, Permanent):
                    _logger.exception(
                        "exporter %s failed on %d requests", self.exporter.name, len(batch.rows)
                    )
                if len(batch.rows) > 1:
                    return await self._deliver_singly(batch)
                reason = str(error) if isinstance(error, Permanent) else f"{type(error).__name__}: {error}"
                return await self._bury(batch.rows, reason)
            else:
                self._count("sent", batch.items - rejected)
                if rejected:
                    self._own.add("taximeter_collector_partial_success_rejected", rejected, self.labels)
                self._note_success()
                return True

    async def _deliver_singly(self, batch: Batch) -> bool:
        for row in batch.rows:
            if not await self._deliver(Batch([row], row.seq, row.seq)):
                return False
            await self._done(row.seq)
        return True

    async def _bury(self, rows: list[Row], reason: str) -> bool:
        for row in rows:
            try:
                await asyncio.to_thread(self._dead_letters.write, row, reason)
            except OSError as error:
                _logger.error("dead letter %s cannot be written: %s", self._dead_letters.path, error)
                await self._wait(None, 1.0)
                return not self._draining.is_set() and await self._bury(rows, reason)
            self._own.add("taximeter_collector_dead_letters", 1, self.labels)
            self._count("send_failed", row.items)
        self.last_error = (time.time(), f"to the dead letters: {reason}")
        _logger.warning(
            "exporter %s: %d requests to the dead letters %s: %s",
            self.exporter.name, len(rows), self._dead_letters.path, reason,
        )  # fmt: skip
        return True

    def _count(self, verb: str, items: int) -> None:
        self._own.add(
            f"otelcol_exporter_{verb}_{self._origin.signal.noun}", items, exporter=self.exporter.name
        )

    def _note_failure(self, reason: str) -> None:
        self._own.add("taximeter_collector_export_retries", 1, self.labels)
        self.last_error = (time.time(), reason)
        now = time.monotonic()
        if not self._failing_since:
            self._failing_since = now
        if now - self._reminded > _REMIND_S:
            self._reminded = now
            _logger.warning(
                "exporter %s (%s) fails: %s; %d requests wait in the log",
                self.exporter.name, self._origin.pipeline, reason, self.lag,
            )  # fmt: skip

    def _note_success(self) -> None:
        if self._failing_since:
            _logger.warning(
                "exporter %s (%s) delivers again after %.0f s",
                self.exporter.name, self._origin.pipeline, time.monotonic() - self._failing_since,
            )  # fmt: skip
            self._failing_since = self._reminded = 0.0


def cursor_name(pipeline: str, exporter: str) -> str:
    return f"{pipeline}|{exporter}"


async def drain(pumps: list[Pump], tasks: list[asyncio.Task[None]], timeout_s: float) -> int:
    """Let every pump finish within a time; returns the requests left in the log."""
    for pump in pumps:
        pump.drain()
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return sum(pump.lag for pump in pumps)
