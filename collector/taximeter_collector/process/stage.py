"""Tail sampling at work: from the receivers' log to a log of kept traces, which the exporters read.

What is kept is decided once, for all exporters. The decision and the kept spans are written in
one transaction of the second log, so that after a kill a trace is either wholly decided and
there, or undecided and still in the first log. The cursor in the first log stands before the first
row that holds an undecided trace: what waits for a decision is never trimmed, and a stop needs
no hurry. What is written is in :mod:`~taximeter_collector.process.decisions`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

from taximeter import semconv
from taximeter_collector.errors import Refusal
from taximeter_collector.log import Batch, Log, Row
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.process import decisions, raw
from taximeter_collector.process.chain import Chain
from taximeter_collector.process.policies import placed
from taximeter_collector.process.tail_sampling import TOGETHER, Decided, Decision, Late, Sampler

_logger = logging.getLogger(__name__)
_REQUEST_BYTES = 1 << 20
_READ_BYTES = 4 << 20
_LINGER_S = 0.1  # what comes close together is noted, and decided, together
_ROWS = 8  # read, and let go, together
_NEVER = 1 << 62
_MARKS = 1000


class TailSamplingStage:
    """One pipeline's sampler between two logs."""

    def __init__(
        self,
        name: str,
        pipeline: str,
        *,
        source: Log,
        sources: Collection[str],
        kept: Log,
        sampler: Sampler,
        own: OwnMetrics,
        chain: Chain,
        annotate: Callable[[list[raw.RawSpan]], list[raw.RawSpan]] | None = None,
        marked: bool = True,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.cursor = f"{pipeline}|{name}"
        self.name, self._pipeline = name, pipeline
        self._source, self._sources, self._kept, self._sampler = source, sources, kept, sampler
        self._own, self._chain, self._clock = own, chain, clock
        self._annotate, self._marked = annotate, marked
        self._marks: dict[tuple[str, bool, float], bytes] = {}
        self._draining = asyncio.Event()
        self._position = source.position(self.cursor)
        sampler.seen = self._position
        known, self._late = decisions.restored(kept.prepare(decisions.SCHEMA), source.log_id)
        for one in known:
            sampler.restore(one.number, one.decision, one.trace_ids)

    @property
    def open_traces(self) -> int:
        return self._sampler.open_traces

    def drain(self) -> None:
        """End soon: what is undecided stays in the first log."""
        self._draining.set()

    async def run(self) -> None:
        """Until drained."""
        read_to = self._position
        while not self._draining.is_set():
            news = self._source.news
            batch = await self._source.read(read_to, _READ_BYTES, _NEVER, self._sources)
            if batch.last > read_to:
                read_to = batch.last
                outcomes = await asyncio.to_thread(self._take, batch)
            else:
                outcomes = list(self._sampler.due(self._clock()))
            if not await self._emit(outcomes):
                return
            await self._advance()
            if batch.last >= self._source.last_seq:
                await self._wait(news)

    def _take(self, batch: Batch) -> list[Decided | Late]:
        found: list[Decided | Late] = []
        for row in batch.rows:
            found += self._sampler.take(self._chain.row(row))
        self._sampler.seen = max(self._sampler.seen, batch.last)
        return found

    async def _wait(self, news: asyncio.Event) -> None:
        due = self._sampler.next_due_ns()
        seconds = None if due is None else max(0.01, (due - self._clock()) / 1e9)
        tasks = [asyncio.ensure_future(event.wait()) for event in (news, self._draining)]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), _LINGER_S)

    async def _advance(self) -> None:
        settled = self._sampler.settled
        if settled > self._position:
            try:
                await self._source.move(self.cursor, settled)
            except sqlite3.Error as error:  # a full disk: the next round tries again
                _logger.error("cursor %s cannot be saved (%s)", self.cursor, error)
                return
            self._position = settled

    # --- passing on ----------------------------------------------------------------------

    async def _emit(self, outcomes: list[Decided | Late]) -> bool:
        """Write what was decided, in order; False when the drain began before that was possible."""
        for some in _portions(outcomes):  # what is due after a pause may be more than memory should hold
            if not await self._pass_on(some):
                return False
        return True

    async def _pass_on(self, outcomes: list[Decided | Late]) -> bool:
        places: dict[int, list[tuple[int, int, bytes]]] = {}  # row -> begin, end, trace
        for outcome in outcomes:
            if isinstance(outcome, Decided) and outcome.places:
                for trace_id, found in zip(outcome.trace_ids, outcome.places, strict=True):
                    for place in found:
                        seq, begin, end = placed(place)
                        places.setdefault(seq, []).append((begin, end, trace_id))
        spans: dict[bytes, list[raw.RawSpans]] = {}
        seqs = sorted(places)
        for at in range(0, len(seqs), _ROWS):
            rows = await self._source.rows(seqs[at : at + _ROWS])
            await asyncio.to_thread(self._gather, rows, places, spans)
        requests = list(_requests(outcomes, spans))
        for number, group in enumerate(requests, 1):
            decided = [outcome for outcome in group if isinstance(outcome, Decided)]
            late = [o for o in group if isinstance(o, Late) and o.seq > self._late]
            payload, items = await asyncio.to_thread(self._compose, decided, late, spans)
            last_late = max((o.seq for o in late), default=self._late)
            forgotten = self._forgotten() if number == len(requests) else []
            write = partial(decisions.write, decided=decided, forgotten=forgotten, late=last_late)
            if not await self._append(payload, items, write):
                return False
            self._late = last_late
            self._count_decisions(decided)
        return True

    def _compose(
        self, decided: list[Decided], late: list[Late], spans: dict[bytes, list[raw.RawSpans]]
    ) -> tuple[bytes, int]:
        """One request of the kept and the late spans, with their marks; and how many they are."""
        parts: list[raw.RawSpans] = []
        for outcome in decided:
            mark = self._mark(outcome.decision)
            for trace_id in outcome.trace_ids if outcome.places else ():
                parts += [part._replace(mark=mark) for part in self._annotated(spans.get(trace_id, []))]
        parts += raw.grouped(
            part._replace(span=part.span + self._mark(decision))
            for outcome in late
            for part, decision in outcome.spans
        )
        return raw.join_groups(parts), sum(len(part.spans) for part in parts)

    def _annotated(self, trace: list[raw.RawSpans]) -> list[raw.RawSpans]:
        return raw.grouped(self._annotate(raw.apart(trace))) if self._annotate and trace else trace

    async def _append(self, payload: bytes, items: int, within: Callable[[sqlite3.Connection], None]) -> bool:
        while True:
            try:
                await self._kept.append(payload, items, self._pipeline, within)
                return True
            except (
                Refusal
            ) as refusal:  # full: the exporters are behind, so this stage waits, and the first log
                if self._draining.is_set():
                    return False
                _logger.warning("%s waits: %s", self.cursor, refusal)
                try:
                    await asyncio.wait_for(self._draining.wait(), refusal.retry_after_s)
                except TimeoutError:
                    continue

    def _forgotten(self) -> list[int]:
        forgotten, self._sampler.forgotten = self._sampler.forgotten, []
        return forgotten

    def _count_decisions(self, decided: Iterable[Decided]) -> None:
        for _, decision, trace_ids, *_ in decided:
            self._own.add(
                "otelcol_processor_tail_sampling_global_count_traces_sampled",
                len(trace_ids),
                processor=self.name,
                policy=decision.reason,
                sampled=str(decision.kept).lower(),
            )

    def _gather(
        self,
        rows: list[Row],
        places: dict[int, list[tuple[int, int, bytes]]],
        spans: dict[bytes, list[raw.RawSpans]],
    ) -> None:
        """Add the spans of each wanted trace: the chain makes the same of a row as when they were noted."""
        for row in rows:
            ranges = places[row.seq]
            parts = raw.parts(self._chain.row(row).payload, [(begin, end) for begin, end, _ in ranges])
            for (_, _, trace_id), part in zip(ranges, parts, strict=True):
                spans.setdefault(trace_id, []).append(part)

    def _mark(self, decision: Decision) -> bytes:
        """Two encoded attributes: the reason a span was kept for and the number of traces it stands for."""
        if not self._marked:
            return b""
        key = decision.reason, decision.kept, decision.count
        mark = self._marks.get(key)
        if mark is None:
            mark = raw.text_attribute(semconv.SAMPLING_POLICY, decision.reason)
            if self._sampler.dry_run:
                mark += raw.boolean_attribute(semconv.SAMPLING_KEPT, decision.kept)
            else:
                mark += raw.number_attribute(semconv.SAMPLING_ADJUSTED_COUNT, decision.count)
            if len(self._marks) >= _MARKS:  # an upstream sampler may set any weight
                self._marks.clear()
            self._marks[key] = mark
        return mark


