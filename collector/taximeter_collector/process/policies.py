"""The policies of tail sampling: which traces are worth keeping, and why.

A trace is judged from facts gathered as its spans come, so that no span need be held: a policy sees
each span once, together with all of its request (``see``), and answers at the end (``decide``), for all
traces that are due at once. Answers combine as officially: an inverted "no" wins over a "yes", a "yes" over
an inverted "yes", and nothing is a "no".

Two policies are Taximeter's own: ``expensive`` (the money of the trace's model calls) and
``n_plus_one`` (one statement sent many times).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from taximeter import semconv
from taximeter_collector.process.columns import Columns
from taximeter_collector.process.fnv import fnv1a, hashes

_STATUS = {"UNSET": 0, "OK": 1, "ERROR": 2}
_MAX_STATEMENTS = 256  # different statements counted per trace
_FEW_TEXTS = 8  # so many searches still cost less than decoding a span


class Answer(IntEnum):
    """What one policy says of one trace."""

    NO = 0
    YES = 1
    INVERTED_NO = 2
    INVERTED_YES = 3


NO, YES = Answer.NO, Answer.YES


@dataclass(slots=True)
class Facts:
    """What is known of one trace. ``marks`` has one bit for each part of a policy that a span has met."""

    first_ns: int  # when its first span was received
    places: list[int]  # where its spans are in the log (:func:`place`)
    spans: int = 0
    start: int = 0  # ns, the earliest
    end: int = 0  # ns, the latest
    marks: int = 0
    money: float = 0.0
    statements: dict[int, int] | None = None
    weight: float = 1.0  # how many traces this one stands for, by an upstream sampler's word

    def add(self, starts: list[int], ends: list[int]) -> None:
        """Count spans with these times in, and stretch the time to theirs."""
        self.spans += len(starts)
        earliest, latest = min(starts), max(ends)
        if not earliest:
            self.start = stretched(self.start, 0, starts, ends)[0]
        elif earliest < self.start or not self.start:
            self.start = earliest
        self.end = max(self.end, latest)


def stretched(start: int, end: int, starts: list[int], ends: list[int]) -> tuple[int, int]:
    """The time from ``start`` to ``end`` (0: none yet), stretched to these spans'."""
    earliest, latest = min(starts), max(ends)
    if earliest:
        start = min(start, earliest) if start else earliest
    else:  # a span without a start; as officially, whatever comes next replaces it
        for begun in starts:
            if not start or begun < start:
                start = begun
    return start, max(end, latest)


def place(seq: int, begin: int, end: int) -> int:
    """Spans ``begin`` to ``end`` of a row of the log, in one number: there is one for each open trace."""
    return seq << 64 | begin << 32 | end


def placed(place: int) -> tuple[int, int, int]:
    """The same, apart."""
    return place >> 64, place >> 32 & 0xFFFFFFFF, place & 0xFFFFFFFF


class Seen(NamedTuple):
    """A request, and of each of its spans the facts of its trace; None where that is decided."""

    columns: Columns
    facts: list[Facts | None]


class Policy:
    """``name`` is what a kept trace gives as its reason; ``rate`` its chance, where it is left to chance."""

    rate = 1.0

    def __init__(self, name: str) -> None:
        self.name = name

    def see(self, seen: Seen) -> None:
        """Take note of spans. Asked only if overridden."""

    def stretch(self, facts: Facts, starts: list[int], ends: list[int]) -> None:
        """Take note of the times of spans of one trace; ``facts`` has those of what came before. Likewise."""

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        """The answer for each of these traces, in their order."""
        raise NotImplementedError


class Always(Policy):
    """Every trace."""

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        return [YES] * len(facts)


