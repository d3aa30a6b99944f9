"""For every alert: when it must fire, and when it must stay silent.

promtool's notation: ``0+3x10`` is eleven samples, 0, 3, ... 30; ``5x10`` eleven times 5; ``_`` none.
"""

from __future__ import annotations

from taximeter_alerts import recording as r
from taximeter_collector.prometheus import catalogue as c
from tests.alerts.promtool import Case

JOB = 'job="chat",instance="a"'
ROUTE = f'{JOB},{c.ROUTE}="/rooms"'
SCRAPE = f'job="{c.COLLECTOR_JOB}",instance="localhost:8888"'
COUNT, BUCKET = c.REQUESTS.count, c.REQUESTS.bucket


def ok(values: str, labels: str = ROUTE) -> dict[str, str]:
    return {f'{COUNT}{{{labels},{c.STATUS}="200"}}': values}


def failed(values: str, labels: str = ROUTE) -> dict[str, str]:
    return {f'{COUNT}{{{labels},{c.STATUS}="500"}}': values}


def fast(values: str, bound: str = "2.0") -> dict[str, str]:
    return {f'{BUCKET}{{{ROUTE},{c.STATUS}="200",le="{bound}"}}': values}


def job(record: str, values: str) -> dict[str, str]:
    return {f'{record}{{job="chat"}}': values}


def route(record: str, values: str, more: str = "") -> dict[str, str]:
    return {f'{record}{{job="chat",{c.ROUTE}="/rooms"{more}}}': values}


def model(record: str, values: str, name: str = "m") -> dict[str, str]:
    return {f'{record}{{job="chat",{c.MODEL}="{name}"}}': values}


def cache(record: str, values: str) -> dict[str, str]:
    return {f'{record}{{job="chat",{c.CACHE}="embedding"}}': values}


def lookups(values: str) -> dict[str, str]:
    return {f'{c.CACHE_LOOKUPS}{{{ROUTE},{c.CACHE}="embedding"}}': values}


def hits(values: str) -> dict[str, str]:
    return {f'{c.CACHE_HITS}{{{ROUTE},{c.CACHE}="embedding"}}': values}


NODE = f'{c.NODE_CPU}{{job="{c.DATABASE_JOB}",instance="db",cpu="0",mode="idle"}}'
WAITING = f'{c.PGBOUNCER_WAITING}{{instance="db",database="hotel"}}'
BUSY = route(r.ROUTE_REQUESTS, "1x400")


def history(
    alert: str,
    record: str,
    usual: str,
    worse: str,
    slightly: str,
    *,
    context: dict[str, str],
    idle: str = "0.01x300",
) -> list[Case]:
    """What every alert against a value's own history must do and leave. Worse from minute 500 on."""

    def case(why: str, values: str, fires: int, at: str = "540m", **other: dict[str, str]) -> Case:
        series = other.get("context", context)
        name = next(iter(context)).partition("{")[2] if context else ""
        labels = name or 'job="chat"}'
        return Case(alert, why, {f"{record}{{{labels}": values, **series}, at, fires, history=True)

    cases = [
        case("it has become worse", f"{usual}x100 {worse}x40", 1),
        case("it is as ever", f"{usual}x140", 0),
        case("it is worse by little", f"{usual}x100 {slightly}x40", 0),
        case("it has always been so: an old weakness wakes nobody", f"{worse}x140", 0),
        case("a new series without history", f"_x100 {worse}x40", 0),
        case("a peak of five minutes", f"{usual}x100 {worse} {usual}x40", 0),
        case("a gap, as a restart leaves, then as before", f"{usual}x100 _x4 {usual}x40", 0),
        case("it is over", f"{usual}x100 {worse}x10 {usual}x40", 0, at="640m"),
    ]
    if context:
        few = dict.fromkeys(context, idle)
        cases.append(case("worse, but of hardly anything", f"{usual}x100 {worse}x40", 0, context=few))
    return cases


def _version(values: str, name: str, more: dict[str, str] | None = None) -> dict[str, str]:
    usual = route(r.ROUTE_P95, "0.2x400")
    return {**BUSY, **usual, **route(r.VERSION_P95, values, f',{c.VERSION}="{name}"'), **(more or {})}


QUIET_CONTEXT: dict[str, str] = {}
CACHE_BUSY = cache(r.CACHE_LOOKUPS, "2x300")

