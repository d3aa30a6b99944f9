"""The course of things: the window in steps, one request in detail, and a month ahead.

The projection is deliberately naive and says so: what was spent, over the time it was spent in,
times 30 days. Its caveats are part of the figure.
"""

from __future__ import annotations

from taximeter_analysis.figures import LABEL
from taximeter_analysis.findings import hex_trace
from taximeter_analysis.model import Bar, Bucket, Projection, SpanTotals, Timeline, Usage, Waterfall
from taximeter_analysis.pace import MIN_OBSERVED_S, MONTH_S
from taximeter_analysis.store import Store

MAX_BARS = 200

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800)
_MAX_STEPS = 60


def step_for(observed_s: float) -> float:
    """The smallest round step that cuts the time into at most 60 pieces."""
    return float(next((step for step in _STEPS_S if observed_s / step <= _MAX_STEPS), _STEPS_S[-1]))


def timeline(store: Store, first_ns: int, last_ns: int) -> Timeline:
    """Requests, errors, latency and money by start, in equal steps; empty steps are there with 0."""
    step = step_for((last_ns - first_ns) / 1e9)
    step_ns = int(step * 1e9)
    found = {
        int(row[0]): row[1:]
        for row in store.rows(
            """
            SELECT (start_ns - $first) // $step, count(*), count(*) FILTER (failed),
                quantile_disc(duration_ns, [0.5, 0.95]), coalesce(fsum(cost_usd), 0)
            FROM req GROUP BY 1
            """,
            {"first": first_ns, "step": step_ns},
        )
    }
    buckets = []
    for index in range(max(found, default=-1) + 1):
        requests, errors, (p50, p95), cost = found.get(index, (0, 0, (None, None), 0.0))
        buckets.append(
            Bucket(
                start=(first_ns + index * step_ns) / 1e9,
                requests=requests,
                errors=errors,
                p50=None if p50 is None else p50 / 1e9,
                p95=None if p95 is None else p95 / 1e9,
                cost_usd=cost,
            )
        )
    return Timeline(step_s=step, buckets=tuple(buckets))


def waterfall(store: Store) -> Waterfall | None:
    """The longest request's trace, span by span; None when no request was selected."""
    longest = store.rows(
        f"SELECT trace_hi, trace_lo, start_ns, duration_s, {LABEL} FROM req "
        "ORDER BY duration_ns DESC, start_ns, trace_hi, trace_lo LIMIT 1"
    )
    if not longest:
        return None
    high, low, start_ns, duration_s, label = longest[0]
    spans = store.rows(
        """
        SELECT span_id, parent_id, name, service, kind, start_ns, duration_ns, status = 'error',
            db_system, ai_operation, coalesce(db_statement, ai_response_model, ai_request_model)
        FROM spans WHERE trace_hi = ? AND trace_lo = ?
        """,
        [high, low],
    )
    parent = {row[0]: row[1] for row in spans}
    begins = {row[0]: row[5] for row in spans}

    def chain(span_id: int) -> list[int]:
        found = [span_id]
        while (above := parent.get(found[-1])) in parent and above not in found:
            assert above is not None
            found.append(above)
        return found[::-1]

    # Parents before their children, siblings by start: the order in which a person reads a trace.
    paths = {row[0]: chain(row[0]) for row in spans}
    spans.sort(key=lambda row: [(begins[span], span) for span in paths[row[0]]])
    bars = tuple(
        Bar(
            name=name or "(no name)",
            detail=detail,
            service=service,
            group="request" if kind == "server" else "model" if operation else "db" if database else "other",
            depth=len(paths[span_id]) - 1,
            offset_s=(begin - start_ns) / 1e9,
            duration_s=duration / 1e9,
            error=failed,
        )
        for span_id, _, name, service, kind, begin, duration, failed, database, operation, detail in spans[
            :MAX_BARS
        ]
    )
    return Waterfall(hex_trace(high, low), label, duration_s, len(spans), bars)


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