class Latency(Policy):
    """From the first start to the last end, more than so many ms, whole ones, as officially."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(name)
        self._low = values["threshold_ms"]

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        low = self._low
        return [YES if (trace.end - trace.start) // 1_000_000 > low else NO for trace in facts]


class _Marking(Policy):
    """One that marks a trace for which it has seen what it looks for."""

    def __init__(self, name: str, bit: int, *, invert: bool = False) -> None:
        super().__init__(name)
        self._bit = bit
        self._met, self._missed = (Answer.INVERTED_NO, Answer.INVERTED_YES) if invert else (YES, NO)

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        bit, met, missed = self._bit, self._met, self._missed
        return [met if trace.marks & bit else missed for trace in facts]


class LatencyBetween(_Marking):
    """The same, in (low, high]; asked after every span, as officially: the order of arrival matters."""

    def __init__(self, name: str, values: Mapping[str, Any], bit: int) -> None:
        super().__init__(name, bit)
        self._low, self._high = values["threshold_ms"], values["upper_threshold_ms"]

    def stretch(self, facts: Facts, starts: list[int], ends: list[int]) -> None:
        start, end = facts.start, facts.end
        for begun, ended in zip(starts, ends, strict=True):
            start, end = stretched(start, end, [begun], [ended])
            if self._low < (end - start) // 1_000_000 <= self._high:
                facts.marks |= self._bit
                return


class StatusCode(_Marking):
    """Some span has one of these statuses."""

    def __init__(self, name: str, values: Mapping[str, Any], bit: int) -> None:
        super().__init__(name, bit)
        self._codes = {_STATUS[code] for code in values["status_codes"]}

    def see(self, seen: Seen) -> None:
        coded = seen.columns.coded
        met = [index for index, code in coded if code in self._codes]
        if 0 in self._codes:  # those without any
            met += {*range(len(seen.columns))}.difference(index for index, _ in coded)
        for index in met:
            facts = seen.facts[index]
            if facts is not None:
                facts.marks |= self._bit


class Attribute(_Marking):
    """Some span, or its resource, has an attribute whose value passes a test.

    ``texts``: the only values that pass, where so few do: a span without any of them is not decoded.
    Most spans have neither key nor text, and a search for bytes is cheaper than decoding.
    """

    def __init__(
        self,
        name: str,
        key: str,
        test: Callable[[Any], bool],
        bit: int,
        *,
        invert: bool,
        texts: Iterable[str] = (),
    ) -> None:
        super().__init__(name, bit, invert=invert)
        self._key, self._test = key, test
        self._about = key.encode()
        self._texts = [text.encode() for text in texts]
        self._needle = self._texts[0] if len(self._texts) == 1 else self._about  # a value is the rarer
        self._resource: tuple[bytes, bool] = (b"", False)  # the last one, and whether it passed

    def see(self, seen: Seen) -> None:
        met = [self._of_resource(scope.resource.resource) for scope in seen.columns.scopes]
        for scope, of_resource in zip(seen.columns.scopes, met, strict=True):
            for facts in seen.facts[scope.begin : scope.end] if of_resource else ():
                if facts is not None:
                    facts.marks |= self._bit
        if all(met):
            return
        for index in seen.columns.holding(self._needle):
            facts = seen.facts[index]
            if facts is not None and not facts.marks & self._bit and self._has(seen.columns.spans[index]):
                facts.marks |= self._bit

    def _of_resource(self, resource: bytes) -> bool:
        if resource != self._resource[0]:
            found = self._about in resource and self._passes(Resource.FromString(resource).attributes)
            self._resource = (resource, found)
        return self._resource[1]

    def _has(self, span: bytes) -> bool:
        return (
            self._about in span
            and (not self._texts or any(text in span for text in self._texts))
            and self._passes(Span.FromString(span).attributes)
        )

    def _passes(self, pairs: Iterable[Any]) -> bool:
        return any(pair.key == self._key and self._test(pair.value) for pair in pairs)


class Probabilistic(Policy):
    """By a hash of the trace id, the same in every collector with this salt."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.rate = min(1.0, values["sampling_percentage"] / 100)
        self._threshold = int(Fraction(self.rate) * ((1 << 64) - 1))  # a double would lose the last bits
        self._seed = fnv1a(0xCBF29CE484222325, (values["hash_salt"] or "default-hash-seed").encode())

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        threshold = self._threshold
        return [YES if found <= threshold else NO for found in hashes(self._seed, trace_ids)]


