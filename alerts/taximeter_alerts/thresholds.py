"""The limits of the rules: what a budget says, and what no budget speaks of.

A budget's ``defaults`` become the objectives whose burn is watched, its ``money``, ``caches`` and
``tenants`` the limits of their alerts, its ``routes`` the limits of
``TaximeterRouteAboveBudget``. The rest are constants of the rules, with their reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from taximeter.bounds import HTTP_DURATION_BOUNDS
from taximeter_analysis.budget import Budget, default_budget
from taximeter_analysis.budget.selectors import Entry, disjoint, path_of
from taximeter_collector.prometheus import catalogue as c

QUANTILES = {"latency_p99": 0.99, "latency_p95": 0.95, "latency_p50": 0.5}
COST_DELTA_OF_DAY = 0.02
"""What a spike must cost more an hour, as a share of the day's budget."""
ROUTE_LIMITS = ("latency_p95", "db_calls", "embedding_calls", "cost")
"""The limits of a route that have a recorded value to be held against."""


@dataclass(frozen=True, slots=True)
class Match:
    """A limit of the series that the matchers select, which no other match selects."""

    selector: str  # with braces
    limit: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of a service. Ratios are 0 to 1, times seconds, money USD."""

    slow_seconds: float = 2.0
    """A slow request; a bucket bound of ``http.server.request.duration``."""
    latency_objective: float = 0.99
    """Share of requests that are to be faster than ``slow_seconds``."""
    availability_objective: float = 0.995
    """Share of requests that are not to fail (status 5xx)."""
    usd_per_day: float | None = None
    usd_per_month: float | None = None
    caches: tuple[Match, ...] = ()
    tenants: tuple[Match, ...] = ()
    routes: dict[str, tuple[Match, ...]] = field(default_factory=dict)
    """Limit's name, of ``ROUTE_LIMITS``, to its matches."""

    latency_factor: float = 1.3
    latency_delta_seconds: float = 0.1
    """A regression of P95 is more than the factor and more than the difference."""
    db_calls_factor: float = 1.15
    db_calls_delta: float = 0.8
    """One statement more is a regression; the noise of a route whose requests differ is not."""
    repeated_factor: float = 1.5
    repeated_delta: float = 4.0
    """Repeated statements per request more than before: an N+1 query came in."""
    embedding_factor: float = 1.5
    embedding_delta: float = 0.3
    cost_factor: float = 1.7
    cost_delta_usd_per_hour: float = 1.0
    """What a model's money per hour must exceed its own median by."""
    cache_drop: float = 0.2
    """Hit ratio lost against the cache's own median: an alert where the target was never reached."""
    first_chunk_seconds: float = 2.0
    min_requests_per_second: float = 0.1
    """Routes with less are grouped, and looked at over hours."""
    min_job_requests_per_second: float = 0.02
    min_lookups: float = 500
    """In a day: with fewer a cache's hit rate says nothing."""
    database_cpu_ratio: float = 0.8
    database_connections_ratio: float = 0.8
    clock_seconds: float = 30.0
    collector_queue: float = 100
    collector_log_ratio: float = 0.5
    series_limit: float = 50_000


def of_budget(budget: Budget | None = None) -> tuple[Thresholds, list[str]]:
    """The limits that a budget sets (the delivered one, without), and notes on what differs from it."""
    chosen = budget or default_budget()
    objective, notes = _latency(chosen)
    errors = {**chosen.defaults, **chosen.total}.get("error_rate")
    daily = chosen.money.per_day
    thresholds = Thresholds(
        **objective,
        **({"availability_objective": 1 - errors.max} if errors and errors.max else {}),
        **({"cost_delta_usd_per_hour": daily * COST_DELTA_OF_DAY} if daily else {}),
        usd_per_day=daily,
        usd_per_month=chosen.money.per_month,
        caches=_matches(c.CACHE, ((None, entry.match, entry.hit_rate) for entry in chosen.caches)),
        tenants=_matches(
            c.TENANT,
            ((None, entry.match, entry.per_day) for entry in chosen.tenants if entry.per_day is not None),
        ),
        routes={name: matches for name in ROUTE_LIMITS if (matches := _routes(chosen, name))},
    )
    return thresholds, notes


def _latency(budget: Budget) -> tuple[dict[str, float], list[str]]:
    """The objective whose burn is watched: the highest quantile that ``total`` or ``defaults`` limits."""
    for name, share in QUANTILES.items():
        limit = {**budget.defaults, **budget.total}.get(name)
        if limit is None or limit.max is None:
            continue
        bound = next((bound for bound in HTTP_DURATION_BOUNDS if bound >= limit.max), None)
        if bound is None:
            raise ValueError(
                f"{name}: {limit.max:g} s is more than the histogram's last bound, "
                f"{HTTP_DURATION_BOUNDS[-1]:g} s; set a lower one"
            )
        notes = []
        if bound != limit.max:
            notes.append(f"{name}: {limit.max:g} s is no bound of the histogram; {bound:g} s is used")
        return {"slow_seconds": bound, "latency_objective": share}, notes
    return {}, []


def _routes(budget: Budget, name: str) -> tuple[Match, ...]:
    limits: list[Entry[float]] = [
        (entry.service, path_of(entry.match), limit.max)
        for entry in budget.routes
        if (limit := entry.limits.get(name)) is not None and limit.max is not None
    ]
    default = budget.defaults.get(name)
    if default is not None and default.max is not None:
        limits.append((None, "*", default.max))
    return _matches(c.ROUTE, limits)


def _matches(label: str, entries: Iterable[Entry[float]]) -> tuple[Match, ...]:
    found = disjoint(label, entries)
    return tuple(Match("{" + ", ".join(matchers) + "}", limit) for matchers, limit in found)