REQUESTS = [
    # 10 requests a minute; the budget of failures is 0.5 %, of slow requests 1 %.
    Case("TaximeterErrorBudgetBurn", "20 % fail", {**ok("0+48x90"), **failed("0+12x90")}, "80m", 1),
    Case("TaximeterErrorBudgetBurn", "0.2 % fail", {**ok("0+500x90"), **failed("0+1x90")}, "80m", 0),
    Case("TaximeterErrorBudgetBurn", "no failure was ever counted", ok("0+60x90"), "80m", 0),
    Case(
        "TaximeterErrorBudgetBurn",
        "it was bad and is good again",
        {**ok("0+48x60 2881+60x60"), **failed("0+12x60 720x60")},
        "90m",
        0,
    ),
    Case(
        "TaximeterErrorBudgetBurn",
        "one of six requests an hour fails",
        {**ok("0x9 1x9 2x9 3x9 4x9 5x19"), **failed("0x44 1x25")},
        "60m",
        0,
    ),
    Case(
        "TaximeterErrorBudgetBurn",
        "the counter is reset by a restart",
        {**ok("0+60x40 0+60x50"), **failed("0x90")},
        "80m",
        0,
    ),
    Case(
        "TaximeterErrorBudgetBurn",
        "a deploy replaces the instance while all is well",
        {**ok("0+60x40 _x50"), **ok("_x40 0+60x50", ROUTE.replace('"a"', '"b"'))},
        "80m",
        0,
    ),
    Case("TaximeterLatencyBudgetBurn", "a quarter is slow", {**ok("0+60x90"), **fast("0+45x90")}, "80m", 1),
    Case(
        "TaximeterLatencyBudgetBurn",
        "a quarter is slow, bound spelled 2",
        {**ok("0+60x90"), **fast("0+45x90", "2")},
        "80m",
        1,
    ),
    Case("TaximeterLatencyBudgetBurn", "all are fast", {**ok("0+60x90"), **fast("0+60x90")}, "80m", 0),
    *(
        Case(
            f"Taximeter{what}BudgetSlowBurn",
            why,
            {**job(r.JOB_REQUESTS, "1x900"), **job(bad, values)},
            "4500m",
            fires,
            days=True,
        )
        for what, bad, high, low in (
            ("Error", r.JOB_ERRORS, "0.02x900", "0.001x900"),
            ("Latency", r.JOB_SLOW, "0.04x900", "0.002x900"),
        )
        for why, values, fires in (("twice the budget for days", high, 1), ("within the budget", low, 0))
    ),
    *history("TaximeterLatencyRegression", r.ROUTE_P95, "0.2", "0.5", "0.28", context=BUSY),
    Case(
        "TaximeterLatencyRegression",
        "three times as slow, but 30 ms",
        {**BUSY, **route(r.ROUTE_P95, "0.01x100 0.03x40")},
        "540m",
        0,
        history=True,
    ),
    *history(
        "TaximeterQuietRoutesLatencyRegression", r.QUIET_P95, "0.2", "0.5", "0.28", context=QUIET_CONTEXT
    ),
    Case(
        "TaximeterLatencyRegressionNewVersion",
        "the new version is slower",
        _version("_x350 0.5x20", "2"),
        "1800m",
        1,
        history=True,
    ),
    Case(
        "TaximeterLatencyRegressionNewVersion",
        "the new version is as fast",
        _version("_x350 0.21x20", "2"),
        "1800m",
        0,
        history=True,
    ),
    Case(
        "TaximeterLatencyRegressionNewVersion",
        "the version has been there for more than a day",
        _version("0.5x400", "1"),
        "1800m",
        0,
        history=True,
    ),
    *(
        Case("TaximeterRouteAboveBudget", why, {**traffic, **series}, "150m", fires, history=True)
        for why, traffic, series, fires in (
            ("six statements where four are allowed", BUSY, route(r.ROUTE_DB_CALLS, "6x40"), 1),
            (
                "statements and P95, each an alert",
                BUSY,
                {**route(r.ROUTE_DB_CALLS, "6x40"), **route(r.ROUTE_P95, "0.4x40")},
                2,
            ),
            (
                "within its limits",
                BUSY,
                {**route(r.ROUTE_DB_CALLS, "3x40"), **route(r.ROUTE_P95, "0.2x40")},
                0,
            ),
            ("six for five minutes", BUSY, route(r.ROUTE_DB_CALLS, "3x25 6 3x15"), 0),
            ("hardly any traffic", route(r.ROUTE_REQUESTS, "0.01x40"), route(r.ROUTE_DB_CALLS, "6x40"), 0),
        )
    ),
    *history("TaximeterRepeatedStatements", r.ROUTE_REPEATED, "0", "12", "3", context=BUSY),
    *history("TaximeterDatabaseCallsRegression", r.ROUTE_DB_CALLS, "3", "4", "3.5", context=BUSY),
    *history("TaximeterEmbeddingCallsSpike", r.ROUTE_EMBEDDINGS, "0.4", "1", "0.5", context=BUSY),
    *history("TaximeterCacheHitRateDropped", r.CACHE_RATIO, "0.7", "0.3", "0.6", context=CACHE_BUSY),
    *(
        Case("TaximeterCacheHitRateLow", why, {**lookups(of), **hits(got)}, "2880m", fires, days=True)
        for why, of, got, fires in (
            ("half of the lookups hit", "0+60x120", "0+30x120", 1),
            ("nine of ten hit", "0+60x120", "0+54x120", 0),
            ("nothing ever hit, so there is no series of hits", "0+60x120", "_x120", 1),
            ("cold for an hour after a start, then warm", "0+60x120", "0x2 0+55x118", 0),
            ("half hit, but a handful of lookups in a day", "0+2x120", "0+1x120", 0),
            ("a restart resets both counters", "0+60x90 0+60x30", "0+54x90 0+54x30", 0),
        )
    ),
    *(
        Case("TaximeterDatabaseCpu", why, {NODE: values}, "40m", fires)
        for why, values, fires in (
            ("5 % idle", "0+3x60", 1),
            ("half idle", "0+30x60", 0),
            ("busy for five minutes", "0+30x20 601+3x5 616+30x35", 0),
            ("another host's CPU is none of ours", "_x60", 0),
        )
    ),
    *(
        Case("TaximeterPoolerWaiting", why, {WAITING: values}, "40m", fires)
        for why, values, fires in (
            ("seven clients wait all the time", "7x60", 1),
            ("somebody waits now and then", "0 3 0 1 0 4 0 0 2 0x60", 0),
        )
    ),
    Case(
        "TaximeterDatabaseConnections",
        "90 of 100 in use",
        {
            f'{c.PG_BACKENDS}{{instance="db",datname="x"}}': "90x30",
            f'{c.PG_MAX_CONNECTIONS}{{instance="db"}}': "100x30",
        },
        "20m",
        1,
    ),
    Case(
        "TaximeterDatabaseConnections",
        "20 of 100 in use",
        {
            f'{c.PG_BACKENDS}{{instance="db",datname="x"}}': "20x30",
            f'{c.PG_MAX_CONNECTIONS}{{instance="db"}}': "100x30",
        },
        "20m",
        0,
    ),
]

