"""Calls made one after the other of which none needs another's answer: they could run at once.

Two calls are taken for independent only where nothing speaks against it in any trace of the route:

* no value that the earlier one returned, and that was not known before it, is a parameter of the later;
* a later parameter of unknown origin is no function of what the earlier one returned (the same
  answer has been followed by different parameters);
* neither writes or locks, and nothing that does lies between them, nor a model call or a call to another
  service (what those answer is not known); a database call never passes an embedding; neither is in an
  explicit transaction, whose snapshot it would leave;
* no trace shows them under way at once: those are started together already, and where one came after the
  other all the same, it was not for the code;
* the earlier one is no *guard*: a statement with which several routes begin (who asks, and may they?), one
  that returns nothing but what it was given, or one after which the later sometimes does not come.

One counter-example drops the pair. Each trace is timed again by itself; means are never subtracted.
Needs ``TAXIMETER_EVIDENCE_VALUES``: without single values nothing is advised.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, quantiles, shares
from taximeter_analysis.render.units import percent, seconds

_MIN_REQUESTS = 5
_MIN_SHARE = 0.05  # of the route's time
_MIN_S = 0.001  # a request
_LOOP = 3
_ENDING = ("COMMIT", "ROLLBACK", "END", "ABORT")
Pair = tuple[str, str]


def find(material: Material) -> Iterator[Finding]:
    """One finding per route whose calls could overlap."""
    if not any(call.given is not None for _, call in material.calls("db")):
        return  # single values are not recorded
    cap = max(len(call.returned or ()) for _, call in material.calls("db"))
    guards = _openings(material)
    for (service, label), requests in material.by_route.items():
        if len(requests) >= _MIN_REQUESTS:
            found = _route(material, service, label, requests, guards=guards, cap=cap)
            if found:
                yield found


def _openings(material: Material) -> set[str]:
    """Statements with which requests of several routes begin."""
    routes: dict[str, set[str]] = defaultdict(set)
    for request in material.requests:
        first = next(iter(request.calls), None)
        if first and first.family == "db":
            routes[name(first)].add(request.label)
    return {statement for statement, labels in routes.items() if len(labels) > 1}


def name(call: Call) -> str:
    """What a call is, for comparing it over requests."""
    return call.statement or f"embedding {call.model}"


def segments(request: Request, guards: set[str]) -> list[list[Call]]:
    """Runs of calls between which nothing forbids to change the order."""
    found: list[list[Call]] = [[]]
    inside = False  # of an explicit transaction
    for call in request.calls:
        if call.family == "control":
            word = (call.statement or call.operation or "").lstrip().upper()
            inside = word.startswith(("BEGIN", "START")) or (inside and not word.startswith(_ENDING))
        free = not inside and not call.failed and (call.reads or call.family == "embedding")
        if not free or name(call) in guards:
            found.append([])
        else:
            found[-1].append(call)
    # A loop over rows is another matter (N+1): asking all at once is no remedy for it.
    once = [[c for c in each if sum(name(c) == name(d) for d in each) < _LOOP] for each in found]
    return [segment for segment in once if len(segment) > 1]


@dataclass
class _Evidence:
    """What all traces say of a pair (earlier, later)."""

    fed: int = 0
    values: list[frozenset[str]] = field(default_factory=list)  # that fed it
    by_answer: dict[frozenset[str], set[frozenset[str]]] = field(default_factory=lambda: defaultdict(set))
    unexplained: bool = False
    check: int = 0  # the earlier one returned only what it was given
    cut: bool = False  # more was returned than recorded, and a parameter's origin is unknown
    together: bool = False  # they have been under way at once
    ended: bool = False  # the earlier one came, and the later did not: its answer may have decided that


def _route(
    material: Material,
    service: str | None,
    label: str,
    requests: list[Request],
    *,
    guards: set[str],
    cap: int,
) -> Finding | None:
    pairs = _pairs(requests, guards, cap)
    bound = {pair for pair, seen in pairs.items() if not _independent(pair, seen)}
    begun = {pair for pair, seen in pairs.items() if seen.together}
    saved = Estimate(0, 0, 0)
    whole = 0.0
    tenants: dict[str | None, float] = defaultdict(float)
    together: dict[tuple[str, ...], int] = defaultdict(int)
    times: list[tuple[float, float]] = []  # before, and as predicted
    examples: list[tuple[float, Request]] = []
    codes = ""
    for request in requests:
        whole += request.duration_ns / 1e9
        gain = 0.0
        for segment in segments(request, guards):
            one, group = _retime(segment, bound, begun)
            if one.value <= 0:
                continue
            saved, gain = saved + one, gain + one.value
            together[group] += 1
            codes = codes or material.place(segment[0])
        times.append((request.duration_ns / 1e9, request.duration_ns / 1e9 - gain))
        if gain:
            tenants[request.tenant] += gain
            examples.append((gain, request))
    if len(examples) < _MIN_REQUESTS or saved.value < max(_MIN_SHARE * whole, _MIN_S * len(examples)):
        return None
    examples.sort(key=lambda each: -each[0])
    statements = max(together, key=lambda group: together[group])
    return Finding(
        kind="parallel",
        service=service,
        route=label,
        title=f"{len(statements)} calls wait for each other without need",
        what=f"in {len(examples)} of {len(requests)} requests; {seconds(saved.value / len(examples))} a "
        f"request, "
        f"{percent(saved.value / whole)} of the route's time",
        remedy="Start them together (`asyncio.gather`, or threads), each on a connection of its own; "
        "mind that the pool must have that many more.",
        assumption="no value that one returns reaches another by a way that traces do not show, and the "
        "database "
        "serves them at once as fast as in turn; each trace timed again by itself",
        requests=len(examples),
        savings={"duration_s": saved},
        quantiles=quantiles(times),
        traces=tuple(request.trace for _, request in examples[:3]),
        statements=statements,
        code=codes,
        tenants=shares(tenants),
    )


def free_pairs(material: Material) -> dict[tuple[str | None, str], set[Pair]]:
    """By route, the pairs of calls (earlier, later) that nothing in any trace speaks against."""
    cap = max((len(call.returned or ()) for _, call in material.calls("db")), default=0)
    guards = _openings(material)
    return {
        route: {pair for pair, seen in _pairs(requests, guards, cap).items() if _independent(pair, seen)}
        for route, requests in material.by_route.items()
    }


def _pairs(requests: list[Request], guards: set[str], cap: int) -> dict[Pair, _Evidence]:
    """Each pair that occurs, with what all traces say of it."""
    pairs: dict[Pair, _Evidence] = defaultdict(_Evidence)
    for request in requests:
        for segment in segments(request, guards):
            _observe(request, segment, pairs, cap)
    for request in requests:
        asked = [name(call) for call in request.calls]
        for (earlier, later), seen in pairs.items():
            seen.ended |= not request.failed and earlier in asked and later not in asked
    return dict(pairs)


def _observe(request: Request, segment: list[Call], pairs: dict[Pair, _Evidence], cap: int) -> None:
    known: set[str] = set()
    for call in request.calls:
        if call.start_ns >= segment[0].start_ns:
            break
        known |= set(call.given or ()) | set(call.returned or ())
    for at, earlier in enumerate(segment):
        given, returned = set(_given(earlier)), frozenset(earlier.returned or ())
        before = known | given
        for later in segment[at + 1 :]:
            seen = pairs[name(earlier), name(later)]
            seen.together |= later.start_ns < earlier.end_ns
            new = frozenset(_given(later)) - before
            if fed := new & returned:
                seen.fed += 1
                seen.values.append(fed)
            seen.by_answer[returned].add(new - returned)
            seen.unexplained |= bool(new - returned)
            seen.cut |= bool(new) and len(returned) >= cap > 0 and (earlier.rows or 0) > 1
            seen.check += bool(returned) and returned <= given
        known = before | returned


def _given(call: Call) -> tuple[str, ...]:
    return call.exact + call.normalised if call.family == "embedding" else call.given or ()


def _independent(pair: Pair, seen: _Evidence) -> bool:
    """Whether nothing in any trace speaks against running the two at once."""
    if pair[0].startswith("embedding ") or seen.cut or seen.check or seen.ended or seen.fed:
        return False
    if not seen.unexplained or len(seen.by_answer) <= 1:
        return True
    # Parameters of unknown origin: a function of the answer would give the same for the same answer.
    return any(len(followed) > 1 for followed in seen.by_answer.values())


def _retime(segment: list[Call], bound: set[Pair], begun: set[Pair]) -> tuple[Estimate, tuple[str, ...]]:
    """What the segment saves when each call starts as soon as those that it needs have ended.

    What the service does itself before a call (prepare it, take a connection) it still does, one call at a
    time, as an event loop does: while one call is on its way, the next is prepared.
    """

    def waits(earlier: Call, later: Call) -> bool:
        pair = name(earlier), name(later)
        return pair in bound or (pair in begun and later.start_ns >= earlier.end_ns)

    needs = [
        [i for i, earlier in enumerate(segment[:at]) if waits(earlier, call)]
        for at, call in enumerate(segment)
    ]
    free: list[str] = []
    own: list[int] = []  # what the service does before each call, since the last one began or ended
    for at, call in enumerate(segment):
        before = (edge for other in segment[:at] for edge in (other.start_ns, other.end_ns))
        own.append(call.start_ns - max((e for e in before if e <= call.start_ns), default=call.start_ns))
        if at and len(needs[at]) < at:
            free += [name(call), next(name(segment[i]) for i in range(at) if i not in needs[at])]
    ends: dict[int, int] = {}
    loop = 0
    while len(ends) < len(segment):
        ready = {
            at: max((ends[i] for i in needs[at]), default=0)
            for at in range(len(segment))
            if at not in ends and all(i in ends for i in needs[at])
        }
        at = min(ready, key=lambda each: (ready[each], each))
        loop = max(loop, ready[at]) + own[at]
        ends[at] = loop + segment[at].duration_ns
    saved = max(0, max(call.end_ns for call in segment) - segment[0].start_ns - max(ends.values())) / 1e9
    names = tuple(dict.fromkeys(name(call) for call in segment if name(call) in free))
    return Estimate(saved, saved * 0.6, saved * 1.1 + sum(own) * 0.3e-9), names
