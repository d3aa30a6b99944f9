"""Reads that give every request the same answer: a row, or a whole response, that could be remembered.

A statement counts where its parameters come again and again, its answers (as far as recorded) did not change
in the window, and no statement wrote to its tables. Those too small for a finding of their own are one
together, since the same memory holds them. A route counts where all of that holds for every call of
its GET requests. Hits are replayed with a time to live, each instance with a memory of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from taximeter_analysis.advise.curves import replay
from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.advise.repeated import repeats, wall
from taximeter_analysis.render.units import count, percent, seconds

TTL_S = 60.0
_SIZE = 10_000
_MIN_HITS = 0.5
_MIN_AGAIN = 10  # answers that were seen again, and unchanged
_MIN_SHARE = 0.01  # of the service's database calls
_ALONE = 0.05  # of them: what saves so many is a finding of its own
_T = TypeVar("_T", Call, Request)
_TABLES = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:ONLY\s+)?([\w.\"]+)", re.IGNORECASE)


def tables(statement: str) -> set[str]:
    """Names after FROM, JOIN, INTO and UPDATE: good enough to see whether a statement is written to."""
    return {name.strip('"').lower() for name in _TABLES.findall(statement)}


def find(material: Material) -> Iterator[Finding]:
    """Whole routes, then statements that other routes send too."""
    for service in dict.fromkeys(request.service for request in material.requests):
        requests = [request for request in material.requests if request.service == service]
        written = {
            table
            for request in requests
            for call in request.of("db")
            if call.statement and call.writes
            for table in tables(call.statement)
        }
        steady = _steady(requests, written)
        loops = {id(call) for request in requests for call in repeats(request)}  # a finding of their own
        whole: set[str] = set()  # routes that can be remembered as a whole
        for label in dict.fromkeys(request.label for request in requests):
            route = [request for request in requests if request.label == label and not request.failed]
            if found := _route(material, service, label, route, set(steady)):
                whole.add(label)
                yield found
        calls_made = sum(len(request.of("db")) for request in requests)
        reads = []
        for statement, asked in steady.items():
            calls = [each for each in asked if id(each[1]) not in loops]
            if {request.label for request, _ in calls} <= whole or len(calls) < _MIN_SHARE * calls_made:
                continue
            if read := _read(statement, calls):
                reads.append(read)
        alone = [read for read in reads if read.saved.calls >= _ALONE * calls_made]
        rest = [read for read in reads if read.saved.calls < _ALONE * calls_made]
        for group in [*([read] for read in alone), *([rest] if rest else [])]:
            yield _remembered(material, service, group)


def _steady(requests: list[Request], written: set[str]) -> dict[str, list[tuple[Request, Call]]]:
    """Reads of tables that nobody wrote to, whose answers depended on nothing but their parameters."""
    found: dict[str, list[tuple[Request, Call]]] = defaultdict(list)
    answers: dict[tuple[str, str | None], tuple[int | None, tuple[str, ...] | None]] = {}
    changed: set[str] = set()
    for request in requests:
        for call in request.of("db"):
            if not call.statement or not call.reads or call.failed:
                continue
            found[call.statement].append((request, call))
            answer = (call.rows, call.returned)
            if answers.setdefault((call.statement, call.parameters), answer) != answer:
                changed.add(call.statement)
    return {
        statement: calls
        for statement, calls in found.items()
        if statement not in changed and not tables(statement) & written
    }


@dataclass(slots=True)
class _Saved:
    hits: int = 0
    seconds: float = 0.0
    calls: int = 0


@dataclass(slots=True)
class _Read:
    """A statement whose answers could be remembered."""

    statement: str
    calls: list[tuple[Request, Call]]
    saved: _Saved
    tenants: dict[str | None, float]


def _read(statement: str, calls: list[tuple[Request, Call]]) -> _Read | None:
    unknown = any(call.parameters is None for _, call in calls) and re.search(r"%s|\?|\$1", statement)
    if len(calls) < _MIN_AGAIN or unknown:
        return None
    saved, tenants = _replayed(
        calls,
        lambda call: call.parameters or "",
        lambda request, call: (wall(request, [call]) / 1e9, 1),
    )
    return (
        _Read(statement, calls, saved, tenants)
        if saved.hits >= max(_MIN_AGAIN, _MIN_HITS * len(calls))
        else None
    )


def _remembered(material: Material, service: str | None, reads: list[_Read]) -> Finding:
    calls = [each for read in reads for each in read.calls]
    saved, tenants = _Saved(), defaultdict[str | None, float](float)
    for read in reads:
        saved.hits += read.saved.hits
        saved.seconds += read.saved.seconds
        saved.calls += read.saved.calls
        for tenant, took in read.tenants.items():
            tenants[tenant] += took
    different = sum(len({call.parameters for _, call in read.calls}) for read in reads)
    written = sorted({table for read in reads for table in tables(read.statement)})
    one = len(reads) == 1
    return Finding(
        kind="steady_read",
        service=service,
        route=None,
        title="A read that gives the same answer each time"
        if one
        else f"{len(reads)} reads that give the same answers each time",
        what=f"{count(len(calls))} calls with {count(different)} different parameters, on "
        f"{len({request.label for request, _ in calls})} route(s); no answer changed, nobody wrote to "
        f"{', '.join(written)}",
        remedy=f"Remember {'its' if one else 'their'} answers in the process for {TTL_S:.0f} s or more.",
        assumption=f"answers up to {seconds(TTL_S)} old will do; hit rate "
        f"{percent(saved.hits / len(calls))} by replay",
        requests=len({request.trace for request, _ in calls}),
        savings=_savings(saved),
        traces=tuple(dict.fromkeys(request.trace for request, _ in calls))[:3],
        statements=tuple(read.statement for read in reads),
        code=material.place(calls[0][1]),
        tenants=shares(tenants),
    )


def _route(
    material: Material, service: str | None, label: str, requests: list[Request], steady: set[str]
) -> Finding | None:
    own = [
        request
        for request in requests
        if request.calls and all(call.family == "db" and call.statement in steady for call in request.calls)
    ]
    gets = all(request.method in ("GET", "HEAD") for request in requests)
    if len(own) < _MIN_AGAIN or len(own) < 0.9 * len(requests) or not gets:
        return None

    def key(request: Request) -> Hashable:
        return (request.tenant, tuple((call.statement, call.parameters) for call in request.calls))

    saved, tenants = _replayed(
        [(request, request) for request in own],
        key,
        lambda request, _: (request.duration_ns / 1e9, len(request.calls)),
    )
    if saved.hits < max(_MIN_AGAIN, _MIN_HITS * len(own)):
        return None
    return Finding(
        kind="steady_response",
        service=service,
        route=label,
        title="A response that is the same each time",
        what=f"{count(len(own))} requests, {count(len({key(request) for request in own}))} different ones "
        f"by their "
        "statements and parameters; none of their answers changed",
        remedy=f"Remember the response for {TTL_S:.0f} s and renew it behind the guest's back "
        f"(stale-while-revalidate), "
        "or let a CDN do so (Cache-Control).",
        assumption=f"answers up to {seconds(TTL_S)} old will do; hit rate "
        f"{percent(saved.hits / len(own))} by replay; "
        "a hit takes a millisecond",
        requests=len(own),
        savings=_savings(saved),
        traces=tuple(request.trace for request in own[:3]),
        statements=tuple(dict.fromkeys(call.statement or "" for call in own[0].calls)),
        code=material.place(own[0].calls[-1]),
        tenants=shares(tenants),
    )


def _replayed(
    items: list[tuple[Request, _T]],
    key: Callable[[_T], Hashable],
    worth: Callable[[Request, _T], tuple[float, int]],
) -> tuple[_Saved, dict[str | None, float]]:
    lookups = [(request.start_ns / 1e9, request.instance, key(item)) for request, item in items]
    saved, tenants = _Saved(), defaultdict[str | None, float](float)
    for (request, item), hit in zip(items, replay(lookups, _SIZE, TTL_S), strict=True):
        if hit:
            took, calls = worth(request, item)
            saved.hits += 1
            saved.seconds += took
            saved.calls += calls
            tenants[request.tenant] += took
    return saved, tenants


def _savings(saved: _Saved) -> dict[str, Estimate]:
    time = max(0.0, saved.seconds - 0.001 * saved.hits)
    once = saved.calls / saved.hits  # what one hit more, or less, is worth
    return {
        "db_calls": Estimate(saved.calls, saved.calls * 0.95 - once, saved.calls * 1.05 + once),
        "duration_s": Estimate(time, time * 0.7, time * 1.15 + 0.001 * saved.hits),
    }
