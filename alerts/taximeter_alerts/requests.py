"""Alerts about requests: error budgets that burn, latency that regresses, limits that are passed.

A regression is judged against the route's own recorded history (its median), and must exceed both a
factor and an absolute difference: 10 to 30 ms is three times as much and nobody's business. Without
enough history there is no alert. Routes with little traffic are grouped and looked at over hours.
"""

from __future__ import annotations

from taximeter import semconv
from taximeter_alerts import recording as r
from taximeter_alerts.model import PAGE, TICKET, Alert, ref
from taximeter_alerts.profile import Burn, Profile
from taximeter_alerts.thresholds import Thresholds
from taximeter_collector.prometheus import catalogue as c

ROUTE_TRACES = (
    f'{{ resource.{semconv.SERVICE_NAME} = "{ref(c.JOB)}" && span.{semconv.HTTP_ROUTE} = "{ref(c.ROUTE)}"'
)


def median(record: str, p: Profile) -> str:
    """A recorded value's own usual size."""
    return f"quantile_over_time(0.5, {record}[{p.history}] offset {p.lag})"


def known(record: str, p: Profile) -> str:
    """Whether there is enough history to speak of a usual size."""
    return f"count_over_time({record}[{p.history}] offset {p.lag}) >= {p.history_samples}"


def regressed(record: str, factor: float, delta: float, p: Profile) -> str:
    """More than ``factor`` times and more than ``delta`` above the median, which is well known."""
    usual = median(record, p)
    return (
        f"(\n  {record} > {factor:g} * {usual}\n"
        f"  and {record} - {usual} > {delta:g}\n"
        f"  and {known(record, p)}\n)"
    )


def burns(bad: str, objective: float, pairs: tuple[Burn, Burn], least: float) -> str:
    """The budget burns at a pair's rate over its long and its short window, and there is traffic."""
    budget = 1 - objective

    def ratio(window: str) -> str:
        return f"avg_over_time({bad}[{window}]) / avg_over_time({r.JOB_REQUESTS}[{window}])"

    either = "\n  or\n".join(
        f"  ({ratio(pair.long)} > {pair.rate * budget:.6g}\n"
        f"   and {ratio(pair.short)} > {pair.rate * budget:.6g}\n"
        f"   and avg_over_time({r.JOB_REQUESTS}[{pair.long}]) > {least:g})"
        for pair in pairs
    )
    return f"(\n{either}\n)"


def busy(t: Thresholds) -> str:
    """Only where the route has traffic enough to judge it alone."""
    return f"and on ({c.JOB}, {c.ROUTE}) {r.ROUTE_REQUESTS} > {t.min_requests_per_second:g}"


def alerts(t: Thresholds, p: Profile) -> list[Alert]:
    """Errors, latency, and the budget of single routes."""
    return [*_burning(t, p), *_slower(t, p), *_above_budget(t, p)]


def _burning(t: Thresholds, p: Profile) -> list[Alert]:
    least = t.min_job_requests_per_second
    errors = f"{(1 - t.availability_objective) * 100:g} %"
    slow = f"{(1 - t.latency_objective) * 100:g} %"
    found = []
    for name, severity, pairs, hold in (
        ("BudgetBurn", PAGE, p.page, p.brief),
        ("BudgetSlowBurn", TICKET, p.ticket, p.hold),
    ):
        pace = "fast" if severity == PAGE else "slowly"
        found += [
            Alert(
                f"TaximeterError{name}",
                severity,
                burns(r.JOB_ERRORS, t.availability_objective, pairs, least),
                hold,
                f"{ref(c.JOB)}: requests fail {pace} enough to use up the error budget",
                f"{{{{ $value | humanizePercentage }}}} of the requests of {ref(c.JOB)} failed (status 5xx); "
                f"{errors} may.",
                "overview",
                traces=f'{{ resource.{semconv.SERVICE_NAME} = "{ref(c.JOB)}" && status = error }}',
            ),
            Alert(
                f"TaximeterLatency{name}",
                severity,
                burns(r.JOB_SLOW, t.latency_objective, pairs, least),
                hold,
                f"{ref(c.JOB)}: slow requests use up the latency budget {pace}",
                f"{{{{ $value | humanizePercentage }}}} of the requests of {ref(c.JOB)} took over "
                f"{t.slow_seconds:g} s; {slow} may.",
                "overview",
                traces=f'{{ resource.{semconv.SERVICE_NAME} = "{ref(c.JOB)}" && kind = server '
                f"&& duration > {t.slow_seconds:g}s }}",
            ),
        ]
    return found


