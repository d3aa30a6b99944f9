"""Waiting for a connection of the pool: time in which the database did nothing for the request.

A larger pool helps where the database has room for more. Where its calls take half as long again while the
pool is full, it has not: the wait would only move there, and nothing is said.
"""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict
from collections.abc import Iterator

from taximeter_analysis.advise.material import Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.render.units import percent, seconds

_WAITED_S = 0.005  # a request that waited longer than this waited
_MIN_SHARE = 0.02  # of requests that use the database
_SLOWED = 1.5  # times its usual duration that a call takes while the pool is full
_TELLING = 4  # calls at once from which "full" and "idle" differ


def find(material: Material) -> Iterator[Finding]:
    """Per service, since its routes share the pool."""
    by_service: dict[str | None, list[Request]] = defaultdict(list)
    for request in material.requests:
        if request.of("db") or request.pool_wait_s:
            by_service[request.service].append(request)
    for service, requests in by_service.items():
        waited = [request for request in requests if (request.pool_wait_s or 0.0) > _WAITED_S]
        if len(waited) < max(3, _MIN_SHARE * len(requests)):
            continue
        busy, slowed = _crowding(requests)
        if slowed >= _SLOWED:
            continue
        yield _finding(service, requests, waited, busy)


def _finding(service: str | None, requests: list[Request], waited: list[Request], busy: int) -> Finding:
    whole = sum(request.pool_wait_s or 0.0 for request in waited)
    waited.sort(key=lambda request: -(request.pool_wait_s or 0.0))
    tenants: dict[str | None, float] = defaultdict(float)
    for request in waited:
        tenants[request.tenant] += request.pool_wait_s or 0.0
    return Finding(
        kind="pool_wait",
        service=service,
        route=None,
        title="Requests wait for a free database connection",
        what=f"{percent(len(waited) / len(requests))} of the requests waited, "
        f"{seconds(whole / len(waited))} on the "
        f"average, {seconds(waited[0].pool_wait_s)} at most; at most {busy} database calls ran "
        f"at once",
        remedy="A larger pool, where the server's max_connections and its cores allow; else hold "
        "connections for a "
        "shorter time (never across a model call), and send fewer statements.",
        assumption="the database serves more calls at once as fast as before; where it is the bottleneck, "
        "waiting only moves there",
        requests=len(waited),
        savings={"duration_s": Estimate(whole * 0.9, whole * 0.3, whole * 1.1)},
        traces=tuple(request.trace for request in waited[:3]),
        tenants=shares(tenants),
    )


def _crowding(requests: list[Request]) -> tuple[int, float]:
    """How many calls ran at once at most, and how many times slower calls were then than alone.

    Each call is compared with the usual duration of its own statement.
    """
    calls = sorted((c for request in requests for c in request.of("db")), key=lambda call: call.start_ns)
    by_statement: dict[str | None, list[int]] = defaultdict(list)
    for call in calls:
        by_statement[call.statement].append(call.duration_ns)
    usual = {statement: statistics.median(times) for statement, times in by_statement.items()}
    running: list[int] = []  # when those under way end
    beside: list[tuple[int, float]] = []
    for call in calls:
        while running and running[0] <= call.start_ns:
            heapq.heappop(running)
        heapq.heappush(running, call.end_ns)
        beside.append((len(running), call.duration_ns / (usual[call.statement] or 1)))
    most = max((count for count, _ in beside), default=0)
    full = [times for count, times in beside if count >= 0.75 * most]
    idle = [times for count, times in beside if count <= 0.25 * most]
    if most < _TELLING or not full or not idle:
        return most, 1.0
    return most, statistics.median(full) / (statistics.median(idle) or 1)
