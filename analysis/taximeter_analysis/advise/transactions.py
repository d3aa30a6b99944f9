"""Transactions that stay open while a model or another service is asked.

An open transaction keeps its connection, its locks and old row versions; a model takes a second. Seen where
BEGIN and COMMIT are spans, and with psycopg, which sends them by itself, where the call lies between two
statements of one transaction (the agent numbers them).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Finding, shares
from taximeter_analysis.render.units import percent, seconds

_OPEN = ("BEGIN", "START")
_CLOSE = ("COMMIT", "END", "ROLLBACK", "ABORT")


def find(material: Material) -> Iterator[Finding]:
    """One finding per route."""
    for (service, label), requests in material.by_route.items():
        held = [(request, *each) for request in requests for each in _held(request)]
        if held:
            yield _finding(material, service, label, requests, held)


def _word(call: Call) -> str:
    text = call.statement or call.operation or ""
    return text.split(maxsplit=1)[0].upper().rstrip(";") if text.strip() else ""


def _held(request: Request) -> list[tuple[Call, float]]:
    """The slow calls made inside a transaction, and how long each kept it open (seconds)."""
    found = _between(request)
    begun: int | None = None
    inside: list[Call] = []
    for call in request.calls:
        word = _word(call) if call.family == "control" else ""
        if word in _OPEN:
            begun, inside = call.start_ns, []
        elif word in _CLOSE:
            found += [(each, each.duration_ns / 1e9) for each in inside]
            begun, inside = None, []
        elif begun is not None and call.family in ("model", "embedding", "http"):
            inside.append(call)
    return found


def _between(request: Request) -> list[tuple[Call, float]]:
    """The same, where statements say to which transaction they belong: between two of one."""
    spans: dict[str, tuple[int, int]] = {}
    for call in request.of("db"):
        if call.transaction is not None:
            first, _ = spans.get(call.transaction, (call.end_ns, 0))
            spans[call.transaction] = (first, call.start_ns)
    return [
        (call, call.duration_ns / 1e9)
        for call in request.of("model", "embedding", "http")
        if any(first <= call.start_ns and call.end_ns <= last for first, last in spans.values())
    ]


def _finding(
    material: Material,
    service: str | None,
    label: str,
    requests: list[Request],
    held: list[tuple[Request, Call, float]],
) -> Finding:
    whole = sum(each for _, _, each in held)
    tenants: dict[str | None, float] = defaultdict(float)
    for request, _, each in held:
        tenants[request.tenant] += each
    held.sort(key=lambda each: -each[2])
    traces = tuple(dict.fromkeys(request.trace for request, _, _ in held))
    return Finding(
        kind="transaction_held",
        service=service,
        route=label,
        title="A transaction stays open while a model or another service is asked",
        what=f"in {percent(len(traces) / len(requests))} of the requests, {seconds(whole / len(held))} a "
        f"call, "
        f"{seconds(held[0][2])} at most: a connection and its locks for all that time",
        remedy="Commit before the call and open a new transaction after it; check again what the first "
        "had read.",
        assumption="the request itself is no faster; others that wait for the connection or a lock are "
        "(no figure: who waited for this one is not recorded)",
        requests=len(traces),
        savings={},
        traces=traces[:3],
        statements=(held[0][1].name,),
        code=material.place(held[0][1]),
        tenants=shares(tenants),
    )