def _slower(t: Thresholds, p: Profile) -> list[Alert]:
    usual = median(r.ROUTE_P95, p)
    join = f"on ({c.JOB}, {c.ROUTE}) group_left ()"
    slow = f"{ROUTE_TRACES} && duration > {t.latency_delta_seconds:g}s }}"
    return [
        Alert(
            "TaximeterLatencyRegression",
            TICKET,
            f"{regressed(r.ROUTE_P95, t.latency_factor, t.latency_delta_seconds, p)}\n{busy(t)}",
            p.hold,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: P95 has grown",
            f"P95 is {{{{ $value | humanizeDuration }}}}, more than {t.latency_factor:g} times the median of "
            f"the last {p.history}.",
            "overview",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
            traces=slow,
        ),
        Alert(
            "TaximeterQuietRoutesLatencyRegression",
            TICKET,
            regressed(r.QUIET_P95, t.latency_factor, t.latency_delta_seconds, p),
            p.hold,
            f"{ref(c.JOB)}: routes with little traffic have become slower",
            f"P95 over the routes with under {t.min_requests_per_second:g} requests a second is "
            f"{{{{ $value | humanizeDuration }}}} over {p.quiet}.",
            "overview",
            keep=p.keep,
        ),
        Alert(
            "TaximeterLatencyRegressionNewVersion",
            TICKET,
            f"(\n  {r.VERSION_P95} > {join} {t.latency_factor:g} * {usual}\n"
            f"  and {r.VERSION_P95} - {join} {usual} > {t.latency_delta_seconds:g}\n)\n{busy(t)}\n"
            f"unless on ({c.JOB}, {c.VERSION}) {r.VERSION_P95} offset {p.new_version}",
            p.brief,
            f"{ref(c.JOB)} {ref(c.VERSION)}: {ref(c.ROUTE)} is slower than before this version",
            f"P95 with version {ref(c.VERSION)} is {{{{ $value | humanizeDuration }}}}, more than "
            f"{t.latency_factor:g} times the median of the last {p.history}.",
            "overview",
            by=(c.JOB, c.ROUTE),
            traces=slow,
        ),
    ]


LIMITED = {
    "latency_p95": (r.ROUTE_P95, "P95 in seconds"),
    "db_calls": (r.ROUTE_DB_CALLS, "statements per request"),
    "embedding_calls": (r.ROUTE_EMBEDDINGS, "embedding calls per request"),
    "cost": (r.ROUTE_COST, "USD per request"),
}


def _above_budget(t: Thresholds, p: Profile) -> list[Alert]:
    """One alert of all limits that the budget sets to routes; none if it sets none."""
    over = [
        f'label_replace(avg_over_time({record}{match.selector}[{p.money}]) > {match.limit:g}, "limit", '
        f'"{text}", "", "")'
        for name, (record, text) in LIMITED.items()
        for match in t.routes.get(name, ())
    ]
    if not over:
        return []
    return [
        Alert(
            "TaximeterRouteAboveBudget",
            TICKET,
            "(\n  " + "\n  or ".join(over) + f"\n)\n{busy(t)}",
            p.hold,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: {ref('limit')} above the budget",
            f'{{{{ $value | printf "%.3g" }}}} {ref("limit")} on average over {p.money}: more than the '
            "budget allows this route.",
            "overview",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
        )
    ]
