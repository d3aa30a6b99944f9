"""Requests, latency, queries, tokens and money: in all, by route, by tenant and by model.

Reads the tables of :mod:`taximeter_analysis.selection`. Quantiles are exact order statistics;
money is added up with compensated summation, so that totals agree with a ledger to 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from taximeter_analysis.ranks import ranks
from taximeter_analysis.rollup import SPREAD, deviation, roll_up, with_means
from taximeter_analysis.selection import CHOSEN, IN_WINDOW
from taximeter_analysis.store import Store

NO_ROUTE = "(no route)"

#: The label of a route for people: ``GET /hotels/{hotel}``. A bare server span shows no method.
LABEL = f"concat_ws(' ', method, coalesce(route, '{NO_ROUTE}'))"

#: From ``rolled``: the columns of a `Usage`, of a `Spread`, and what `split_of` wants.
_USAGE = """
    coalesce(sum(requests), 0)::BIGINT, coalesce(sum(errors), 0)::BIGINT, sum(db_calls), fsum(db_s),
    sum(model_calls), sum(model_attempts), sum(embedding_calls), sum(input_tokens),
    sum(output_tokens), sum(cached_tokens), fsum(cost_usd), sum(unpriced_calls),
    sum(cache_lookups), sum(cache_hits), sum(embedding_inputs), sum(embedding_duplicates)"""
_USAGE_COLUMNS = 16
_SPREAD = ", ".join(map(deviation, SPREAD))
_SPREAD_COLUMNS = len(SPREAD)
_SPLIT = "fsum(split_db_s), fsum(split_model_s), fsum(split_http_s), sum(duration_ns) / 1e9"

#: Calls to models, embeddings and other priced ones, of requests and outside of them.
_USES = """
SELECT unnest(uses, recursive := true) FROM (SELECT uses FROM req WHERE uses IS NOT NULL)
UNION ALL BY NAME
SELECT model, ai_provider AS provider, ai_operation AS operation, failed, input_tokens, output_tokens,
    cached_tokens, cost_usd, duration_ns AS ns
FROM outside WHERE family IN ('model', 'embedding', 'priced')"""


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


def latency_of(ranked: Sequence[Ranked], highest_ns: int | None) -> Quantiles:
    """A `Quantiles` from the order statistics around its three and the longest."""
    values = [sample.value for sample in ranked]
    return quantiles(
        ranked[0].count if ranked else 0, values or None, None if highest_ns is None else highest_ns / 1e9
    )


def totals(store: Store) -> tuple[Usage, Quantiles, Split | None, Spread]:
    """All selected requests together."""
    roll_up(store)
    row = store.rows(f"SELECT max(longest_ns), {_SPLIT}, {_SPREAD}, {_USAGE} FROM {with_means('')}")[0]
    spread, usage = row[5 : 5 + _SPREAD_COLUMNS], row[5 + _SPREAD_COLUMNS :]
    return Usage(*usage), latency_of(ranks(store).of_all, row[0]), split_of(*row[1:5]), Spread(*spread)


def routes(store: Store, *, bounds: bool = True) -> tuple[Route, ...]:
    """One `Route` per service, method and http.route; those that take most time first.

    Without ``bounds`` their quantiles carry no order statistics.
    """
    roll_up(store)
    key = "service, method, route"
    found = store.rows(
        f"""
        SELECT {key}, any_value({LABEL}), sum(streams) / nullif(sum(streamable), 0), max(longest_ns),
            sum(slow)::BIGINT, {_SPLIT}, {_SPREAD}, {_USAGE}
        FROM {with_means(key)} GROUP BY {key} ORDER BY sum(duration_ns) DESC, method, route
        """
    )
    held, nothing = ranks(store), (0, None, None)
    return tuple(
        _route(
            row,
            held.by_route.get(row[:3], ()),
            quantiles(*held.first_byte.get(row[:3], nothing)),
            bounds=bounds,
        )
        for row in found
    )


def _route(row: tuple[Any, ...], ranked: tuple[Ranked, ...], first_byte: Quantiles, *, bounds: bool) -> Route:
    service, method, route, label, streamed, longest_ns, slow = row[:7]
    db_s, model_s, http_s, duration_s = row[7:11]
    spread = Spread(*row[11 : 11 + _SPREAD_COLUMNS])
    usage = Usage(*row[11 + _SPREAD_COLUMNS :])

    def per_request(figure: float | None) -> float | None:
        return share(figure, usage.requests)

    return Route(
        service=service,
        method=method,
        route=route,
        label=label,
        usage=usage,
        spread=spread,
        latency=latency_of(ranked, longest_ns),
        ranked=ranked if bounds else (),
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
    roll_up(store)
    found = store.rows(
        f"""SELECT tenant, {_USAGE} FROM rolled GROUP BY tenant
        ORDER BY fsum(cost_usd) DESC NULLS LAST, sum(requests) DESC, tenant"""
    )
    return tuple(TenantUsage(row[0], Usage(*row[1:])) for row in found)


def models(store: Store) -> tuple[ModelUsage, ...]:
    """One `ModelUsage` per model, provider and operation, from the calls' spans; most money first."""
    found = store.rows(
        f"""
        SELECT model, provider, coalesce(operation, 'other'), count(*), count(*) FILTER (failed),
            sum(input_tokens), sum(output_tokens), sum(cached_tokens), fsum(cost_usd),
            count(*) FILTER (cost_usd IS NULL AND NOT failed), {_quantiles_sql("ns")}
        FROM ({_USES}) GROUP BY 1, 2, 3
        ORDER BY fsum(cost_usd) DESC NULLS LAST, count(*) DESC, 1, 2, 3
        """
    )
    return tuple(ModelUsage(*[*row[:10], quantiles(row[10], row[11], row[12], 1e9)]) for row in found)


