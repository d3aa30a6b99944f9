"""What Taximeter says: the same figures from its span store and from its Prometheus metrics."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from examples.demo.ledgers import Figures
from taximeter import semconv
from taximeter_analysis.store import Store

_ACCOUNT = {
    "db_calls": semconv.REQUEST_DB_CALLS,
    "model_calls": semconv.REQUEST_MODEL_CALLS,
    "embedding_calls": semconv.REQUEST_EMBEDDING_CALLS,
    "attempts": semconv.REQUEST_MODEL_ATTEMPTS,
    "input_tokens": semconv.REQUEST_TOKENS_INPUT,
    "output_tokens": semconv.REQUEST_TOKENS_OUTPUT,
    "cached_tokens": semconv.REQUEST_TOKENS_CACHED,
}


@dataclass(frozen=True)
class Sample:
    """One sample of an exposition: ``name{labels} value``."""

    name: str
    labels: dict[str, str]
    value: float


def parse_exposition(text: str) -> list[Sample]:
    """The samples of an OpenMetrics text."""
    return [
        Sample(sample.name, sample.labels, float(sample.value))
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    ]


def prometheus_name(name: str) -> str:
    """An OpenTelemetry metric name as Prometheus spells it, without suffixes."""
    return name.replace(".", "_")


def from_metrics(samples: Iterable[Sample]) -> Figures:
    """Add up counters and histograms over all routes, tenants, models and service instances."""
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_name[sample.name].append(sample)

    def of(name: str) -> list[Sample]:
        # A field of the account is a counter or a histogram; its sum is what the books want.
        base = prometheus_name(name)
        return by_name[f"{base}_total"] + by_name[f"{base}_sum"]

    requests = by_name[prometheus_name(semconv.HTTP_SERVER_REQUEST_DURATION) + "_seconds_count"]
    status = prometheus_name(semconv.HTTP_RESPONSE_STATUS_CODE)
    route, tenant = prometheus_name(semconv.HTTP_ROUTE), prometheus_name(semconv.TENANT)
    money = of(semconv.COST_USD)
    tokens = of(semconv.REQUEST_TOKENS_INPUT) + of(semconv.REQUEST_TOKENS_OUTPUT)
    return Figures(
        requests=math.fsum(sample.value for sample in requests),
        errors=math.fsum(s.value for s in requests if s.labels.get(status, "500") >= "500"),
        cost_usd=math.fsum(sample.value for sample in money),
        requests_by_route=_by(requests, route),
        cost_by_route=_by(money, route),
        tokens_by_route=_by(tokens, route),
        cost_by_hotel=_by(money, tenant),
        **{field: math.fsum(sample.value for sample in of(name)) for field, name in _ACCOUNT.items()},
    )


def _by(samples: Iterable[Sample], label: str) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        groups[sample.labels.get(label, "")].append(sample.value)
    sums = {key: math.fsum(values) for key, values in groups.items()}
    return {key: value for key, value in sums.items() if value}


#: A call that found no connection was asked of nobody.
_ASKED = f"NOT (error_type IS NOT NULL AND coalesce(attributes['{semconv.MODEL_ATTEMPTS}'], '') = '0')"
_CACHES = ", ".join(f"'{name}'" for name in semconv.CACHE_SYSTEMS)
_CALLS = f"""
SELECT
    count(*) FILTER (kind = 'client' AND db_system NOT IN ({_CACHES})) AS db_calls,
    count(*) FILTER (ai_operation <> '{semconv.EMBEDDINGS}' AND {_ASKED}) AS model_calls,
    count(*) FILTER (ai_operation = '{semconv.EMBEDDINGS}' AND {_ASKED}) AS embedding_calls,
    coalesce(sum(ai_input_tokens), 0) AS input_tokens,
    coalesce(sum(ai_output_tokens), 0) AS output_tokens,
    coalesce(sum(ai_cache_read_tokens), 0) AS cached_tokens,
    coalesce(fsum(cost_usd), 0) AS cost_usd
FROM spans
"""
_ACCOUNTS = """
SELECT
    coalesce(sum(db_calls), 0) AS db_calls,
    coalesce(sum(model_calls), 0) AS model_calls,
    coalesce(sum(embedding_calls), 0) AS embedding_calls,
    coalesce(sum(input_tokens), 0) AS input_tokens,
    coalesce(sum(output_tokens), 0) AS output_tokens,
    coalesce(sum(cached_tokens), 0) AS cached_tokens,
    coalesce(fsum(cost_usd), 0) AS cost_usd
FROM requests
"""
_REQUESTS = """
SELECT count(*) AS requests, count(*) FILTER (http_status >= 500 OR http_status IS NULL) AS errors,
    coalesce(sum(model_attempts), 0) AS attempts
FROM requests
"""
_SPAN_GROUPS = """
SELECT coalesce(requests.{key}, ''), fsum(spans.cost_usd),
    sum(coalesce(spans.ai_input_tokens, 0) + coalesce(spans.ai_output_tokens, 0))
FROM spans JOIN requests USING (trace_hi, trace_lo, service) WHERE spans.ai_operation IS NOT NULL GROUP BY 1
"""
_ACCOUNT_GROUPS = """
SELECT coalesce({key}, ''), fsum(cost_usd), sum(input_tokens + output_tokens) FROM requests GROUP BY 1
"""


def from_spans(store: Store) -> Figures:
    """Calls, tokens and money from the *spans* of the calls; requests from the server spans.

    Attempts are on no span of their own, so they come from the account.
    """
    return _from_store(store, _CALLS, _SPAN_GROUPS)


def from_accounts(store: Store) -> Figures:
    """The same from the *request accounts*: what each request says that it caused."""
    return _from_store(store, _ACCOUNTS, _ACCOUNT_GROUPS)


def _from_store(store: Store, calls: str, groups: str) -> Figures:
    figures = Figures()
    for sql in (calls, _REQUESTS):
        for name, value in _one(store, sql).items():
            setattr(figures, name, value)
    by_route = "SELECT coalesce(http_route, ''), count(*) FROM requests GROUP BY 1"
    figures.requests_by_route = {row[0]: float(row[1]) for row in store.rows(by_route)}
    routes = store.rows(groups.format(key="http_route"))
    figures.cost_by_route = {row[0]: row[1] for row in routes if row[1]}
    figures.tokens_by_route = {row[0]: float(row[2]) for row in routes if row[2]}
    tenants = store.rows(groups.format(key="tenant"))
    figures.cost_by_hotel = {row[0]: row[1] for row in tenants if row[1]}
    return figures


def _one(store: Store, sql: str) -> dict[str, float]:
    # A one-row query as a dictionary: the names are the query's own.
    names = [row[0] for row in store.rows(f"DESCRIBE {sql}")]
    return {name: float(value) for name, value in zip(names, store.rows(sql)[0], strict=True)}


def server_durations(store: Store) -> dict[str, int]:
    """Trace id (32 hex digits) -> duration of its server span, nanoseconds."""
    rows = store.rows("SELECT trace_hi, trace_lo, duration_ns FROM requests")
    return {f"{high:016x}{low:016x}": duration for high, low, duration in rows}
