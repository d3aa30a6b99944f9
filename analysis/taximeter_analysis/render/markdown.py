"""``BASELINE_METRICS.md``: the report in the shape of an optimisation plan, to be kept beside it.

First the plan's own block of six figures, as the plan writes it, then what stands behind them. Days and
months are the observed pace, extrapolated; where too little was observed the figure is `-` and says why.
"""

from __future__ import annotations

from taximeter_analysis.highlights import highlights
from taximeter_analysis.model import Quantiles, Ranked, Report, Split, Within
from taximeter_analysis.pace import per_day, per_month
from taximeter_analysis.render.text import code, markdown, table
from taximeter_analysis.render.units import (
    UNKNOWN,
    clock,
    compact,
    count,
    limit,
    money,
    per_request,
    percent,
    seconds,
)


def render_markdown(report: Report) -> str:
    """The whole document."""
    sections = (_head, _block, _stands_out, _latency, _time, _queries, _models, _money, _slow, _method)
    return "\n".join(line for section in sections for line in (*section(report), "")).rstrip() + "\n"


def _head(report: Report) -> list[str]:
    names = ", ".join(markdown(name) for name in report.services) or "(no service name)"
    window = report.window
    only = [
        f"{what} {code(name)} only"
        for what, name in (("tenant", report.tenant_filter), ("version", report.version_filter))
        if name is not None
    ]
    return [
        f"# Baseline metrics: {names}",
        "",
        f"{clock(window.first)} to {clock(window.last)} UTC, {seconds(window.observed_s)} observed"
        f"{''.join(', ' + part for part in only)}. {count(report.totals.requests)} requests, "
        f"{count(report.totals.errors)} errors ({percent(report.error_rate)}). "
        f"Made {clock(report.generated_at)} UTC by `taximeter report`.",
    ]


def _block(report: Report) -> list[str]:
    usage, observed = report.totals, report.window.observed_s
    queries = usage.db_calls / usage.requests if usage.db_calls is not None and usage.requests else None
    hits = (
        usage.cache_hits / usage.cache_lookups
        if usage.cache_hits is not None and usage.cache_lookups
        else None
    )
    rows = (
        ("API Response Time (P50):", seconds(report.latency.p50)),
        ("API Response Time (P95):", seconds(report.latency.p95)),
        ("Database Queries per Request:", per_request(queries)),
        ("Embedding API Calls per Day:", count(per_day(usage.embedding_calls, observed))),
        ("Cache Hit Rate:", percent(hits)),
        ("Monthly AI Costs:", _monthly(report)),
    )
    return ["## Baseline", "", "```", *(f"{name:<30}{value}" for name, value in rows), "```"]


def _monthly(report: Report) -> str:
    found = report.projection
    return f"{money(found.monthly_usd)} ({found.reason})" if found.reason else money(found.monthly_usd)


def _stands_out(report: Report) -> list[str]:
    found = [f"- **{markdown(item.subject)}** {markdown(item.text)}" for item in highlights(report)]
    return ["## What stands out", "", *(found or ["Nothing."])]


def _bounds(latency: Quantiles, ranked: tuple[Ranked, ...], q: float) -> str:
    """``1.2 s (1.1 s to 1.4 s)``: a confidence interval, or the bucket of a histogram."""
    known: tuple[Ranked | Within, ...] = (*ranked, *latency.within)
    for each in known:
        if each.q == q:
            low = UNKNOWN if each.low is None else seconds(each.low)
            high = UNKNOWN if each.high is None else seconds(each.high)
            return f"{seconds(each.value)} ({low} to {high})"
    return UNKNOWN


def _latency(report: Report) -> list[str]:
    rows = [
        (
            code(route.label),
            count(route.usage.requests),
            count(route.usage.errors),
            *(_bounds(route.latency, route.ranked, q) for q in (0.5, 0.95, 0.99)),
            count(route.slow_requests),
            percent(route.streamed_share),
            seconds(route.first_byte.p50),
        )
        for route in report.routes
    ]
    rows.append(
        (
            "**all**",
            count(report.totals.requests),
            count(report.totals.errors),
            *(_bounds(report.latency, report.ranked, q) for q in (0.5, 0.95, 0.99)),
            count(report.slow.requests_total),
            "",
            "",
        )
    )
    columns = (
        "Route",
        "Requests",
        "Errors",
        "P50",
        "P95",
        "P99",
        f"≥ {limit(report.slow.threshold_s)}",
        "Streamed",
        "First byte (P50)",
    )
    note = (
        "In brackets the bucket of the histogram that each quantile lies in."
        if report.latency.within
        else "In brackets the 95 % confidence interval of each quantile; `-`: too few requests for one."
    )
    return ["## Response times by route", "", note, "", *table(columns, rows)]


def _time(report: Report) -> list[str]:
    def parts(split: Split) -> list[str]:
        return [
            percent(part / split.whole_s if split.whole_s else 0)
            for part in (split.db_s, split.model_s, split.http_s, split.other_s)
        ]

    rows = [
        (code(route.label), *parts(route.split), seconds(route.split.whole_s / route.usage.requests))
        for route in report.routes
        if route.split is not None
    ]
    if not rows:
        return []
    columns = ("Route", "Database", "Models", "Other calls", "Own", "Mean request")
    return ["## Where the time goes", "", *table(columns, rows)]