def caches(store: Store, totals: Usage) -> tuple[CacheUsage, ...]:
    """By cache name, from the requests' evidence; what that does not name (off, or over its bound) is one."""
    found = store.rows(
        """
        SELECT split_part(part, '=', 1), sum(times * len(string_split(part, ','))),
            sum(times * (length(part) - length(replace(part, '+', ''))))
        FROM (
            SELECT unnest(string_split(looked_up, ' ')) AS part, times FROM (
                SELECT CASE WHEN contains(cache_keys, ',') OR contains(cache_keys, ' ') THEN cache_keys
                    ELSE left(cache_keys, strpos(cache_keys, '=') + 1)  -- one look-up: without its hash
                    END AS looked_up, count(*) AS times
                FROM picked WHERE cache_keys <> '' GROUP BY 1))
        GROUP BY 1 ORDER BY 2 DESC, 1
        """
    )
    rows: list[tuple[str | None, int, int]] = [(name, int(number), int(hits)) for name, number, hits in found]
    lookups = (totals.cache_lookups or 0) - sum(number for _, number, _ in rows)
    if lookups > 0:
        rows.append((None, lookups, max(0, (totals.cache_hits or 0) - sum(hits for _, _, hits in rows))))
    return tuple(CacheUsage(*row, share(row[2], row[1])) for row in rows)


def span_totals(store: Store) -> SpanTotals:
    """The totals counted a second time, from spans alone.

    Of the calls that belong to a request compaction has kept the sums, apart from its account.
    """
    roll_up(store)
    requests = store.rows(f"SELECT count(*) FROM spans WHERE kind = 'server' AND {IN_WINDOW} AND {CHOSEN}")[
        0
    ][0]
    owned = store.rows(
        """
        SELECT sum(seen_db_calls), sum(seen_model_calls), sum(seen_embedding_calls), sum(seen_input_tokens),
            sum(seen_output_tokens), sum(seen_cached_tokens), fsum(seen_cost_usd)
        FROM rolled
        """
    )[0]
    outside = store.rows(
        """
        SELECT count(*) FILTER (family = 'db'), count(*) FILTER (family = 'model'),
            count(*) FILTER (family = 'embedding'), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
            fsum(cost_usd)
        FROM outside
        """
    )[0]
    whole = [(one or 0) + (other or 0) for one, other in zip(owned, outside, strict=True)]
    return SpanTotals(requests, *(*whole[:6], float(whole[6]), *outside[:3], outside[6] or 0.0))
