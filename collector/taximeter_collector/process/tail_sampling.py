"""Tail sampling: whole traces are kept or dropped, each for a reason, decided from facts alone.

Undecided traces are in the durable log, so here a trace is only what its policies need to know and
where in the log its spans are: some hundred bytes. When a trace is kept, its spans are
read from the log once more.

Time is the moment a row was received, never the moment it was read: before each row, whatever
was due by then is decided. So a restart, which reads the same rows again, decides the same.

A trace is decided when the wait since its first span is over; earlier, if so configured, when its
root came; and at once, the oldest first, when there are more open traces than allowed. Spans that
come later follow the decision while it is remembered.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from taximeter_collector.log import Row
from taximeter_collector.process.columns import Columns, Scope
from taximeter_collector.process.policies import Always, Answer, Facts, Policy, Seen, place, placed
from taximeter_collector.process.policies import build as policies
from taximeter_collector.process.raw import RawSpan

TOGETHER = 500  # so many traces at most are decided, passed on, and forgotten, at once


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a trace. ``at_seq``: the last row that was seen when it was decided."""

    kept: bool
    reason: str  # the policy's name, or "no policy"
    at_seq: int
    count: float = 1.0  # how many traces a kept one stands for


class Decided(NamedTuple):
    """A decision just made for some traces, and where the spans of each are, unless they are dropped.

    ``number`` is that of the decision, ``first`` that of the first trace among all it was made for: who
    writes it down may cut it (:meth:`part`).
    """

    number: int
    decision: Decision
    trace_ids: list[bytes]
    places: list[list[int]]  # (:func:`~taximeter_collector.process.policies.place`)
    first: int = 0

    def part(self, begin: int, end: int) -> Decided:
        """The same for some of the traces."""
        ids, places = self.trace_ids[begin:end], self.places[begin:end]
        return Decided(self.number, self.decision, ids, places, self.first + begin)


class Late(NamedTuple):
    """Spans of one row whose traces were decided before, and kept."""

    seq: int
    spans: list[tuple[RawSpan, Decision]]


