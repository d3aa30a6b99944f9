"""Requests, latency, queries, tokens and money: in all, by route, by tenant and by model.

Reads the tables of :mod:`taximeter_analysis.selection`. Quantiles are exact order statistics;
money is added up with compensated summation, so that totals agree with a ledger to 1e-12.
"""

from __future__ import annotations

from typing import Any

from taximeter_analysis.model import (
    P95_FIRM_FROM,
    P99_FIRM_FROM,
    CacheUsage,
    ModelUsage,
    Quantiles,
    Ranked,
    Route,
    SpanTotals,
    Split,
    Spread,
    TenantUsage,
    Usage,
)
from taximeter_analysis.ranks import by_route
from taximeter_analysis.selection import CHOSEN, IN_WINDOW
from taximeter_analysis.store import Store

NO_ROUTE = "(no route)"

#: The label of a route for people: ``GET /hotels/{hotel}``. A bare server span shows no method.
LABEL = f"concat_ws(' ', method, coalesce(route, '{NO_ROUTE}'))"

_USAGE = """
    count(*), count(*) FILTER (failed), sum(db_calls), fsum(db_s), sum(model_calls),
    sum(model_attempts), sum(embedding_calls), sum(input_tokens),
    sum(output_tokens), sum(cached_tokens), fsum(cost_usd), sum(unpriced_calls),
    sum(cache_lookups), sum(cache_hits), sum(embedding_inputs), sum(embedding_duplicates)"""
_USAGE_COLUMNS = 16

_SPREAD = ", ".join(
    f"CASE WHEN count({column}) > 1 THEN stddev_samp({column}) END"
    for column in (
        "db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens", "cost_usd",
    )
)  # fmt: skip
_SPREAD_COLUMNS = 6

_SPLIT = "fsum(split_db_s), fsum(split_model_s), fsum(split_http_s), fsum(duration_s)"


def _quantiles_sql(column: str) -> str:
    return f"count({column}), quantile_disc({column}, [0.5, 0.95, 0.99]), max({column})"


def quantiles(
    count: int, values: list[float] | None, highest: float | None, per_second: float = 1.0
) -> Quantiles:
    """A `Quantiles` from one row of `_quantiles_sql`; ``per_second`` of its units are one second."""
    p50, p95, p99 = (value / per_second for value in values) if values else (None, None, None)
    return Quantiles(
        count=count,
        p50=p50,
        p95=p95,
        p99=p99,
        max=None if highest is None else highest / per_second,
        p95_weak=count < P95_FIRM_FROM,
        p99_weak=count < P99_FIRM_FROM,
    )


def split_of(
    db_s: float | None, model_s: float | None, http_s: float | None, duration_s: float | None
) -> Split | None:
    """Database, models, other calls and the rest; None when none of the first three is known."""
    if duration_s is None or (db_s is None and model_s is None and http_s is None):
        return None
    db, model, http = db_s or 0.0, model_s or 0.0, http_s or 0.0
    return Split(db_s=db, model_s=model, http_s=http, other_s=max(0.0, duration_s - db - model - http))


def share(part: float | None, whole: float | None) -> float | None:
    """``part / whole``, None when either is unknown or the whole is nothing."""
    return None if part is None or not whole else part / whole


def totals(store: Store) -> tuple[Usage, Quantiles, Split | None, Spread]:
    """All selected requests together."""
    row = store.rows(f"SELECT {_USAGE}, {_quantiles_sql('duration_ns')}, {_SPLIT}, {_SPREAD} FROM req")[0]
    usage, rest = Usage(*row[:_USAGE_COLUMNS]), row[_USAGE_COLUMNS:]
    return (
        usage,
        quantiles(rest[0], rest[1], rest[2], 1e9),
        split_of(*rest[3:7]),
        Spread(*rest[7:]),
    )


def routes(store: Store, slow_s: float, *, bounds: bool = True) -> tuple[Route, ...]:
    """One `Route` per service, method and http.route; those that take most time first.

    Without ``bounds`` their quantiles carry no order statistics.
    """
    found = store.rows(
        f"""
        SELECT service, method, route, any_value({LABEL}), count(*) FILTER (duration_s >= ?),
            avg(streamed::INT),
            {_quantiles_sql("duration_ns")}, {_quantiles_sql("first_byte_s")}, {_SPLIT}, {_SPREAD}, {_USAGE}
        FROM req GROUP BY service, method, route
        ORDER BY sum(duration_ns) DESC, method, route
        """,
        [slow_s],
    )
    ranks = by_route(store) if bounds else {}
    return tuple(_route(row, ranks.get(row[:3], ())) for row in found)