COST = f'{c.COST}{{{ROUTE},{c.MODEL}="m",{c.TENANT}="acme"}}'
UNPRICED = f'{c.UNPRICED}{{{JOB},{c.MODEL}="new"}}'
FIRST = f'{c.FIRST_CHUNK.bucket}{{{JOB},{c.MODEL}="m",le='

EXPENSIVE = model(r.MODEL_COST, "0.01x300")

MONEY = [
    Case("TaximeterDailyCostAboveBudget", "60 USD in a day", {COST: "0+1.2x60"}, "1470m", 1, days=True),
    Case("TaximeterDailyCostAboveBudget", "30 USD in a day", {COST: "0+0.6x60"}, "1470m", 0, days=True),
    Case(
        "TaximeterDailyCostAboveBudget",
        "30 USD in a day, and a restart every two hours",
        {COST: " ".join(["0+0.6x3"] * 15)},
        "1470m",
        0,
        days=True,
    ),
    Case(
        "TaximeterTenantCostAboveBudget", "a tenant spends 30 USD", {COST: "0+0.6x60"}, "1470m", 1, days=True
    ),
    Case(
        "TaximeterTenantCostAboveBudget", "a tenant spends 15 USD", {COST: "0+0.3x60"}, "1470m", 0, days=True
    ),
    Case(
        "TaximeterTenantCostAboveBudget",
        "money without a tenant is not one tenant's",
        {COST.replace(f',{c.TENANT}="acme"', ""): "0+1.2x60"},
        "1470m",
        0,
        days=True,
    ),
    Case(
        "TaximeterMonthlyCostForecast", "40 USD a day", job(r.JOB_COST, "0.000463x400"), "2880m", 1, days=True
    ),
    Case(
        "TaximeterMonthlyCostForecast",
        "40 USD a day, in its first afternoon",
        job(r.JOB_COST, "_x80 0.000463x20"),
        "2880m",
        0,
        days=True,
    ),
    Case(
        "TaximeterMonthlyCostForecast", "20 USD a day", job(r.JOB_COST, "0.000231x400"), "2880m", 0, days=True
    ),
    *history(
        "TaximeterCostSpike",
        r.MODEL_PER_REQUEST,
        "0.001",
        "0.002",
        "0.0014",
        context=EXPENSIVE,
        idle="0.00001x300",
    ),
    *(
        Case(
            "TaximeterCostSpike",
            why,
            {**model(r.MODEL_PER_REQUEST, "0.001x800"), **model(r.MODEL_COST, values)},
            "3000m",
            fires,
            history=True,
        )
        for why, values, fires in (
            ("the price is usual, but a crawler has come", "0.001x580 0.003x40", 1),
            ("the day's peak, as on every day", "0.001x143 0.003x143 0.001x143 0.003x200", 0),
            ("dear since its first hour", "_x580 0.003x40", 0),
        )
    ),
    Case("TaximeterUnpricedModel", "its first calls", {UNPRICED: "_x10 3x10"}, "12m", 1),
    Case("TaximeterUnpricedModel", "more calls later", {UNPRICED: "3x100 3+1x20"}, "115m", 1),
    Case("TaximeterUnpricedModel", "none for hours", {UNPRICED: "3x200"}, "180m", 0),
    Case(
        "TaximeterFirstChunkSlow",
        "three seconds",
        {f'{FIRST}"2.5"}}': "0x60", f'{FIRST}"5.0"}}': "0+10x60", f'{FIRST}"+Inf"}}': "0+10x60"},
        "40m",
        1,
    ),
    Case(
        "TaximeterFirstChunkSlow",
        "half a second",
        {f'{FIRST}"0.5"}}': "0+10x60", f'{FIRST}"5.0"}}': "0+10x60", f'{FIRST}"+Inf"}}': "0+10x60"},
        "40m",
        0,
    ),
]