class Sampler:
    """One pipeline's open traces and remembered decisions. Single-threaded."""

    def __init__(
        self,
        policies: list[Policy],
        *,
        wait_s: float,
        wait_after_root_s: float,
        max_traces: int,
        remembered: tuple[int, int],
        dry_run: bool = False,
    ) -> None:
        self.dry_run = dry_run  # everything is passed on, and late spans too
        self.policies = policies
        self._sees = [policy.see for policy in policies if type(policy).see is not Policy.see]
        self._stretches = [p.stretch for p in policies if type(p).stretch is not Policy.stretch]
        self._wait_ns = int(wait_s * 1e9)
        self._root_ns = int(wait_after_root_s * 1e9)
        self._max_traces = max_traces
        self._open: OrderedDict[bytes, Facts] = OrderedDict()  # by age: the first is due first
        self._rooted: OrderedDict[bytes, int] = OrderedDict()  # when the root came; filled if that matters
        self._decided: dict[bytes, Decision] = {}
        self._memories = _Memory(remembered[0]), _Memory(remembered[1])  # of kept and of dropped traces
        self._number = 0  # the last decision's
        self._verdicts: dict[tuple[Answer, ...], tuple[bool, str, float]] = {}
        self.seen = 0  # the last row taken
        self.forgotten: list[int] = []  # decisions dropped from memory since the last look, by number

    @property
    def open_traces(self) -> int:
        return len(self._open)

    @property
    def settled(self) -> int:
        """Every row up to it holds decided traces only: where a restart has to begin."""
        for facts in self._open.values():  # the first is the oldest
            return placed(facts.places[0])[0] - 1
        return self.seen

    def restore(self, number: int, decision: Decision, trace_ids: list[bytes]) -> None:
        """Remember a decision of an earlier run."""
        self._number = max(self._number, number)
        self._remember(number, decision, trace_ids)

    def take(self, row: Row) -> Iterator[Decided | Late]:
        """Note one row's spans; first decide what was due when it came."""
        yield from self.due(row.received_ns)
        self.seen = row.seq
        late: list[tuple[RawSpan, Decision]] = []
        with contextlib.suppress(DecodeError):  # the intake checked it: not one of ours
            late = self._note(row)
        if late:
            yield Late(row.seq, late)
        if len(self._open) > self._max_traces:
            yield from self._decide(
                list(islice(self._open, len(self._open) - self._max_traces)), row.received_ns
            )

    def due(self, now_ns: int) -> Iterator[Decided]:
        """Decide the traces whose time is up."""
        due: list[bytes] = []
        for trace_id, rooted_ns in self._rooted.items():
            if rooted_ns + self._root_ns > now_ns:
                break
            due.append(trace_id)
        if due:
            yield from self._decide(due, now_ns)
            due = []
        for trace_id, facts in self._open.items():
            if facts.first_ns + self._wait_ns > now_ns:
                break
            due.append(trace_id)
        if due:
            yield from self._decide(due, now_ns)

    def next_due_ns(self) -> int | None:
        """When the next trace's time is up; None when none is open."""
        if not self._open:
            return None
        due = next(iter(self._open.values())).first_ns + self._wait_ns
        for rooted_ns in self._rooted.values():
            return min(due, rooted_ns + self._root_ns)
        return due

    def _note(self, row: Row) -> list[tuple[RawSpan, Decision]]:
        """Note a row's spans; returns those that come after their trace was decided."""
        columns = Columns(row.payload, careful=bool(self._root_ns))
        trace_ids, starts, ends, heads = columns.trace_ids, columns.starts, columns.ends, columns.heads
        late: list[tuple[RawSpan, Decision]] = []
        owners: list[Facts | None] = []
        for begin, end in pairwise(columns.runs()):  # most neighbours belong to one trace
            trace_id, at = trace_ids[begin], place(row.seq, begin, end)
            facts = self._open.get(trace_id)
            if facts is not None:
                facts.places.append(at)
            elif decision := self._decided.get(trace_id):
                if (decision.kept or self.dry_run) and row.seq > decision.at_seq:
                    late += _late(columns, begin, end, decision)
                owners += [None] * (end - begin)
                continue
            else:
                facts = self._open[trace_id] = Facts(row.received_ns, [at])
                if heads:
                    facts.weight = adjusted_count(heads[begin].trace_state)
            for stretch in self._stretches:
                stretch(facts, starts[begin:end], ends[begin:end])
            facts.add(starts[begin:end], ends[begin:end])
            owners += [facts] * (end - begin)
            if self._root_ns and heads and not all(head.parent_span_id for head in heads[begin:end]):
                self._rooted.setdefault(trace_id, row.received_ns)
        if owners:
            seen = Seen(columns, owners)
            for see in self._sees:
                see(seen)
        return late

    def _decide(self, trace_ids: list[bytes], now_ns: int) -> Iterator[Decided]:
        """Decide these traces, some at a time; those of which the same is said, together."""
        for at in range(0, len(trace_ids), TOGETHER):
            yield from self._decide_some(trace_ids[at : at + TOGETHER], now_ns)

    def _decide_some(self, trace_ids: list[bytes], now_ns: int) -> Iterator[Decided]:
        found = [self._open.pop(trace_id) for trace_id in trace_ids]
        if self._rooted:
            for trace_id in trace_ids:
                self._rooted.pop(trace_id, None)
        answers = [policy.decide(trace_ids, found, now_ns) for policy in self.policies]
        alike: dict[tuple[float, tuple[Answer, ...]], list[int]] = {}
        for index, said in enumerate(zip(*answers, strict=True)):
            alike.setdefault((found[index].weight, said), []).append(index)
        for (weight, said), indexes in alike.items():
            if said not in self._verdicts:
                self._verdicts[said] = verdict(self.policies, said)
            kept, reason, chance = self._verdicts[said]
            decision = Decision(kept, reason, self.seen, weight / chance if kept else 0.0)
            ids = [trace_ids[index] for index in indexes]
            places = [found[index].places for index in indexes] if kept or self.dry_run else []
            self._number += 1
            self._remember(self._number, decision, ids)
            yield Decided(self._number, decision, ids, places)

    def _remember(self, number: int, decision: Decision, trace_ids: list[bytes]) -> None:
        self._decided.update(dict.fromkeys(trace_ids, decision))
        memory = self._memories[not decision.kept]
        memory.add(number, decision, trace_ids)
        while memory.oldest_is_too_much():
            if memory.oldest[1].at_seq > self.settled:  # a restart would decide it again: a little longer
                break
            oldest, _, forgotten = memory.forget()
            self.forgotten.append(oldest)
            for trace_id in forgotten:
                del self._decided[trace_id]


