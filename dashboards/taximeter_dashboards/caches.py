"""Embeddings and caches: how often the same thing is paid for twice, and what a cache saves."""

from __future__ import annotations

from taximeter.semconv import EMBEDDINGS
from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards import standard as s
from taximeter_dashboards.limits import Limits
from taximeter_dashboards.model import Dashboard, Panel, Query, Row

_CACHES = f'{p.ROUTES},{c.CACHE}=~"$cache"'
LOOKUPS = p.total(p.rate(c.CACHE_LOOKUPS, scope=_CACHES), c.CACHE)
HITS = p.total(p.rate(c.CACHE_HITS, scope=_CACHES), c.CACHE)
REPEATS = p.total(p.rate(c.CACHE_REPEATS, scope=_CACHES), c.CACHE)


def dashboard(limits: Limits) -> Dashboard:
    """The page that alerts about caches and embeddings link to."""
    return Dashboard(
        "caches",
        "Taximeter / Embeddings and caches",
        "Embedding calls and their money, hit rate of every cache against its target.",
        (s.JOB, s.ROUTE, s.CACHE),
        (_caches(limits), _embeddings()),
    )


def _caches(limits: Limits) -> Row:
    over = "$__range"
    hits = p.total(p.rate(c.CACHE_HITS, scope=_CACHES, window=over), c.CACHE)
    lookups = p.total(p.rate(c.CACHE_LOOKUPS, scope=_CACHES, window=over), c.CACHE)
    repeats = p.total(p.rate(c.CACHE_REPEATS, scope=_CACHES, window=over), c.CACHE)
    return Row(
        "Caches",
        (
            Panel(
                "Hit rate over the time range",
                "By cache, and its ceiling: the share of lookups that hit or whose key the process had "
                "looked up before, which no size of the cache can exceed. Well below the ceiling: make it "
                "larger, or keep entries longer. Near it and under the target: no size helps; normalise the "
                "keys (`taximeter advise` says by how much).",
                "percentunit",
                (
                    Query(p.ratio(hits, lookups), s.legend(c.CACHE)),
                    Query(p.ratio(repeats, lookups), f"{s.legend(c.CACHE)} ceiling"),
                ),
                kind="bars",
                ends=(0, 1),
                limit=limits.cache_hit_rate,
                width=8,
            ),
            Panel(
                "Hit rate",
                "A sudden fall: a restart emptied it, its key changed, or it is off; a slow fall: the "
                "traffic "
                "became more varied.",
                "percentunit",
                (
                    Query(p.ratio(HITS, LOOKUPS), s.legend(c.CACHE)),
                    Query(p.ratio(REPEATS, LOOKUPS), f"{s.legend(c.CACHE)} ceiling"),
                ),
                limit=limits.cache_hit_rate,
                width=8,
            ),
            Panel(
                "Lookups and misses",
                "Per second. Misses are what is paid for: they should fall after a warm-up.",
                "ops",
                (
                    Query(LOOKUPS, f"{s.legend(c.CACHE)} lookups"),
                    Query(f"{LOOKUPS} - ({HITS} or 0 * {LOOKUPS})", f"{s.legend(c.CACHE)} misses"),
                ),
                width=8,
            ),
        ),
    )


def _embeddings() -> Row:
    calls = p.total(p.rate(c.EMBEDDING_CALLS), c.ROUTE)
    money = p.rate(c.COST, f'{c.OPERATION}="{EMBEDDINGS}"')
    return Row(
        "Embeddings",
        (
            Panel(
                "Embedding calls",
                "Per second by route. Rising with a steady number of requests: a cache stopped hitting, or a "
                "batch re-embeds everything.",
                "ops",
                (Query(calls, s.legend(c.ROUTE)),),
                stacked=True,
            ),
            Panel(
                "Embedding calls per request",
                "Mean, by route. Above 1: inputs could be sent in one call; the plan's target is half as "
                "many.",
                "short",
                (Query(f"{calls} / ({p.total(s.REQUESTS, c.ROUTE)} > 0)", s.legend(c.ROUTE)),),
                decimals=2,
                see=("compare",),
            ),
            Panel(
                "Money for embeddings (USD per hour)",
                "By route. Small against chat (see Models and cost) is not worth a cache.",
                "currencyUSD",
                (Query(f"3600 * {p.total(money, c.ROUTE)}", s.legend(c.ROUTE)),),
                stacked=True,
                decimals=4,
                see=("money",),
            ),
            Panel(
                "Embedded twice by one request",
                "Share of the texts that the same request had already embedded. Above 0: keep the vector in "
                "a "
                "variable, or look it up in a cache.",
                "percentunit",
                (
                    Query(
                        p.ratio(
                            p.total(p.rate(c.EMBEDDING_DUPLICATES), c.ROUTE),
                            p.total(p.rate(c.EMBEDDING_INPUTS), c.ROUTE),
                        ),
                        s.legend(c.ROUTE),
                    ),
                ),
            ),
            Panel(
                "Texts per embedding call",
                "Mean, by route. 1 on a route that embeds several texts: send them in one call.",
                "short",
                (
                    Query(
                        f"{p.total(p.rate(c.EMBEDDING_INPUTS), c.ROUTE)} / ({calls} > 0)", s.legend(c.ROUTE)
                    ),
                ),
                decimals=1,
            ),
            Panel(
                "Embedding time, P95",
                "One call. It stands before the search and so before the first byte: a cache saves this too.",
                "s",
                (
                    Query(
                        p.quantile(
                            0.95,
                            p.rate(
                                c.MODEL_SECONDS.bucket, f'{c.OPERATION}="{EMBEDDINGS}"', scope=p.JOBS
                            ),
                            c.MODEL,
                        ),
                        s.legend(c.MODEL),
                        exemplars=True,
                    ),
                ),
            ),
        ),
    )  # fmt: skip
