"""Overview: is the service well, which route is not, and is that new."""

from __future__ import annotations

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards import standard as s
from taximeter_dashboards.limits import Limits, RouteLimit
from taximeter_dashboards.model import Dashboard, Limit, Panel, Query, Row

DEFAULT_ERROR_RATE = 0.005  # of a budget without error_rate


def dashboard(limits: Limits) -> Dashboard:
    """The page that alerts about requests link to."""
    return Dashboard(
        "overview",
        "Taximeter / Overview",
        "Requests, errors, latency and money of a service, by route, against its objectives.",
        (s.JOB, s.ROUTE),
        (_now(limits), _requests(limits), _objectives(limits), _routes(), _versions()),
    )


def _now(limits: Limits) -> Row:
    slow = _slow_share(limits, p.WINDOW)
    return Row(
        "Now",
        (
            Panel(
                "Requests",
                "Requests per second. A fall to nothing is the service, its load balancer or its telemetry: "
                "the Collector dashboard tells which.",
                "reqps",
                (Query(p.total(s.REQUESTS)),),
                kind="stat",
                width=4,
                height=4,
                see=("collector",),
            ),
            Panel(
                "Failed",
                "Share of answers with status 5xx. Above the line: open an error's trace from the panel "
                "'Failed by route' below.",
                "percentunit",
                (Query(p.ratio(p.total(s.ERRORS), p.total(s.REQUESTS))),),
                kind="stat",
                limit=limits.error_rate,
                width=4,
                height=4,
            ),
            Panel(
                "P95",
                "95 % of requests are faster. Above the line: find the route in 'P95 by route'.",
                "s",
                (Query(p.quantile(0.95, s.BUCKETS)),),
                kind="stat",
                limit=limits.latency_p95,
                width=4,
                height=4,
            ),
            Panel(
                f"Slower than {limits.slow_seconds:g} s",
                f"Share of requests that took more than {limits.slow_seconds:g} s. Above the line the "
                "latency objective's budget is burning: see 'Budget left'.",
                "percentunit",
                (Query(slow),),
                kind="stat",
                limit=limits.slow_share,
                width=4,
                height=4,
            ),
            Panel(
                "Queries per request",
                "Database calls per request, mean. A step up is an N+1 query or a lost cache: see Database.",
                "short",
                (Query(p.mean(c.DB_CALLS)),),
                kind="stat",
                limit=limits.db_calls,
                decimals=1,
                width=4,
                height=4,
                see=("database",),
            ),
            Panel(
                "Money per hour",
                "USD per hour for models, at the present rate. A jump is more traffic, a dearer model, "
                "longer "
                "prompts or a cache that stopped hitting: see Models and cost.",
                "currencyUSD",
                (Query(s.usd_per_hour()),),
                kind="stat",
                decimals=2,
                width=4,
                height=4,
                see=("money",),
            ),
        ),
    )


def _requests(limits: Limits) -> Row:
    slow_by_route = (
        f"{p.total(s.REQUESTS, c.ROUTE)}\n- {p.total(p.rate(c.REQUESTS.bucket, _at_most(limits)), c.ROUTE)}"
    )
    return Row(
        "Requests",
        (
            Panel(
                "Requests by route",
                "Who uses what. Compare with the latency below: slower under the same load is a regression.",
                "reqps",
                (Query(p.total(s.REQUESTS, c.ROUTE), s.legend(c.ROUTE)),),
                stacked=True,
            ),
            Panel(
                "Failed by route",
                "Share of answers with 5xx, by route. Open the route's traces with status error in Explore; "
                "the runbook of TaximeterErrorBudgetBurn says where to look first.",
                "percentunit",
                (
                    Query(
                        p.ratio(p.total(s.ERRORS, c.ROUTE), p.total(s.REQUESTS, c.ROUTE)), s.legend(c.ROUTE)
                    ),
                ),
                limit=limits.error_rate,
            ),
            Panel(
                "Latency of all requests",
                "P50, P95 and P99. P50 up: everything is slower (database, CPU). Only P99 up: a few requests "
                "wait; click an exemplar to see one. An estimate within the histogram's buckets; "
                "`taximeter report` gives exact figures.",
                "s",
                tuple(
                    Query(p.quantile(q, s.BUCKETS), f"P{q * 100:g}", exemplars=q == 0.95)
                    for q in (0.5, 0.95, 0.99)
                ),
                limit=limits.latency_p95,
            ),
            Panel(
                "P95 by route",
                "The slowest routes stand on top. Above the line: open an exemplar's trace and look for the "
                "longest span; many equal spans are an N+1 query.",
                "s",
                (Query(p.quantile(0.95, s.BUCKETS, c.ROUTE), s.legend(c.ROUTE), exemplars=True),),
                limit=limits.latency_p95,
                see=("database", "compare"),
            ),
            Panel(
                "P99 by route",
                "The worst one in a hundred. With fewer than 300 requests in the window it is noise.",
                "s",
                (Query(p.quantile(0.99, s.BUCKETS, c.ROUTE), s.legend(c.ROUTE), exemplars=True),),
                limit=limits.latency_p99,
            ),
            Panel(
                f"Requests slower than {limits.slow_seconds:g} s",
                "Slow requests per second by route, counted exactly (the threshold is a bucket bound). "
                "Start with the route that has most of them.",
                "reqps",
                (Query(slow_by_route, s.legend(c.ROUTE)),),
                stacked=True,
            ),
        ),
    )