class _Memory:
    """Decisions in their order, as many as still are about a number of traces without the oldest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._held: deque[tuple[int, Decision, list[bytes]]] = deque()

    @property
    def oldest(self) -> tuple[int, Decision, list[bytes]]:
        return self._held[0]

    def add(self, number: int, decision: Decision, trace_ids: list[bytes]) -> None:
        self._held.append((number, decision, trace_ids))
        self._size += len(trace_ids)

    def oldest_is_too_much(self) -> bool:
        return self._size - len(self._held[0][2]) >= self._limit

    def forget(self) -> tuple[int, Decision, list[bytes]]:
        oldest = self._held.popleft()
        self._size -= len(oldest[2])
        return oldest


def _late(columns: Columns, begin: int, end: int, decision: Decision) -> Iterator[tuple[RawSpan, Decision]]:
    scope: Scope = next(scope for scope in columns.scopes if begin < scope.end)
    for span in columns.spans[begin:end]:
        yield RawSpan(scope.resource, scope.scope, span), decision


_PRECEDENCE = ((Answer.INVERTED_NO, False), (Answer.YES, True), (Answer.INVERTED_YES, True))


def verdict(policies: Iterable[Policy], answers: Iterable[Answer]) -> tuple[bool, str, float]:
    """(kept, the policy that decided, the chance a trace like this had)."""
    best: dict[Answer, Policy] = {}
    for policy, answer in zip(policies, answers, strict=True):
        # Kept for certain by one policy, by chance by another: it was certain.
        if answer is not Answer.NO and (answer not in best or policy.rate > best[answer].rate):
            best[answer] = policy
    for wanted, kept in _PRECEDENCE if best else ():
        if wanted in best:
            return kept, best[wanted].name, best[wanted].rate
    return False, "no policy", 1.0


def adjusted_count(trace_state: str) -> float:
    """What an upstream sampler says in W3C tracestate, ``ot=th:<rejection threshold, hex>``: 1 / its rate."""
    if "ot=" not in trace_state:
        return 1.0
    for member in trace_state.split(","):
        vendor, _, value = member.strip().partition("=")
        if vendor == "ot":
            for pair in value.split(";"):
                key, _, digits = pair.partition(":")
                if key == "th" and 0 < len(digits) <= 14:
                    try:
                        rejected = int(digits.ljust(14, "0"), 16) / (1 << 56)
                    except ValueError:
                        return 1.0
                    return 1.0 / (1.0 - rejected) if rejected < 1 else 1.0
    return 1.0


def build(values: dict[str, Any]) -> Sampler:
    """The sampler of a checked configuration."""
    cache = values["decision_cache"]
    return Sampler(
        policies(values["policies"]),
        wait_s=values["decision_wait"],
        wait_after_root_s=values["decision_wait_after_root_received"],
        max_traces=max(1, values["num_traces"]),
        remembered=(max(1, cache["sampled_cache_size"]), max(1, cache["non_sampled_cache_size"])),
        dry_run=values["dry_run"],
    )


def gather_all(values: dict[str, Any]) -> Sampler:
    """For ``request_account``: every trace is kept, once it is whole."""
    return Sampler(
        [Always("request_account")],
        wait_s=values["wait"],
        wait_after_root_s=values["wait_after_root"],
        max_traces=max(1, values["num_traces"]),
        remembered=(100_000, 1),
    )
