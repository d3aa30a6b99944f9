"""Waiting for a connection of the pool: time in which the database did nothing for the request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from taximeter_analysis.advise.material import Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.render.units import percent, seconds

_WAITED_S = 0.005  # a request that waited longer than this waited
_MIN_SHARE = 0.02  # of requests that use the database


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
        yield _finding(service, requests, waited)


def _finding(service: str | None, requests: list[Request], waited: list[Request]) -> Finding:
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
        f"average, {seconds(waited[0].pool_wait_s)} at most; at most {_busy(requests)} database calls ran "
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


def _busy(requests: list[Request]) -> int:
    edges = sorted(
        edge
        for request in requests
        for call in request.of("db")
        for edge in ((call.start_ns, 1), (call.end_ns, -1))
    )
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most