def _route(row: tuple[Any, ...], ranks: tuple[Ranked, ...]) -> Route:
    service, method, route, label, slow, streamed = row[:6]
    latency = quantiles(row[6], row[7], row[8], 1e9)
    first_byte = quantiles(row[9], row[10], row[11])
    db_s, model_s, http_s, duration_s = row[12:16]
    spread = Spread(*row[16 : 16 + _SPREAD_COLUMNS])
    usage = Usage(*row[16 + _SPREAD_COLUMNS :])

    def per_request(figure: float | None) -> float | None:
        return share(figure, usage.requests)

    return Route(
        service=service,
        method=method,
        route=route,
        label=label,
        usage=usage,
        spread=spread,
        latency=latency,
        ranked=ranks,
        first_byte=first_byte,
        split=split_of(db_s, model_s, http_s, duration_s),
        error_rate=usage.errors / usage.requests,
        db_calls_per_request=per_request(usage.db_calls),
        db_time_share=share(db_s, duration_s),
        model_time_share=share(model_s, duration_s),
        model_calls_per_request=per_request(usage.model_calls),
        embedding_calls_per_request=per_request(usage.embedding_calls),
        cost_per_request_usd=per_request(usage.cost_usd),
        cache_hit_rate=share(usage.cache_hits, usage.cache_lookups),
        streamed_share=streamed,
        slow_requests=slow,
    )


def tenants(store: Store) -> tuple[TenantUsage, ...]:
    """One `TenantUsage` per tenant, those without one together; most money first."""
    found = store.rows(
        f"""SELECT tenant, {_USAGE} FROM req GROUP BY tenant
        ORDER BY fsum(cost_usd) DESC NULLS LAST, count(*) DESC, tenant"""
    )
    return tuple(TenantUsage(row[0], Usage(*row[1:])) for row in found)


def models(store: Store) -> tuple[ModelUsage, ...]:
    """One `ModelUsage` per model, provider and operation, from the calls' spans; most money first."""
    found = store.rows(
        f"""
        SELECT model, ai_provider, coalesce(ai_operation, 'other'), count(*), count(*) FILTER (failed),
            sum(input_tokens), sum(output_tokens), sum(cached_tokens), fsum(cost_usd),
            count(*) FILTER (cost_usd IS NULL AND NOT failed), {_quantiles_sql("duration_ns")}
        FROM calls WHERE family IN ('model', 'embedding', 'priced') GROUP BY 1, 2, 3
        ORDER BY fsum(cost_usd) DESC NULLS LAST, count(*) DESC, 1, 2, 3
        """
    )
    return tuple(ModelUsage(*[*row[:10], quantiles(row[10], row[11], row[12], 1e9)]) for row in found)


def caches(store: Store, totals: Usage) -> tuple[CacheUsage, ...]:
    """By cache name, from the requests' evidence; what that does not name (off, or over its bound) is one."""
    found = store.rows(
        """
        SELECT split_part(part, '=', 1), sum(len(string_split(part, ','))),
            sum(length(part) - length(replace(part, '+', '')))
        FROM (SELECT unnest(string_split(cache_keys, ' ')) AS part FROM picked WHERE cache_keys <> '')
        GROUP BY 1 ORDER BY 2 DESC, 1
        """
    )
    rows: list[tuple[str | None, int, int]] = [(name, int(number), int(hits)) for name, number, hits in found]
    lookups = (totals.cache_lookups or 0) - sum(number for _, number, _ in rows)
    if lookups > 0:
        rows.append((None, lookups, max(0, (totals.cache_hits or 0) - sum(hits for _, _, hits in rows))))
    return tuple(CacheUsage(*row, share(row[2], row[1])) for row in rows)


def span_totals(store: Store) -> SpanTotals:
    """The totals counted a second time, from spans alone."""
    requests = store.rows(f"SELECT count(*) FROM spans WHERE kind = 'server' AND {IN_WINDOW} AND {CHOSEN}")[
        0
    ][0]
    row = store.rows(
        """
        SELECT count(*) FILTER (family = 'db'), count(*) FILTER (family = 'model'),
            count(*) FILTER (family = 'embedding'), coalesce(sum(input_tokens), 0),
            coalesce(sum(output_tokens), 0), coalesce(sum(cached_tokens), 0),
            coalesce(fsum(cost_usd), 0),
            count(*) FILTER (family = 'db' AND owner_id IS NULL),
            count(*) FILTER (family = 'model' AND owner_id IS NULL),
            count(*) FILTER (family = 'embedding' AND owner_id IS NULL),
            coalesce(fsum(cost_usd) FILTER (owner_id IS NULL), 0)
        FROM calls
        """
    )[0]
    return SpanTotals(requests, *row)
