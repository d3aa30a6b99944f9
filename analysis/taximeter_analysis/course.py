"""The course of things: the window in steps, and a month ahead.

The projection is deliberately naive and says so: what was spent, over the time it was spent in,
times 30 days. Its caveats are part of the figure.
"""

from __future__ import annotations

from taximeter_analysis.model import Bucket, Projection, SpanTotals, Timeline, Usage
from taximeter_analysis.pace import MIN_OBSERVED_S, MONTH_S
from taximeter_analysis.ranks import ranks
from taximeter_analysis.store import Store

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800)
_MAX_STEPS = 60


def step_for(observed_s: float) -> float:
    """The smallest round step that cuts the time into at most 60 pieces."""
    return float(next((step for step in _STEPS_S if observed_s / step <= _MAX_STEPS), _STEPS_S[-1]))


def timeline(store: Store, first_ns: int, last_ns: int) -> Timeline:
    """Requests, errors, latency and money by start, in equal steps; empty steps are there with 0."""
    step = step_for((last_ns - first_ns) / 1e9)
    step_ns = int(step * 1e9)
    found = ranks(store, step_ns, first_ns).steps
    buckets = []
    for index in range(max(found, default=-1) + 1):
        at = found.get(index)
        buckets.append(
            Bucket(
                start=(first_ns + index * step_ns) / 1e9,
                requests=at.requests if at else 0,
                errors=at.errors if at else 0,
                p50=at.p50 / 1e9 if at else None,
                p95=at.p95 / 1e9 if at else None,
                cost_usd=at.cost_usd if at else 0.0,
            )
        )
    return Timeline(step_s=step, buckets=tuple(buckets))


def projection(totals: Usage, spans: SpanTotals, observed_s: float) -> Projection:
    """What the observed money comes to in 30 days; None with its reason where that cannot be said."""
    method = "observed cost / observed seconds x 30 days (2,592,000 s), calls outside of requests included"
    if totals.cost_usd is None and not spans.outside_cost_usd:
        return Projection(None, "no model call was priced in this window", method, ())
    if observed_s < MIN_OBSERVED_S:
        reason = f"only {observed_s:.1f} s were observed; at least {MIN_OBSERVED_S:.0f} s are needed"
        return Projection(None, reason, method, ())
    caveats = ["assumes that the observed traffic, mix and prices go on day and night"]
    if observed_s < 3600:
        caveats.append(f"{observed_s:.0f} s were observed: this is the pace of a moment, not a forecast")
    elif observed_s < 7 * 86400:
        caveats.append("less than a week was observed: nights and weekends may be missing")
    if totals.unpriced_calls:
        caveats.append(f"{totals.unpriced_calls} call(s) have no price: the true figure is higher")
    spent = (totals.cost_usd or 0.0) + spans.outside_cost_usd
    return Projection(spent / observed_s * MONTH_S, None, method, tuple(caveats))
