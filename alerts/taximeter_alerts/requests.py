"""Alerts about requests: error budgets that burn, latency and statements that regress.

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


def alerts(t: Thresholds, p: Profile) -> list[Alert]:
    """Requests, latency and database statements."""
    return [*_burning(t, p), *_slower(t, p), *_statements(t, p), *_embeddings(t, p)]


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
    busy = f"and on ({c.JOB}, {c.ROUTE}) {r.ROUTE_REQUESTS} > {t.min_requests_per_second:g}"
    usual = median(r.ROUTE_P95, p)
    join = f"on ({c.JOB}, {c.ROUTE}) group_left ()"
    slow = f"{ROUTE_TRACES} && duration > {t.latency_delta_seconds:g}s }}"
    return [
        Alert(
            "TaximeterLatencyRegression",
            TICKET,
            f"{regressed(r.ROUTE_P95, t.latency_factor, t.latency_delta_seconds, p)}\n{busy}",
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
            f"  and {r.VERSION_P95} - {join} {usual} > {t.latency_delta_seconds:g}\n)\n{busy}\n"
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


def _statements(t: Thresholds, p: Profile) -> list[Alert]:
    busy = f"and on ({c.JOB}, {c.ROUTE}) {r.ROUTE_REQUESTS} > {t.min_requests_per_second:g}"
    return [
        Alert(
            "TaximeterRepeatedStatements",
            PAGE,
            f"{regressed(r.ROUTE_REPEATED, t.repeated_factor, t.repeated_delta, p)}\n{busy}",
            p.brief,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: an N+1 query has come in",
            'A request repeats {{ $value | printf "%.1f" }} statements it has already sent, more than '
            f"{t.repeated_factor:g} times the median of the last {p.history}. The load on the database grows "
            "with the number of rows.",
            "database",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
            traces=f"{ROUTE_TRACES} && span.{semconv.REQUEST_DB_REPEATED} > {t.repeated_delta:g} }}",
        ),
        Alert(
            "TaximeterDatabaseCallsRegression",
            TICKET,
            f"{regressed(r.ROUTE_DB_CALLS, t.db_calls_factor, t.db_calls_delta, p)}\n{busy}",
            p.hold,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: more statements per request",
            'A request sends {{ $value | printf "%.1f" }} statements, more than '
            f"{t.db_calls_factor:g} times the median of the last {p.history}.",
            "database",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
            traces=f"{ROUTE_TRACES} && span.{semconv.REQUEST_DB_CALLS} > 1 }}",
        ),
        Alert(
            "TaximeterDatabaseConnections",
            TICKET,
            f"sum by ({c.INSTANCE}) ({c.PG_BACKENDS})\n"
            f"/ max by ({c.INSTANCE}) ({c.PG_MAX_CONNECTIONS}) > {t.database_connections_ratio:g}",
            p.hold,
            f"{ref(c.INSTANCE)}: the database is running out of connections",
            "{{ $value | humanizePercentage }} of max_connections are in use.",
            "database",
            by=(),
        ),
    ]


def _embeddings(t: Thresholds, p: Profile) -> list[Alert]:
    busy = f"and on ({c.JOB}, {c.ROUTE}) {r.ROUTE_REQUESTS} > {t.min_requests_per_second:g}"
    return [
        Alert(
            "TaximeterEmbeddingCallsSpike",
            TICKET,
            f"{regressed(r.ROUTE_EMBEDDINGS, t.embedding_factor, t.embedding_delta, p)}\n{busy}",
            p.hold,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: more embedding calls per request",
            'A request makes {{ $value | printf "%.2f" }} embedding calls, more than '
            f"{t.embedding_factor:g} times the median of the last {p.history}.",
            "caches",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
            traces=f"{ROUTE_TRACES} && span.{semconv.REQUEST_EMBEDDING_CALLS} > 0 }}",
        ),
        Alert(
            "TaximeterCacheHitRateLow",
            TICKET,
            f"{r.CACHE_RATIO} < {t.cache_hit_ratio:g}\n"
            f"and on ({c.JOB}, {c.CACHE}) {r.CACHE_LOOKUPS} > {t.min_requests_per_second:g}",
            p.day if p.name == "default" else p.hold,
            f"{ref(c.JOB)}: cache {ref(c.CACHE)} is below its target",
            f"It hits {{{{ $value | humanizePercentage }}}} of its lookups; the target is "
            f"{t.cache_hit_ratio:.0%}.",
            "caches",
            by=(c.JOB, c.CACHE),
            keep=p.keep,
        ),
        Alert(
            "TaximeterCacheHitRateDropped",
            TICKET,
            f"{median(r.CACHE_RATIO, p)} - {r.CACHE_RATIO} > {t.cache_drop:g}\n"
            f"and on ({c.JOB}, {c.CACHE}) {r.CACHE_LOOKUPS} > {t.min_requests_per_second:g}\n"
            f"and {known(r.CACHE_RATIO, p)}",
            p.hold,
            f"{ref(c.JOB)}: cache {ref(c.CACHE)} hits less than it used to",
            f"Its hit rate is {{{{ $value | humanizePercentage }}}} (points) below the median of the last "
            f"{p.history}.",
            "caches",
            by=(c.JOB, c.CACHE),
            keep=p.keep,
        ),
    ]
