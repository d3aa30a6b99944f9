"""Statements that one request sends again and again: N+1, redundant, or legitimate.

*N+1*: a read sent for each row of an earlier result, its parameters different each time.
*Redundant*: the same read with the same parameters, nothing written in between.
*Legitimate*, and left alone: writes; lists sent in pieces; walks in which each step needs the last one's
answer (a tree, pages by key); loops that wait for a model or another service in each round.

Calls are taken by statement wherever they lie in the request: in between others, in parallel,
or on several connections.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares

MIN_DISTINCT = 5  # different parameters, where no result is known to have given them
MIN_FED = 3  # ... where one is
_PIECES = re.compile(r"=\s*ANY\s*\(|\bIN\s*\(\s*(?:%s|\?|\$\d+)\s*,|\bUNNEST\s*\(", re.IGNORECASE)
TOO_FEW = "too few to tell"
_LARGE = 200  # rows a call: reading in pieces


@dataclass(slots=True)
class Group:
    """The repeated reads of one statement in one request. ``kind``: n_plus_one, redundant, legitimate."""

    request: Request
    statement: str
    calls: list[Call]
    kind: str
    reason: str
    fed: bool = False  # an earlier result held the parameters: the read can be joined to it

    @property
    def wall_ns(self) -> int:
        """How long the request was busy with them, with what lies between (its next call begins)."""
        return wall(self.request, self.calls)


def wall(request: Request, calls: Sequence[Call]) -> int:
    """Time that a request would save without these calls: each up to the start of the next call.

    Where another call runs beside them, the request waits for that one all the same.
    """
    starts = sorted({call.start_ns for call in request.calls})
    following = dict(pairwise(starts))
    spans = sorted(
        (
            call.start_ns,
            # What follows within a moment of the end was waiting for it.
            following[call.start_ns]
            if 0 <= following.get(call.start_ns, 0) - call.end_ns <= call.duration_ns
            else call.end_ns,
        )
        for call in calls
    )
    gone = {id(call) for call in calls}
    beside = [(call.start_ns, call.end_ns) for call in request.calls if id(call) not in gone]
    return _covered(spans + beside) - _covered(beside)


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Length of the union of intervals."""
    total = reach = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reach))
        reach = max(reach, end)
    return total


def classify(request: Request) -> list[Group]:
    """Every group of repeated reads of a request, with what it is and why."""
    by_statement: dict[str, list[Call]] = defaultdict(list)
    for call in request.of("db"):
        if call.statement and not call.failed:
            by_statement[call.statement].append(call)
    return [_judge(request, text, calls) for text, calls in by_statement.items() if len(calls) > 1]


def repeats(request: Request) -> Iterator[Call]:
    """The calls of a request that are part of an N+1 or redundant."""
    for group in classify(request):
        if group.kind != "legitimate":
            yield from group.calls


def _judge(  # noqa: PLR0911  (a list of reasons, the first that holds)
    request: Request, statement: str, calls: list[Call]
) -> Group:
    def group(kind: str, reason: str, fed: bool = False) -> Group:
        return Group(request, statement, calls, kind, reason, fed)

    if not calls[0].reads:
        return group("legitimate", "it writes or locks")
    if " FROM " not in " ".join(statement.upper().split()):
        return group("legitimate", "it reads no table: a check of the connection")
    if any(call.parameters is None for call in calls) and any(
        mark in statement for mark in ("%s", "?", "$1")
    ):
        return group("legitimate", "its parameters are not known")
    distinct = len({call.parameters for call in calls})
    if distinct == 1:
        if _written_between(request, calls):
            return group("legitimate", "something was written in between")
        if len({call.rows for call in calls}) > 1:
            return group("legitimate", "the answers differ")
        return group("redundant", f"the same parameters {len(calls)} times")
    if _PIECES.search(statement):
        return group("legitimate", "each call asks for a list already")
    if statistics.fmean(call.rows or 0 for call in calls) >= _LARGE:
        return group("legitimate", "large answers, read in pieces")
    if _waits_between(request, calls):
        return group("legitimate", "each round waits for a model or another service")
    if _chained(calls):
        return group("legitimate", "each step needs the answer of the one before")
    fed = _fed(request, calls)
    if distinct >= (MIN_FED if fed else MIN_DISTINCT):
        return group("n_plus_one", f"{distinct} different parameters in {len(calls)} calls", fed)
    if len(calls) - distinct >= MIN_DISTINCT and not _written_between(request, calls):
        return group("redundant", f"{distinct} different parameters in {len(calls)} calls")
    return group("legitimate", TOO_FEW)


def _written_between(request: Request, calls: list[Call]) -> bool:
    first, last = calls[0].start_ns, calls[-1].start_ns
    return any(first < call.start_ns < last and not call.reads for call in request.of("db"))


