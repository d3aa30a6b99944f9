"""The recording rules: what alerts compare, made once and cheap enough to look back a week.

Named as Prometheus advises, ``level:metric:operation``. A ratio's numerator is 0 where its series
does not exist yet (no error so far, no hit so far), so a ratio is absent only where nothing was
counted at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_alerts.profile import Profile
from taximeter_alerts.thresholds import Thresholds
from taximeter_collector.prometheus import catalogue as c

JOB_REQUESTS = "job:taximeter_requests:rate"
JOB_ERRORS = "job:taximeter_request_errors:rate"
JOB_SLOW = "job:taximeter_slow_requests:rate"
ROUTE_REQUESTS = "job_route:taximeter_requests:rate"
ROUTE_P95 = "job_route:taximeter_request_seconds:p95"
QUIET_P95 = "job:taximeter_quiet_request_seconds:p95"
VERSION_P95 = "job_route_version:taximeter_request_seconds:p95"
ROUTE_DB_CALLS = "job_route:taximeter_db_calls:per_request"
ROUTE_REPEATED = "job_route:taximeter_db_repeated:per_request"
ROUTE_EMBEDDINGS = "job_route:taximeter_embedding_calls:per_request"
ROUTE_COST = "job_route:taximeter_cost_usd:per_request"
MODEL_COST = "job_model:taximeter_cost_usd:rate"
MODEL_PER_REQUEST = "job_model:taximeter_cost_usd:per_request"
JOB_COST = "job:taximeter_cost_usd:rate"
CACHE_RATIO = "job_cache:taximeter_cache_hits:ratio"
CACHE_LOOKUPS = "job_cache:taximeter_cache_lookups:rate"
FIRST_CHUNK_P95 = "job_model:taximeter_first_chunk_seconds:p95"


@dataclass(frozen=True, slots=True)
class Record:
    """One recording rule."""

    name: str
    expr: str
    empty_when_healthy: str = ""
    """Why it may have no data although all is well; empty: it must have data under load."""


def records(t: Thresholds, p: Profile) -> list[Record]:
    """All recording rules, in an order in which each uses only what stands before it."""
    route = f"{c.JOB}, {c.ROUTE}"
    model = f"{c.JOB}, {c.MODEL}"
    cache = f"{c.JOB}, {c.CACHE}"
    requests = f"rate({c.REQUESTS.count}[{p.short}])"
    db_requests = f"(sum by ({route}) (rate({c.DB_CALLS.count}[{p.short}])) > 0)"
    newest = f'topk by ({c.JOB}, {c.INSTANCE}) (1, timestamp({c.TARGET_INFO}{{{c.VERSION}!=""}}))'
    return [
        Record(JOB_REQUESTS, f"sum by ({c.JOB}) ({requests})"),
        Record(
            JOB_ERRORS,
            f'sum by ({c.JOB}) (rate({c.REQUESTS.count}{{{c.STATUS}=~"5.."}}[{p.short}]))\n'
            f"or 0 * {JOB_REQUESTS}",
        ),
        Record(
            JOB_SLOW,
            f"{JOB_REQUESTS}\n- sum by ({c.JOB}) "
            f"(rate({c.REQUESTS.bucket}{{{c.at_most(t.slow_seconds)}}}[{p.short}]))",
        ),
        Record(ROUTE_REQUESTS, f"sum by ({route}) ({requests})"),
        Record(
            ROUTE_P95,
            f"histogram_quantile(0.95, sum by ({route}, le) (rate({c.REQUESTS.bucket}[{p.short}])))\n"
            f"and {ROUTE_REQUESTS} > 0",
        ),
        Record(
            QUIET_P95,
            f"histogram_quantile(0.95, sum by ({c.JOB}, le) (\n"
            f"  rate({c.REQUESTS.bucket}[{p.quiet}])\n"
            f"  and on ({route}) avg_over_time({ROUTE_REQUESTS}[{p.quiet}]) "
            f"<= {t.min_requests_per_second:g}\n)) >= 0",
            empty_when_healthy="every route has enough traffic",
        ),
        Record(
            VERSION_P95,
            f"histogram_quantile(0.95, sum by ({route}, {c.VERSION}, le) (\n"
            f"  rate({c.REQUESTS.bucket}[{p.short}])\n"
            f"  * on ({c.JOB}, {c.INSTANCE}) group_left ({c.VERSION}) (0 * {newest} + 1)\n)) >= 0",
            empty_when_healthy="the service states no service.version",
        ),
        Record(
            ROUTE_DB_CALLS,
            f"sum by ({route}) (rate({c.DB_CALLS.sum}[{p.short}]))\n/ {db_requests}",
        ),
        Record(
            ROUTE_REPEATED,
            f"(sum by ({route}) (rate({c.DB_REPEATED}[{p.short}])) or 0 * {ROUTE_REQUESTS})\n/ {db_requests}",
        ),
        Record(
            ROUTE_EMBEDDINGS,
            f"(sum by ({route}) (rate({c.EMBEDDING_CALLS}[{p.short}])) or 0 * {ROUTE_REQUESTS})\n"
            f"/ {db_requests}",
        ),
        Record(ROUTE_COST, f"sum by ({route}) (rate({c.COST}[{p.short}]))\n/ {db_requests}"),
        Record(MODEL_COST, f"sum by ({model}) (rate({c.COST}[{p.money}]))"),
        Record(
            MODEL_PER_REQUEST,
            f"{MODEL_COST}\n/ on ({c.JOB}) group_left () "
            f"(sum by ({c.JOB}) (rate({c.REQUESTS.count}[{p.money}])) > 0)",
        ),
        Record(JOB_COST, f"sum by ({c.JOB}) ({MODEL_COST})"),
        Record(CACHE_LOOKUPS, f"sum by ({cache}) (rate({c.CACHE_LOOKUPS}[{p.short}]))"),
        Record(
            CACHE_RATIO,
            f"(sum by ({cache}) (rate({c.CACHE_HITS}[{p.short}])) or 0 * {CACHE_LOOKUPS})\n"
            f"/ ({CACHE_LOOKUPS} > 0)",
        ),
        Record(
            FIRST_CHUNK_P95,
            f"histogram_quantile(0.95, sum by ({model}, le) (rate({c.FIRST_CHUNK.bucket}[{p.short}]))) >= 0",
        ),
    ]