class RateLimiting(Policy):
    """A bucket of spans that fills at a rate and holds two seconds of it."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(name)
        self._per_s = values["spans_per_second"]
        self.tokens = 2.0 * self._per_s
        self.filled_ns = 0

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        if self.filled_ns:
            earned = max(0, now_ns - self.filled_ns) / 1e9 * self._per_s
            self.tokens = min(2.0 * self._per_s, self.tokens + earned)
        self.filled_ns = max(now_ns, self.filled_ns)
        return [self._take(trace.spans) for trace in facts]

    def _take(self, spans: int) -> Answer:
        if spans > self.tokens:
            return NO
        self.tokens -= spans
        return YES


class And(Policy):
    """Every one of its policies says yes; one that comes after a no is not asked."""

    def __init__(self, name: str, parts: list[Policy]) -> None:
        super().__init__(name)
        self._parts = parts
        for part in parts:
            self.rate *= part.rate

    def see(self, seen: Seen) -> None:
        for part in self._parts:
            part.see(seen)

    def stretch(self, facts: Facts, starts: list[int], ends: list[int]) -> None:
        for part in self._parts:
            part.stretch(facts, starts, ends)

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        left = list(range(len(facts)))
        for part in self._parts:
            if left:
                said = part.decide([trace_ids[n] for n in left], [facts[n] for n in left], now_ns)
                left = [n for n, one in zip(left, said, strict=True) if one in (YES, Answer.INVERTED_YES)]
        answers = [NO] * len(facts)
        for n in left:
            answers[n] = YES
        return answers


class Expensive(Policy):
    """The trace's model calls cost at least so much."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(name)
        self._least = values["min_usd"]

    def see(self, seen: Seen) -> None:
        for index in seen.columns.holding(b".cost.amount"):
            facts = seen.facts[index]
            if facts is None:
                continue
            for pair in Span.FromString(seen.columns.spans[index]).attributes:
                if pair.key in (semconv.GEN_AI_USAGE_COST_AMOUNT, semconv.COLLECTOR_COST_AMOUNT):
                    facts.money += pair.value.double_value or float(pair.value.int_value)

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        return [YES if trace.money >= self._least else NO for trace in facts]


class NPlusOne(Policy):
    """One statement was sent at least so many times."""

    _KEYS = (semconv.DB_QUERY_TEXT, "db.statement", semconv.DB_QUERY_SUMMARY)

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(name)
        self._least = values["min_calls"]
        self._needles = [key.encode() for key in self._KEYS]

    def see(self, seen: Seen) -> None:
        for facts, span in zip(seen.facts, seen.columns.spans, strict=True):
            if facts is not None and any(needle in span for needle in self._needles):
                self._count(facts, span)

    def _count(self, facts: Facts, span: bytes) -> None:
        found = {p.key: p.value.string_value for p in Span.FromString(span).attributes}
        statement = next((found[key] for key in self._KEYS if found.get(key)), None)
        if statement is None:
            return
        counts = facts.statements = {} if facts.statements is None else facts.statements
        key = hash(statement)
        if key in counts or len(counts) < _MAX_STATEMENTS:
            counts[key] = counts.get(key, 0) + 1

    def decide(self, trace_ids: list[bytes], facts: list[Facts], now_ns: int) -> list[Answer]:
        return [YES if self._most(trace) >= self._least else NO for trace in facts]

    def _most(self, facts: Facts) -> int:
        return max((facts.statements or {}).values(), default=0)


def build(configured: list[dict[str, Any]]) -> list[Policy]:
    """The policies of a checked configuration (see ``config/sampling.py``), in its order."""
    bits = iter(range(1 << 12))
    return [_build(values, lambda: 1 << next(bits)) for values in configured]


def _build(values: dict[str, Any], bit: Callable[[], int]) -> Policy:
    kind, name = values["type"], values["name"]
    own: dict[str, Any] = values[kind]
    if kind == "and":
        return And(name, [_build(part, bit) for part in own["and_sub_policy"]])
    if kind in ("string_attribute", "numeric_attribute"):
        test = _text_test(own) if kind == "string_attribute" else _number_test(own)
        plain = kind == "string_attribute" and not own["enabled_regex_matching"]
        texts = own["values"] if plain and len(own["values"]) <= _FEW_TEXTS else ()
        return Attribute(name, own["key"], test, bit(), invert=own["invert_match"], texts=texts)
    makers: dict[str, Callable[[], Policy]] = {
        "always_sample": lambda: Always(name),
        "latency": lambda: (
            LatencyBetween(name, own, bit()) if own["upper_threshold_ms"] else Latency(name, own)
        ),
        "status_code": lambda: StatusCode(name, own, bit()),
        "probabilistic": lambda: Probabilistic(name, own),
        "rate_limiting": lambda: RateLimiting(name, own),
        "expensive": lambda: Expensive(name, own),
        "n_plus_one": lambda: NPlusOne(name, own),
    }
    return makers[kind]()


def _number_test(own: Mapping[str, Any]) -> Callable[[Any], bool]:
    low, high = own["min_value"], own["max_value"]

    def test(value: Any) -> bool:
        if value.WhichOneof("value") != "int_value":
            return False
        return (low is None or low <= value.int_value) and (high is None or value.int_value <= high)

    return test


def _text_test(own: Mapping[str, Any]) -> Callable[[Any], bool]:
    if own["enabled_regex_matching"]:
        patterns = [re.compile(value) for value in own["values"]]
        return lambda v: v.HasField("string_value") and any(p.search(v.string_value) for p in patterns)
    values = frozenset(own["values"])
    return lambda v: v.HasField("string_value") and v.string_value in values