def _waits_between(request: Request, calls: list[Call]) -> bool:
    waits = [call.start_ns for call in request.of("model", "embedding", "http")]
    pairs = list(pairwise(calls))
    waited = sum(any(a.start_ns < at < b.start_ns for at in waits) for a, b in pairs)
    return waited * 2 > len(pairs)


def _chained(calls: list[Call]) -> bool:
    """Most steps carry a parameter out of the answer before that no earlier step carried.

    The agent tells so from the third call on; single values, where they are recorded, from the second.
    """
    pairs = list(pairwise(calls))
    if sum(call.walks for call in calls) * 2 > len(pairs):
        return True
    steps, carried = 0, set(calls[0].given or ())
    for before, after in pairs:
        steps += bool((set(after.given or ()) - carried) & set(before.returned or ()))
        carried |= set(after.given or ())
    return steps * 2 > len(pairs)


def _fed(request: Request, calls: list[Call]) -> bool:
    """Whether one earlier statement returned most of the parameters."""
    wanted = [set(call.given or ()) for call in calls]
    everywhere = set.intersection(*wanted)
    wanted = [each - everywhere for each in wanted]
    if not all(wanted):
        return False
    for call in request.of("db"):
        if call.start_ns >= calls[0].start_ns:
            break
        given = set(call.returned or ())
        if sum(bool(each & given) for each in wanted) * 2 > len(wanted):
            return True
    return False


def find(material: Material) -> Iterator[Finding]:
    """N+1 and redundant reads, by route and place in the code."""
    classified = [group for request in material.requests for group in classify(request)]
    guilty = {
        (group.request.service, group.request.label, group.statement)
        for group in classified
        if group.kind != "legitimate"
    }
    places: dict[tuple[str, str | None, str, str], list[Group]] = defaultdict(list)
    for group in classified:
        request = group.request
        few = group.reason == TOO_FEW  # the same loop over a short list
        if (few or group.kind != "legitimate") and (
            request.service,
            request.label,
            group.statement,
        ) in guilty:
            kind = "n_plus_one" if few else group.kind
            function = material.place(group.calls[0]).rpartition(" ")[2]
            places[kind, request.service, request.label, function].append(group)
    for (kind, service, label, _), groups in places.items():
        yield _finding(material, kind, service, label, groups)


def _finding(material: Material, kind: str, service: str | None, label: str, groups: list[Group]) -> Finding:
    redundant = kind == "redundant"
    calls = low = high = 0.0
    time = Estimate(0, 0, 0)
    tenants: dict[str | None, float] = defaultdict(float)
    for group in groups:
        count = len(group.calls)
        one = statistics.median(call.duration_ns for call in group.calls) / 1e9
        kept = 1 if redundant else 0 if group.fed else 1
        calls += count - kept
        low += count - 1
        high += count - (1 if redundant else 0)
        gone = group.wall_ns / 1e9
        expected = max(0.0, gone - (one if kept else 0.3 * one))
        time += Estimate(expected, min(expected, max(0.0, gone * 0.8 - 2 * one)), max(expected, gone * 1.15))
        tenants[group.request.tenant] += gone
    requests = {group.request.trace for group in groups}
    statements = tuple(dict.fromkeys(group.statement for group in groups))
    counts = sorted(len(group.calls) for group in groups)
    worst = max(groups, key=lambda group: len(group.calls))
    fed = sum(group.fed for group in groups) * 2 > len(groups)
    typical = f"{counts[len(counts) // 2]} calls typically, {counts[-1]} at most"
    if redundant:
        title = f"The same read is sent {counts[len(counts) // 2]} times in a request"
        remedy = "Ask once and pass the answer on, or remember it for the length of the request."
    else:
        title = f"N+1: {len(statements)} statement(s) sent once per row"
        remedy = (
            "Join it to the statement that lists the rows, or ask once with `= ANY(...)`."
            if fed
            else "Ask once for all with `= ANY(...)`, or join."
        )
    return Finding(
        kind=kind,
        service=service,
        route=label,
        title=title,
        what=f"{typical}, in {len(requests)} request(s): {worst.reason}"
        + ("; an earlier statement of the request returned the parameters" if fed else ""),
        remedy=remedy,
        assumption="one call takes the place of each loop, or none where it is joined; "
        "the time between the loop's calls goes with them",
        requests=len(requests),
        savings={"db_calls": Estimate(calls, low, high), "duration_s": time},
        traces=tuple(dict.fromkeys(group.request.trace for group in [worst, *groups]))[:3],
        statements=statements,
        code=material.place(worst.calls[0]),
        tenants=shares(tenants),
    )
