"""What a ``budget.yaml`` may say: the model that the loader fills and the JSON Schema is made from.

Every limit is declared once, in `LIMITS`: its unit, its direction, whether chance is allowed for,
and its line of documentation. Loader, schema, check, suggestion and docs all read that table.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

VERSION = 1

Unit = Literal["seconds", "share", "count", "tokens", "usd"]
Kind = Literal["quantile", "share", "count"]


@dataclass(frozen=True)
class Spec:
    """One kind of limit. ``kind``: quantile and share are judged with chance allowed for, count hard."""

    name: str
    unit: Unit
    kind: Kind
    doc: str
    lowest: bool = False  # the limit is a minimum
    q: float | None = None


LIMITS: Mapping[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("latency_p50", "seconds", "quantile", "half of the requests are faster than this", q=0.5),
        Spec("latency_p95", "seconds", "quantile", "95 % of the requests are faster than this", q=0.95),
        Spec("latency_p99", "seconds", "quantile", "99 % of the requests are faster than this", q=0.99),
        Spec("error_rate", "share", "share", "share of requests that fail (5xx, or a failed span)"),
        Spec("db_calls", "count", "count", "database calls per request, mean"),
        Spec("model_calls", "count", "count", "model calls per request, mean; embeddings excluded"),
        Spec("embedding_calls", "count", "count", "embedding calls per request, mean"),
        Spec("input_tokens", "tokens", "count", "tokens sent per request, mean; cached ones included"),
        Spec("output_tokens", "tokens", "count", "tokens received per request, mean"),
        Spec("cost", "usd", "count", "USD per request, mean"),
        Spec("cache_hit_rate", "share", "share", "share of cache look-ups that hit, at least", lowest=True),
    )
}


@dataclass(frozen=True)
class Limit:
    """An absolute limit, a relative one against a baseline, or both; in the unit of its `Spec`."""

    max: float | None = None
    min: float | None = None
    max_increase: float | None = None  # a share: 0.1 is 10 % more than the baseline
    max_decrease: float | None = None  # for limits that are minimums


@dataclass(frozen=True)
class RouteBudget:
    """Limits of the routes that ``match`` (a shell pattern) names."""

    match: str
    limits: Mapping[str, Limit]
    service: str | None = None

    def covers(self, service: str | None, method: str | None, route: str | None) -> bool:
        """Whether this entry speaks of that route: of its path, or of method and path together."""
        if self.service is not None and self.service != service:
            return False
        path = route or "(no route)"
        return matches(self.match, path) or matches(self.match, f"{method} {path}")


@dataclass(frozen=True)
class Money:
    """Limits of all model and embedding calls together, in USD."""

    per_request: float | None = None
    per_day: float | None = None
    per_month: float | None = None


@dataclass(frozen=True)
class CacheBudget:
    """Least hit rate of the service's caches whose name matches."""

    match: str
    hit_rate: float


@dataclass(frozen=True)
class TenantBudget:
    """Limits of each tenant whose name matches, in USD."""

    match: str
    per_request: float | None = None
    per_day: float | None = None
    per_month: float | None = None


@dataclass(frozen=True)
class Budget:
    """A whole budget. ``defaults`` hold for every route whose own entries do not set that limit;
    ``total`` for all requests together.
    """

    version: int = VERSION
    total: Mapping[str, Limit] = field(default_factory=dict)
    defaults: Mapping[str, Limit] = field(default_factory=dict)
    routes: tuple[RouteBudget, ...] = ()
    money: Money = Money()
    caches: tuple[CacheBudget, ...] = ()
    tenants: tuple[TenantBudget, ...] = ()
    source: str = "budget.yaml"

    def limit_for(
        self, service: str | None, method: str | None, route: str | None, name: str
    ) -> Limit | None:
        """The limit that holds for a route: of the first matching entry that sets it, else the default."""
        found = self.origin_of(service, method, route, name)
        return found[1] if found else None

    def origin_of(
        self, service: str | None, method: str | None, route: str | None, name: str
    ) -> tuple[str, Limit] | None:
        """The same with its place in the file, ``routes[2].latency_p95``."""
        for index, entry in enumerate(self.routes):
            if name in entry.limits and entry.covers(service, method, route):
                return f"routes[{index}].{name}", entry.limits[name]
        return (f"defaults.{name}", self.defaults[name]) if name in self.defaults else None


def matches(pattern: str, text: str) -> bool:
    """Shell-pattern match, case-sensitive: ``*`` is any text, ``?`` one character; brackets are literal."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))