def _queries(report: Report) -> list[str]:
    rows = [
        (
            code(route.label),
            per_request(route.db_calls_per_request),
            count(route.usage.db_calls),
            percent(route.db_time_share),
        )
        for route in report.routes
        if route.usage.db_calls
    ]
    lines = [
        "## Database",
        "",
        *table(("Route", "Queries per request", "Queries", "Share of its time"), rows),
    ]
    found = report.repeated
    lines += ["", f"### N+1: one statement {found.min_repeats} times or more within one request", ""]
    if not found.shown:
        return [*lines, "None."]
    columns = ("Route", "Statement", "Requests", "Times (median)", "Time per request", "Example trace")
    return lines + table(
        columns,
        [
            (
                code(item.label),
                code(item.statement, 120),
                count(item.requests),
                per_request(item.repeats_median),
                seconds(item.time_per_request_s),
                code(item.trace_id),
            )
            for item in found.shown
        ],
        left=2,
    )


def _models(report: Report) -> list[str]:
    observed = report.window.observed_s
    routes = [route for route in report.routes if route.usage.embedding_calls or route.usage.cache_lookups]
    lines = ["## Embeddings by endpoint", ""]
    if routes:
        lines += table(
            ("Route", "Calls", "Per request", "Per day", "Texts", "Duplicates", "Cache look-ups", "Hit rate"),
            [
                (
                    code(route.label),
                    count(route.usage.embedding_calls),
                    per_request(route.embedding_calls_per_request),
                    count(per_day(route.usage.embedding_calls, observed)),
                    count(route.usage.embedding_inputs),
                    count(route.usage.embedding_duplicates),
                    count(route.usage.cache_lookups),
                    percent(route.cache_hit_rate),
                )
                for route in routes
            ],
        )
    else:
        lines.append("None.")
    if report.caches:
        rows = [
            (
                "(not named)" if item.name is None else code(item.name),
                count(item.lookups),
                count(item.hits),
                percent(item.hit_rate),
            )
            for item in report.caches
        ]
        lines += ["", "## Caches", "", *table(("Cache", "Look-ups", "Hits", "Hit rate"), rows)]
    return lines


def _money(report: Report) -> list[str]:
    observed = report.window.observed_s
    columns = ("", "Requests", "Tokens in", "Tokens out", "Cost", "Per request", "Per day", "Per month")

    def row(
        name: str, number: int, tokens: tuple[int | None, int | None], cost: float | None
    ) -> tuple[str, ...]:
        each = cost / number if cost is not None and number else None
        paces = (per_day(cost, observed), per_month(cost, observed))
        return name, count(number), *map(compact, tokens), *map(money, (cost, each, *paces))

    def tokens(usage: object) -> tuple[int | None, int | None]:
        return getattr(usage, "input_tokens", None), getattr(usage, "output_tokens", None)

    spending = [route for route in report.routes if route.usage.cost_usd]
    lines = ["## Tokens and money", ""]
    if not spending and not report.models:
        return [*lines, "No model call was priced."]
    groups = (
        (
            "Model",
            [row(f"{code(m.model)} {m.operation}", m.calls, tokens(m), m.cost_usd) for m in report.models],
        ),
        (
            "Route",
            [row(code(r.label), r.usage.requests, tokens(r.usage), r.usage.cost_usd) for r in spending],
        ),
        (
            "Tenant",
            [
                row(
                    "(none)" if t.tenant is None else code(t.tenant),
                    t.usage.requests,
                    tokens(t.usage),
                    t.usage.cost_usd,
                )
                for t in report.tenants
            ],
        ),
    )
    for title, rows in groups:
        if title == "Tenant":
            usage = report.totals
            rows.append(row("**all**", usage.requests, tokens(usage), usage.cost_usd))
        lines += [*table((title, "Calls" if title == "Model" else "Requests", *columns[2:]), rows), ""]
    return [*lines, *(f"- {markdown(caveat)}" for caveat in report.projection.caveats)]


def _slow(report: Report) -> list[str]:
    slow, threshold = report.slow, limit(report.slow.threshold_s)
    lines = [f"## Slow requests and queries (≥ {threshold})", ""]
    lines.append(f"{count(slow.requests_total)} requests, {count(slow.queries_total)} queries.")
    if slow.requests:
        rows = [
            (
                code(item.label),
                code(item.trace_id),
                clock(item.start),
                seconds(item.duration_s),
                str(item.status or UNKNOWN),
            )
            for item in slow.requests
        ]
        lines += ["", *table(("Request", "Trace", "Start (UTC)", "Took", "Status"), rows, left=3)]
    if slow.queries:
        queries = [
            (
                code(item.statement, 120),
                code(item.trace_id),
                code(item.label) if item.label else "",
                seconds(item.duration_s),
            )
            for item in slow.queries
        ]
        lines += ["", *table(("Query", "Trace", "Route", "Took"), queries, left=3)]
    return lines


def _method(report: Report) -> list[str]:
    return [
        "## How the figures are made",
        "",
        f"- Quantiles: {markdown(report.quantile_method)}.",
        "- `-` is not known, which is not 0. Input tokens include cached ones. Money is USD.",
        f"- Month: {markdown(report.projection.method)}.",
        *(f"- {markdown(note)}" for note in report.notes),
    ]
