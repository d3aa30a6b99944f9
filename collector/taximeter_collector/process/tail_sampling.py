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
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from taximeter_collector.log import Row
from taximeter_collector.process import raw
from taximeter_collector.process.policies import Always, Answer, Facts, Policy, Seen, place, placed
from taximeter_collector.process.policies import build as policies
from taximeter_collector.process.raw import RawSpan


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a trace. ``at_seq``: the last row that was seen when it was decided."""

    kept: bool
    reason: str  # the policy's name, or "no policy"
    at_seq: int
    count: float = 1.0  # how many traces a kept one stands for


class Decided(NamedTuple):
    """A decision just made, and where the trace's spans are."""

    trace_id: bytes
    decision: Decision
    places: list[int]  # (:func:`~taximeter_collector.process.policies.place`)


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
        self._remembered = remembered  # kept, dropped
        self._open: OrderedDict[bytes, Facts] = OrderedDict()  # by age: the first is due first
        self._rooted: OrderedDict[bytes, int] = OrderedDict()  # when the root came; filled if that matters
        self._decisions: tuple[OrderedDict[bytes, Decision], OrderedDict[bytes, Decision]] = (
            OrderedDict(),
            OrderedDict(),
        )
        self.seen = 0  # the last row taken
        self.forgotten: list[bytes] = []  # decisions dropped from memory since the last look

    @property
    def open_traces(self) -> int:
        return len(self._open)

    @property
    def settled(self) -> int:
        """Every row up to it holds decided traces only: where a restart has to begin."""
        for facts in self._open.values():  # the first is the oldest
            return placed(facts.places[0])[0] - 1
        return self.seen

    def restore(self, trace_id: bytes, decision: Decision) -> None:
        """Remember a decision of an earlier run."""
        self._decisions[not decision.kept][trace_id] = decision

    def take(self, row: Row) -> Iterator[Decided | Late]:
        """Note one row's spans; first decide what was due when it came."""
        yield from self.due(row.received_ns)
        self.seen = row.seq
        late: list[tuple[RawSpan, Decision]] = []
        with contextlib.suppress(DecodeError):  # the intake checked it: not one of ours
            late = self._note(row)
        if late:
            yield Late(row.seq, late)
        while len(self._open) > self._max_traces:
            yield self._decide(next(iter(self._open)), row.received_ns)

    def due(self, now_ns: int) -> Iterator[Decided]:
        """Decide the traces whose time is up."""
        while self._rooted:
            trace_id, rooted_ns = next(iter(self._rooted.items()))
            if rooted_ns + self._root_ns > now_ns:
                break
            yield self._decide(trace_id, now_ns)
        while self._open:
            trace_id, facts = next(iter(self._open.items()))
            if facts.first_ns + self._wait_ns > now_ns:
                break
            yield self._decide(trace_id, now_ns)

    def next_due_ns(self) -> int | None:
        """When the next trace's time is up; None when none is open."""
        if not self._open:
            return None
        due = next(iter(self._open.values())).first_ns + self._wait_ns
        for rooted_ns in self._rooted.values():
            return min(due, rooted_ns + self._root_ns)
        return due

    def _known(self, trace_id: bytes) -> Decision | None:
        return self._decisions[0].get(trace_id) or self._decisions[1].get(trace_id)

    def _note(self, row: Row) -> list[tuple[RawSpan, Decision]]:
        """Note a row's spans; returns those that come after their trace was decided."""
        late: list[tuple[RawSpan, Decision]] = []
        before = 0  # spans of the row's earlier scopes
        for resource, scope, spans, heads in raw.heads(row.payload):
            ids = raw.trace_ids(spans)
            starts, ends = [head.start for head in heads], [head.end for head in heads]
            owners: list[Facts | None] = []
            begin, count = 0, len(ids)
            while begin < count:  # by runs: most neighbours belong to one trace
                trace_id, end = ids[begin], begin + 1
                while end < count and ids[end] == trace_id:
                    end += 1
                facts = self._facts(trace_id, row, heads[begin])
                if facts is None:
                    late += self._late(trace_id, row, resource, scope, spans[begin:end])
                else:
                    facts.places.append(place(row.seq, before + begin, before + end))
                    for stretch in self._stretches:
                        stretch(facts, starts[begin:end], ends[begin:end])
                    facts.add(starts[begin:end], ends[begin:end])
                    if self._root_ns and not all(head.parent_span_id for head in heads[begin:end]):
                        self._rooted.setdefault(trace_id, row.received_ns)
                owners += [facts] * (end - begin)
                begin = end
            for see in self._sees:
                see(Seen(resource, spans, heads, owners))
            before += count
        return late

    def _late(
        self, trace_id: bytes, row: Row, resource: Any, scope: Any, run: list[bytes]
    ) -> list[tuple[RawSpan, Decision]]:
        decision = self._known(trace_id)
        if decision and (decision.kept or self.dry_run) and row.seq > decision.at_seq:
            return [(RawSpan(resource, scope, span), decision) for span in run]
        return []

    def _facts(self, trace_id: bytes, row: Row, head: Any) -> Facts | None:
        """The open trace, begun now if need be; None when it was decided before."""
        facts = self._open.get(trace_id)
        if facts is None and self._known(trace_id) is None:
            facts = self._open[trace_id] = Facts(row.received_ns, weight=adjusted_count(head.trace_state))
        return facts

    def _decide(self, trace_id: bytes, now_ns: int) -> Decided:
        facts = self._open.pop(trace_id)
        self._rooted.pop(trace_id, None)
        kept, reason, chance = verdict(self.policies, trace_id, facts, now_ns)
        decision = Decision(kept, reason, self.seen, facts.weight / chance if kept else 0.0)
        memory = self._decisions[not kept]
        memory[trace_id] = decision
        while len(memory) > self._remembered[not kept]:
            oldest, old = memory.popitem(last=False)
            if old.at_seq > self.settled:  # a restart would decide it again: keep it a little longer
                memory[oldest] = old
                memory.move_to_end(oldest, last=False)
                break
            self.forgotten.append(oldest)
        return Decided(trace_id, decision, facts.places)


_PRECEDENCE = ((Answer.INVERTED_NO, False), (Answer.YES, True), (Answer.INVERTED_YES, True))


def verdict(
    policies: Iterable[Policy], trace_id: bytes, facts: Facts, now_ns: int
) -> tuple[bool, str, float]:
    """(kept, the policy that decided, the chance a trace like this had). All policies are asked."""
    best: dict[Answer, Policy] = {}
    for policy in policies:
        answer = policy.decide(trace_id, facts, now_ns)
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
