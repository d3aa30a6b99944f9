"""Statements that take far longer than this database usually needs: an index, or another question."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator

from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.advise.repeated import wall
from taximeter_analysis.render.units import count, percent, seconds

_MIN_S = 0.05
_TIMES = 8  # the service's usual statement
_SEEN = 3


def find(material: Material) -> Iterator[Finding]:
    """One finding per slow statement, over all routes that send it."""
    by_service: dict[str | None, dict[str, list[tuple[Request, Call]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for request, call in material.calls("db"):
        if call.statement and not call.failed:
            by_service[request.service][call.statement].append((request, call))
    for service, statements in by_service.items():
        usual = statistics.median(call.duration_ns for calls in statements.values() for _, call in calls)
        for statement, calls in statements.items():
            typical = statistics.median(call.duration_ns for _, call in calls)
            if len(calls) >= _SEEN and typical >= max(_MIN_S * 1e9, _TIMES * usual):
                yield _finding(material, service, statement, calls, usual)


def _finding(
    material: Material, service: str | None, statement: str, calls: list[tuple[Request, Call]], usual: float
) -> Finding:
    took = sum(wall(request, [call]) for request, call in calls) / 1e9
    saved = max(0.0, took - len(calls) * usual / 1e9)
    longest = sorted(calls, key=lambda each: -each[1].duration_ns)
    labels = {request.label for request, _ in calls}
    rows = [call.rows for _, call in calls if call.rows is not None]
    whole = sum(request.duration_ns for request, _ in calls) / 1e9
    tenants: dict[str | None, float] = defaultdict(float)
    for request, call in calls:
        tenants[request.tenant] += call.duration_ns
    return Finding(
        kind="slow_statement",
        service=service,
        route=next(iter(labels)) if len(labels) == 1 else None,
        title=f"A statement takes {seconds(statistics.median(call.duration_ns for _, call in calls) / 1e9)}",
        what=f"{count(len(calls))} calls, {seconds(longest[0][1].duration_ns / 1e9)} at most, "
        f"{percent(took / whole)} of "
        f"its requests' time; the service's usual statement takes {seconds(usual / 1e9)}"
        + (f"; returns {count(statistics.median(rows))} rows" if rows else ""),
        remedy="Look at its plan (EXPLAIN) for a sequential scan that an index would spare, or ask for less "
        "at a time.",
        assumption="with the right index it takes as long as the service's usual statement; the lower "
        "bound is half "
        "of that gain",
        requests=len({request.trace for request, _ in calls}),
        savings={"duration_s": Estimate(saved * 0.97, saved * 0.5, saved * 1.05)},
        traces=tuple(dict.fromkeys(request.trace for request, _ in longest))[:3],
        statements=(statement,),
        code=material.place(longest[0][1]),
        tenants=shares(tenants),
    )
