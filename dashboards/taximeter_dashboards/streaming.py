"""Streaming: how soon a person sees something, and who still has to wait for the whole answer."""

from __future__ import annotations

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards import standard as s
from taximeter_dashboards.limits import Limits
from taximeter_dashboards.model import Dashboard, Panel, Query, Row


def dashboard(limits: Limits) -> Dashboard:
    """The page that alerts about first chunks link to."""
    return Dashboard(
        "streaming",
        "Taximeter / Streaming",
        "Share of routes and answers that stream, time to first byte and to a model's first chunk.",
        (s.JOB, s.ROUTE, s.MODEL),
        (_share(limits), _first(limits)),
    )


def _share(limits: Limits) -> Row:
    calling = f"({p.total(p.rate(c.MODEL_CALLS), c.ROUTE)} > 0)"
    streamed = p.total(p.rate(c.STREAMED), c.ROUTE)
    routes = f"(count({streamed} > 0 and {calling}) or vector(0)) / count({calling})"
    return Row(
        "Who streams",
        (
            Panel(
                "Routes that stream",
                "Share of the routes calling a model that stream their answer; the plan's target is 80 %.",
                "percentunit",
                (Query(routes),),
                kind="stat",
                limit=limits.streaming_share,
                width=6,
            ),
            Panel(
                "Answers that stream",
                "Share of answers sent in several parts, by route. A route with a model and 0 here makes its "
                "guests wait for the last word.",
                "percentunit",
                (
                    # The two counters are exported moments apart.
                    Query(
                        f"clamp_max({p.ratio(streamed, p.total(s.REQUESTS, c.ROUTE))}, 1)", s.legend(c.ROUTE)
                    ),
                ),
                width=18,
            ),
        ),
    )


def _first(limits: Limits) -> Row:
    first = p.rate(c.FIRST_BYTE.bucket)
    chunks = p.rate(c.FIRST_CHUNK.bucket, scope=f'{p.JOBS},{c.MODEL}=~"$model"')
    return Row(
        "How soon",
        (
            Panel(
                "Time to first byte, P95",
                "From the request's start, by route. For a route that streams it should be far below its "
                "P95: "
                "if not, something before the model (embedding, search) is slow, or a proxy buffers.",
                "s",
                (Query(p.quantile(0.95, first, c.ROUTE), s.legend(c.ROUTE), exemplars=True),),
                limit=limits.first_chunk,
            ),
            Panel(
                "A model's first chunk, P95",
                "From the call to its first chunk, by model. Slow on one model: a smaller prompt, a cached "
                "prefix, or another model.",
                "s",
                (Query(p.quantile(0.95, chunks, c.MODEL), s.legend(c.MODEL), exemplars=True),),
                limit=limits.first_chunk,
            ),
            Panel(
                "What streaming saves",
                "P95 of the whole answer less P95 of its first byte, by route: what a guest need not wait. "
                "Near 0: the route does not stream.",
                "s",
                (
                    Query(
                        f"{p.quantile(0.95, s.BUCKETS, c.ROUTE)}\n- {p.quantile(0.95, first, c.ROUTE)}",
                        s.legend(c.ROUTE),
                    ),
                ),
                width=24,
                see=("overview",),
            ),
        ),
    )