def _portions(outcomes: list[Decided | Late]) -> Iterator[list[Decided | Late]]:
    """Consecutive outcomes of about so many traces as are decided together."""
    some: list[Decided | Late] = []
    traces = 0
    for outcome in outcomes:
        some.append(outcome)
        traces += len(outcome.trace_ids) if isinstance(outcome, Decided) else len(outcome.spans)
        if traces >= TOGETHER:
            yield some
            some, traces = [], 0
    if some:
        yield some


def _requests(
    outcomes: list[Decided | Late], spans: dict[bytes, list[raw.RawSpans]]
) -> Iterator[list[Decided | Late]]:
    """Consecutive outcomes that make up one request of a reasonable size each; a large decision is cut."""
    group: list[Decided | Late] = []
    size = 0
    for outcome in outcomes:
        if isinstance(outcome, Decided) and outcome.places:
            begin = 0
            for end, trace_id in enumerate(outcome.trace_ids, 1):
                size += sum(sum(map(len, part.spans)) for part in spans.get(trace_id, ()))
                if size >= _REQUEST_BYTES or end == len(outcome.trace_ids):
                    group.append(outcome.part(begin, end))
                    begin = end
                if size >= _REQUEST_BYTES:
                    yield group
                    group, size = [], 0
            continue
        group.append(outcome)
        if isinstance(outcome, Late):
            size += sum(len(part.span) for part, _ in outcome.spans)
        if size >= _REQUEST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
