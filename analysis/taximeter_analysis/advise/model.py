"""What a detector says: a finding with its evidence, and a prediction that can be checked.

A prediction is a *saving over the window that was read*, in one of `METRICS`: the same quantities as the
columns of the relation ``req``. So it can be held against a second run: total before minus total after.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: metric -> what it is called; each is a sum over the requests of the finding's route (all: every route)
METRICS: Mapping[str, str] = {
    "duration_s": "time of requests",
    "first_byte_s": "time to the first byte",
    "db_calls": "database calls",
    "embedding_calls": "embedding calls",
    "model_calls": "model calls",
    "input_tokens": "input tokens",
    "cost_usd": "money",
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted saving: the value expected, and bounds that should hold it."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} does not lie within its bounds {self.low} to {self.high}")

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Estimate:
        """The same for ``factor`` times the traffic."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def holds(self, measured: float) -> bool:
        """Whether a measured saving lies within the bounds."""
        return self.low <= measured <= self.high


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that could be better."""

    kind: str  # the detector's name: n_plus_one, embedding_cache, ...
    service: str | None
    route: str | None  # label of the route; None: over all routes
    title: str
    what: str  # what was seen, with its numbers
    remedy: str
    assumption: str  # under which the prediction holds
    requests: int  # in which it was seen
    savings: Mapping[str, Estimate]  # by metric of METRICS, over the window
    traces: tuple[str, ...] = ()  # ids to look at
    statements: tuple[str, ...] = ()
    code: str = ""  # "path:line function"
    tenants: Mapping[str, float] = field(default_factory=dict)  # their share in the saving
    ceiling: bool = False  # the saving is an upper bound, not an expectation
    quantiles: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of time: now, predicted (s)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "service": self.service,
            "route": self.route,
            "title": self.title,
            "what": self.what,
            "remedy": self.remedy,
            "assumption": self.assumption,
            "requests": self.requests,
            "savings": {
                name: {"value": each.value, "low": each.low, "high": each.high}
                for name, each in self.savings.items()
            },
            "upper_bound_only": self.ceiling,
            "duration_quantiles_s": {
                name: {"now": now, "predicted": then} for name, (now, then) in self.quantiles.items()
            },
            "traces": list(self.traces),
            "statements": list(self.statements),
            "code": self.code or None,
            "tenants": dict(self.tenants),
        }


def quantiles(times: Sequence[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """P50 and P95 of (now, predicted) seconds a request: each of its own order, never of differences."""
    if len(times) < 2:
        return {}
    now, then = (statistics.quantiles(each, n=100, method="inclusive") for each in zip(*times, strict=True))
    return {name: (now[at], then[at]) for name, at in (("p50", 49), ("p95", 94))}


def shares(by_tenant: Mapping[str | None, float]) -> dict[str, float]:
    """What each tenant has in a saving, as shares of 1; most first. Empty where no tenant is known."""
    whole = sum(value for value in by_tenant.values() if value > 0)
    found = {name: value / whole for name, value in by_tenant.items() if name and value > 0 and whole > 0}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