UP = {f'{c.UP}{{job="{name}",instance="x"}}': "1x60" for name in (c.SCRAPE_JOB, c.COLLECTOR_JOB)}
DOWN = {f'{c.UP}{{job="{name}",instance="x"}}': "1x10 0x50" for name in (c.SCRAPE_JOB, c.COLLECTOR_JOB)}
EXPORTER = f'{{{SCRAPE},exporter="otlp_grpc/tempo",data_type="traces"}}'
RECEIVER = f'{{{SCRAPE},receiver="otlp",transport="http"}}'
LOG = f'{{{SCRAPE},data_type="traces"}}'
AHEAD = f'{c.CLOCK_LEAD}{{{SCRAPE},exporter="prometheus",service="chat"}}'
DROPPED = f'{c.AGENT_DROPPED}{{{JOB},reason="timeout"}}'
ERRORS = f'{c.AGENT_ERRORS}{{{JOB},{c.HOOK}="meters"}}'

PIPELINE = [
    Case("TaximeterWatchdog", "always", UP, "5m", 1),
    Case("TaximeterCollectorDown", "neither endpoint answers", DOWN, "15m", 2),
    Case("TaximeterCollectorDown", "Prometheus has no such target", {"something": "1x20"}, "15m", 1),
    Case("TaximeterCollectorDown", "it answers", UP, "15m", 0),
    Case(
        "TaximeterCollectorDown",
        "one scrape fails, as in a restart",
        dict.fromkeys(UP, "1x10 0 1x50"),
        "12m",
        0,
    ),
    Case("TaximeterTelemetryAbsent", "a service is gone", ok("0+60x30 _x90"), "75m", 1),
    Case("TaximeterTelemetryAbsent", "a service is idle", ok("0+60x30 1800x90"), "75m", 0),
    Case("TaximeterTelemetryAbsent", "a service is restarted", ok("0+60x30 _x5 0+60x60"), "75m", 0),
    Case(
        "TaximeterTelemetryAbsent",
        "a deploy replaces the instance",
        {**ok("0+60x30"), **ok("_x32 0+60x60", ROUTE.replace('"a"', '"b"'))},
        "75m",
        0,
    ),
    Case("TaximeterTelemetryAbsent", "a service is new", ok("_x60 0+60x30"), "75m", 0),
    Case("TaximeterCollectorRefusing", "it refuses", {c.REFUSED_SPANS + RECEIVER: "0x10 0+50x20"}, "20m", 1),
    Case(
        "TaximeterCollectorRefusing",
        "it refused an hour ago",
        {c.REFUSED_SPANS + RECEIVER: "0+50x5 250x90"},
        "70m",
        0,
    ),
    Case(
        "TaximeterCollectorBehind", "a backlog that stays", {c.QUEUE_SIZE + EXPORTER: "0x5 500x60"}, "40m", 1
    ),
    Case("TaximeterCollectorBehind", "a backlog that goes", {c.QUEUE_SIZE + EXPORTER: "500 0x60"}, "40m", 0),
    Case(
        "TaximeterCollectorLogFilling",
        "three quarters full",
        {c.LOG_BYTES + LOG: "75x20", c.LOG_LIMIT + LOG: "100x20"},
        "10m",
        1,
    ),
    Case(
        "TaximeterCollectorLogFilling",
        "nearly empty",
        {c.LOG_BYTES + LOG: "1x20", c.LOG_LIMIT + LOG: "100x20"},
        "10m",
        0,
    ),
    Case(
        "TaximeterCollectorDeadLetters",
        "requests refused for good",
        {c.DEAD_LETTERS + EXPORTER: "0x5 4x20"},
        "10m",
        1,
    ),
    Case(
        "TaximeterCollectorDeadLetters", "none, and a restart", {c.DEAD_LETTERS + EXPORTER: "0x30"}, "20m", 0
    ),
    Case("TaximeterClockAhead", "an hour ahead", {AHEAD: "3600x30"}, "20m", 1),
    Case("TaximeterClockAhead", "two seconds ahead", {AHEAD: "2x30"}, "20m", 0),
    Case("TaximeterClockAhead", "it was for a minute", {AHEAD: "0x5 3600 0x30"}, "20m", 0),
    Case(
        "TaximeterTempoDiscarding",
        "over a limit",
        {f'{c.TEMPO_DISCARDED}{{reason="rate_limited"}}': "0x5 0+100x20"},
        "15m",
        1,
    ),
    Case(
        "TaximeterTempoDiscarding",
        "nothing new",
        {f'{c.TEMPO_DISCARDED}{{reason="rate_limited"}}': "100x30"},
        "15m",
        0,
    ),
    Case(
        "TaximeterCardinalityHigh",
        "80,000 series",
        {f'{c.SAMPLES}{{job="{c.SCRAPE_JOB}",instance="x"}}': "80000x30"},
        "20m",
        1,
    ),
    Case(
        "TaximeterCardinalityHigh",
        "3,000 series",
        {f'{c.SAMPLES}{{job="{c.SCRAPE_JOB}",instance="x"}}': "3000x30"},
        "20m",
        0,
    ),
    Case("TaximeterAgentDroppingSpans", "it drops", {DROPPED: "0x5 0+64x20"}, "15m", 1),
    Case(
        "TaximeterAgentDroppingSpans", "once, and the series begins with it", {DROPPED: "_x5 64x20"}, "15m", 1
    ),
    Case(
        "TaximeterAgentDroppingSpans",
        "the service restarts, and counts anew",
        {DROPPED: "3x120 0x30"},
        "140m",
        0,
    ),
    Case("TaximeterAgentDroppingSpans", "none", {DROPPED: "0x30"}, "15m", 0),
    Case("TaximeterAgentErrors", "it fails", {ERRORS: "0x5 0+1x20"}, "15m", 1),
    Case("TaximeterAgentErrors", "it fails once: the series is born at 1", {ERRORS: "_x5 1x20"}, "15m", 1),
    Case("TaximeterAgentErrors", "it failed once, an hour ago", {ERRORS: "_x5 1x100"}, "70m", 0),
    Case(
        "TaximeterAgentErrors",
        "it fails once in a process that has just started",
        {ERRORS: "3x40", ERRORS.replace('"a"', '"b"'): "_x60 1x20"},
        "70m",
        1,
    ),
    Case("TaximeterAgentErrors", "it failed yesterday", {ERRORS: "3x200"}, "100m", 0),
]

ALL = [*REQUESTS, *MONEY, *PIPELINE]
