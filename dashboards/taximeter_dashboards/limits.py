"""Threshold lines: the budget's limits, as panels draw them.

A panel shows one line, so the budget's ``defaults`` draw it. Where the budget has limits of single
routes, a panel of its own divides each route's latency by its own limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from taximeter_analysis.budget import Budget, default_budget
from taximeter_analysis.budget.selectors import Entry, disjoint, path_of
from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards.model import Limit

PLAN = "the optimization plan"
_EVERY_ROUTE = "*"


@dataclass(frozen=True, slots=True)
class RouteLimit:
    """The latency limit of some routes: a quantile, seconds, and the matchers that select them."""

    q: float
    seconds: float
    matchers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that panels draw. Times in seconds, money in USD, ratios from 0 to 1; None: no line."""

    latency_p95: Limit | None = None
    latency_p99: Limit | None = None
    routes: tuple[RouteLimit, ...] = ()
    """In the budget's order, the defaults last; no route is in two of them."""
    error_rate: Limit | None = None
    db_calls: Limit | None = None
    cost: Limit | None = None
    usd_per_day: Limit | None = None
    usd_per_month: Limit | None = None
    cache_hit_rate: Limit | None = None
    slow_seconds: float = 2.0
    """A slow request, as the plan says; a bucket bound of the duration histogram, so counted exactly."""
    slow_share: Limit = field(default=Limit(0.01, PLAN))
    streaming_share: Limit = field(default=Limit(0.8, PLAN, "below"))
    first_chunk: Limit = field(default=Limit(2.0, PLAN))
    log_share: Limit = field(default=Limit(0.5, "half full"))
    series: Limit = field(default=Limit(50_000, "where Prometheus begins to cost"))
    connections: Limit = field(default=Limit(0.8, "four fifths"))


def from_budget(budget: Budget | None = None) -> Limits:
    """The lines of a budget; without one, of the default budget."""
    given = budget or default_budget()
    whole = next((entry.hit_rate for entry in given.caches if entry.match == _EVERY_ROUTE), None)
    return Limits(
        latency_p95=_default(given, "latency_p95"),
        latency_p99=_default(given, "latency_p99"),
        routes=_routes(given),
        error_rate=_default(given, "error_rate"),
        db_calls=_default(given, "db_calls"),
        cost=_default(given, "cost"),
        usd_per_day=_money(given.money.per_day, "money.per_day"),
        usd_per_month=_money(given.money.per_month, "money.per_month"),
        cache_hit_rate=None if whole is None else Limit(whole, 'budget: caches "*"', "below"),
    )


def _default(budget: Budget, name: str) -> Limit | None:
    limit = budget.defaults.get(name)
    return None if limit is None or limit.max is None else Limit(limit.max, f"budget: defaults.{name}")


def _money(value: float | None, place: str) -> Limit | None:
    return None if value is None else Limit(value, f"budget: {place}")


def _routes(budget: Budget) -> tuple[RouteLimit, ...]:
    """One latency limit per entry: its P95 limit, else its P99 limit."""
    found: list[Entry[tuple[float, float]]] = []
    entries = [(entry.service, path_of(entry.match), entry.limits) for entry in budget.routes]
    for service, pattern, limits in (*entries, (None, _EVERY_ROUTE, budget.defaults)):
        for name, q in (("latency_p95", 0.95), ("latency_p99", 0.99)):
            limit = limits.get(name)
            if limit is not None and limit.max is not None:
                found.append((service, pattern, (q, limit.max)))
                break
    return tuple(RouteLimit(*value, matchers) for matchers, value in disjoint(c.ROUTE, found))