def _objectives(limits: Limits) -> Row:
    slow = limits.slow_share.value
    failed = limits.error_rate.value if limits.error_rate else DEFAULT_ERROR_RATE
    windows = ("5m", "1h", "6h")
    burn = [Query(f"{_slow_share(limits, window)} / {slow:g}", f"latency, {window}") for window in windows]
    burn += [Query(f"{_failed_share(window)} / {failed:g}", f"errors, {window}") for window in windows]
    left = (
        Query(f"1 - {_slow_share(limits, '$__range')} / {slow:g}", "latency"),
        Query(f"1 - {_failed_share('$__range')} / {failed:g}", "errors"),
    )
    return Row(
        "Objectives and budget",
        (
            Panel(
                "Budget left",
                "Share of the error budget that the shown time range leaves: at 0 the objective is just "
                "missed, "
                f"below it is broken (at most {slow:.1%} slower than {limits.slow_seconds:g} s, {failed:.1%} "
                "failed). Choose 30 days to see a month. Below 25 %: slow releases down.",
                "percentunit",
                left,
                kind="bars",
                ends=(0, 1),
                width=8,
            ),
            Panel(
                "Burn rate",
                "1 spends the budget exactly; 14.4 over 5 m and 1 h pages, 6 over 6 h pages. A short window "
                "above a long one: it began just now.",
                "short",
                tuple(burn),
                width=8,
            ),
            Panel(
                "Latency against its limit",
                "Share of its latency limit that a route uses, the twelve worst; above 100 % it is over, and "
                "no longer within the budget. Of the default budget; `taximeter dashboards render --budget "
                "FILE` takes yours.",
                "percentunit",
                tuple(_used(limit) for limit in limits.routes),
                kind="bars",
                limit=Limit(1.0, "the budget"),
                width=8,
            ),
        ),
    )


def _routes() -> Row:
    money = f"{p.total(p.rate(c.COST), c.ROUTE)} / ({p.total(s.REQUESTS, c.ROUTE)} > 0)"
    return Row(
        "Routes",
        (
            Panel(
                "Every route",
                "Sort by what worries you. A route with many queries per request or much money per request "
                "is where to begin: `taximeter report` names its statements and models.",
                "short",
                (
                    Query(p.total(s.REQUESTS, c.ROUTE), "requests/s"),
                    *(Query(p.quantile(q, s.BUCKETS, c.ROUTE), f"P{q * 100:g}") for q in (0.5, 0.95, 0.99)),
                    Query(p.ratio(p.total(s.ERRORS, c.ROUTE), p.total(s.REQUESTS, c.ROUTE)), "failed"),
                    Query(p.mean(c.DB_CALLS, c.ROUTE), "queries/request"),
                    Query(money, "USD/request"),
                ),
                kind="table",
                units_by_column={
                    **{"requests/s": "reqps", "P50": "s", "P95": "s", "P99": "s", "failed": "percentunit"},
                    "USD/request": "currencyUSD",
                },
                headings={c.ROUTE: "route"},
                sort_by="P95",
                width=24,
                height=11,
                see=("database", "money"),
            ),
        ),
    )


def _versions() -> Row:
    by = (c.JOB, c.VERSION)
    known = p.select(c.TARGET_INFO, f'{c.VERSION}!=""', scope=p.JOBS)
    return Row(
        "Versions",
        (
            Panel(
                "Instances by version",
                "Which versions run; a dashed marker on every panel is where one appeared. Latency or "
                "queries that change at a marker: compare the two on Before and after. Needs "
                "service.version in OTEL_RESOURCE_ATTRIBUTES.",
                "short",
                (
                    Query(
                        f"count by ({', '.join(by)}) ({known})",
                        f"{s.legend(c.JOB)} {s.legend(c.VERSION)}",
                    ),
                ),
                width=24,
                height=5,
                stacked=True,
                see=("compare",),
            ),
        ),
    )


def _used(limit: RouteLimit) -> Query:
    buckets = p.rate(c.REQUESTS.bucket, *limit.matchers)
    used = f"sort_desc(topk(12, {p.quantile(limit.q, buckets, c.ROUTE)} / {limit.seconds:g} >= 0))"
    return Query(used, f"{s.legend(c.ROUTE)} (P{limit.q * 100:g} of {limit.seconds:g} s)")


def _at_most(limits: Limits) -> str:
    return c.at_most(limits.slow_seconds)


def _slow_share(limits: Limits, window: str) -> str:
    count = p.total(p.rate(c.REQUESTS.count, window=window))
    fast = p.total(p.rate(c.REQUESTS.bucket, _at_most(limits), window=window))
    return f"({count} - {fast}) / ({count} > 0)"


def _failed_share(window: str) -> str:
    errors = p.total(p.rate(c.REQUESTS.count, f'{c.STATUS}=~"5.."', window=window))
    return p.ratio(errors, p.total(p.rate(c.REQUESTS.count, window=window)))
