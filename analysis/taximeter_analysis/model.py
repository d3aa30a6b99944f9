"""The report as data: every figure, its unit and what its absence means.

This is the contract of ``taximeter report --format json``: `Report.to_dict` gives plain
dictionaries, lists, numbers, strings and None (never NaN), with ``schema_version`` first.
``schema()`` in :mod:`taximeter_analysis.model_schema` renders the same classes as JSON Schema,
so the text next to a field is its documentation.

Throughout: times are seconds, money is USD, tokens are tokens, instants are Unix seconds.
None means *not known* (nobody measured it), which is not 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any

SCHEMA_VERSION = 1

#: The smallest samples for which an upper 95 % confidence bound of the quantile exists at all:
#: 0.95^59 < 0.05 and 0.99^299 < 0.05. Below them the quantile is little more than the maximum.
P95_FIRM_FROM = 59
P99_FIRM_FROM = 299

QUANTILE_METHOD = (
    "exact order statistic (nearest rank): the ceil(q*n)-th smallest of all n durations, failed requests "
    "included; weak when fewer than 59 (P95) or 299 (P99) requests were seen"
)


@dataclass(frozen=True)
class Within:
    """The bucket of a histogram in which a quantile lies: all that is known of it for certain."""

    q: Annotated[float, "0.5, 0.95 or 0.99"]
    value: Annotated[float, "seconds, by linear interpolation between the two"]
    low: Annotated[float, "seconds; the quantile is above"]
    high: Annotated[float | None, "seconds; it is at or below; None: the histogram's last bucket has no end"]


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of a set of durations, in seconds: exact, or, from a histogram, within its buckets."""

    count: Annotated[int, "how many durations"]
    p50: Annotated[float | None, "None when there are none"]
    p95: float | None
    p99: float | None
    max: float | None
    p95_weak: Annotated[bool, "fewer than 59 durations: no confidence bound for P95 exists"]
    p99_weak: Annotated[bool, "fewer than 299 durations: no confidence bound for P99 exists"]
    within: Annotated[tuple[Within, ...], "empty where the quantiles are exact"] = ()


@dataclass(frozen=True)
class Ranked:
    """A quantile with its bounds and the order statistics around it: what a later comparison needs.

    ``values[i]`` is the value of rank ``first + i * step`` among all ``count`` durations, smallest first.
    """

    q: Annotated[float, "0.5, 0.95 or 0.99"]
    count: int
    value: Annotated[float, "seconds"]
    low: Annotated[float | None, "lower bound, holding with 95 % confidence; None: too few durations"]
    high: Annotated[float | None, "upper bound, holding with 95 % confidence; None: too few durations"]
    first: int
    step: int
    values: tuple[float, ...]


def bounds_of(
    latency: Quantiles, ranked: tuple[Ranked, ...], q: float
) -> tuple[float | None, float | None] | None:
    """Between what a quantile lies: 95 % confidence bounds, else its histogram's bucket; None: not known."""
    known: tuple[Ranked | Within, ...] = (*ranked, *latency.within)
    return next(((each.low, each.high) for each in known if each.q == q), None)


@dataclass(frozen=True)
class Spread:
    """Standard deviations over requests of what one request causes; None: not known, or one request."""

    db_calls: float | None
    model_calls: float | None
    embedding_calls: float | None
    input_tokens: float | None
    output_tokens: float | None
    cost_usd: float | None


@dataclass(frozen=True)
class Usage:
    """What a set of requests caused. Sums over the requests that carry the figure."""

    requests: int
    errors: Annotated[int, "requests with a 5xx status or whose span failed"]
    db_calls: Annotated[int | None, "statements sent; transaction control excluded"]
    db_time_s: Annotated[float | None, "summed over the calls; parallel calls count twice"]
    model_calls: Annotated[int | None, "chat, responses, messages; embeddings excluded"]
    model_attempts: Annotated[int | None, "HTTP tries of model and embedding calls, retries included"]
    embedding_calls: int | None
    input_tokens: Annotated[int | None, "cached and embedding tokens included"]
    output_tokens: int | None
    cached_tokens: Annotated[int | None, "the part of input_tokens read from the provider's cache"]
    cost_usd: Annotated[float | None, "None when no call was priced"]
    unpriced_calls: Annotated[int | None, "calls whose money is not in cost_usd"]
    cache_lookups: int | None
    cache_hits: int | None
    embedding_inputs: Annotated[int | None, "texts sent to be embedded"]
    embedding_duplicates: Annotated[int | None, "of these, texts that had been embedded before"]


@dataclass(frozen=True)
class Split:
    """Where the time of requests went, in seconds; the four add up to the requests' durations.

    Parallel calls count once. Where several kinds were busy at a time it is model time, else database time.
    """

    db_s: float
    model_s: float
    http_s: Annotated[float, "other outgoing HTTP calls"]
    other_s: Annotated[float, "the service's own time: none of the three was busy"]

    @property
    def whole_s(self) -> float:
        return self.db_s + self.model_s + self.http_s + self.other_s


@dataclass(frozen=True)
class Route:
    """One method and http.route of one service."""

    service: str | None
    method: str | None
    route: Annotated[str | None, "None: no route matched, shown as (no route)"]
    label: Annotated[str, "method and route as shown to people"]
    usage: Usage
    spread: Spread
    latency: Quantiles
    ranked: Annotated[tuple[Ranked, ...], "P50, P95 and P99 of latency with bounds"]
    first_byte: Annotated[Quantiles, "time to first byte of the requests that sent a body"]
    split: Annotated[Split | None, "None when the service traces neither database nor model calls"]
    error_rate: float
    db_calls_per_request: float | None
    db_time_share: Annotated[float | None, "part of the requests' time in which the database alone was busy"]
    model_time_share: float | None
    model_calls_per_request: float | None
    embedding_calls_per_request: float | None
    cost_per_request_usd: float | None
    cache_hit_rate: Annotated[float | None, "hits / lookups; None without lookups"]
    streamed_share: float | None
    slow_requests: Annotated[int, "requests at or over the slow threshold"]


@dataclass(frozen=True)
class TenantUsage:
    """One tenant's (hotel's) part."""

    tenant: Annotated[str | None, "None: requests without a tenant"]
    usage: Usage


@dataclass(frozen=True)
class ModelUsage:
    """One model's part, from the spans of its calls."""

    model: Annotated[str | None, "response model, else request model"]
    provider: str | None
    operation: Annotated[str, "chat, embeddings, ..."]
    calls: int
    errors: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: float | None
    unpriced_calls: Annotated[int, "calls that succeeded and carry no price"]
    latency: Quantiles


@dataclass(frozen=True)
class CacheUsage:
    """One of the service's caches, over all routes."""

    name: Annotated[str | None, "None: look-ups whose cache no evidence names"]
    lookups: int
    hits: int
    hit_rate: Annotated[float | None, "hits / lookups"]


@dataclass(frozen=True)
class SlowRequest:
    """A request at or over the slow threshold."""

    trace_id: str
    service: str | None
    label: str
    start: Annotated[float, "Unix seconds"]
    duration_s: float
    status: int | None
    error: bool
    tenant: str | None
    split: Split | None
    db_calls: int | None
    model_calls: int | None
    cost_usd: float | None


@dataclass(frozen=True)
class SlowQuery:
    """A database call at or over the slow threshold."""

    trace_id: str
    span_id: str
    service: str | None
    label: Annotated[str | None, "the request's route; None: outside of any request"]
    start: float
    duration_s: float
    statement: Annotated[str | None, "db.query.text, else db.query.summary"]
    rows: int | None


@dataclass(frozen=True)
class Slow:
    """The slow requests and queries: how many, and the worst of them."""

    threshold_s: float
    requests_total: int
    queries_total: int
    requests: Annotated[tuple[SlowRequest, ...], "longest first"]
    queries: Annotated[tuple[SlowQuery, ...], "longest first"]


@dataclass(frozen=True)
class Repeated:
    """One statement sent again and again within single requests of one route (N+1)."""

    service: str | None
    label: str
    statement: str
    requests: Annotated[int, "requests that sent it at least min_repeats times"]
    repeats_median: float
    repeats_max: int
    time_per_request_s: Annotated[float, "mean over those requests, summed over the calls"]
    total_time_s: float
    calls: Annotated[int, "how often it was sent in those requests"]
    trace_id: Annotated[str, "the request with the most repeats"]


@dataclass(frozen=True)
class RepeatedStatements:
    """The worst N+1."""

    min_repeats: int
    total: Annotated[int, "route and statement pairs found; shown are the worst"]
    shown: Annotated[tuple[Repeated, ...], "most time first"]


@dataclass(frozen=True)
class SpanTotals:
    """The same totals counted from the spans alone: a second, independent count.

    Spans of the selected requests, and those that belong to no request (start-up, background work).
    """

    requests: Annotated[int, "server spans"]
    db_calls: int
    model_calls: int
    embedding_calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float
    outside_db_calls: Annotated[int, "of these, outside of any request"]
    outside_model_calls: int
    outside_embedding_calls: int
    outside_cost_usd: float


@dataclass(frozen=True)
class Projection:
    """What the observed AI spending would come to in a month of 30 days."""

    monthly_usd: Annotated[float | None, "None: see reason"]
    reason: Annotated[str | None, "why there is no figure"]
    method: str
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Bucket:
    """One step of the timeline, by the requests' start."""

    start: float
    requests: int
    errors: int
    p50: float | None
    p95: float | None
    cost_usd: float


@dataclass(frozen=True)
class Timeline:
    """The window in equal steps, empty ones included."""

    step_s: float
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True)
class Bar:
    """One span of a waterfall."""

    name: str
    detail: Annotated[str | None, "statement or model"]
    service: str | None
    group: Annotated[str, "request, db, model, http or other"]
    depth: int
    offset_s: float
    duration_s: float
    error: bool
    cost_usd: float | None


@dataclass(frozen=True)
class Waterfall:
    """All spans of one request's trace, in order of start."""

    trace_id: str
    label: str
    duration_s: float
    spans_total: int
    bars: Annotated[tuple[Bar, ...], "the first 200 at most"]


@dataclass(frozen=True)
class Window:
    """What was looked at, and when something was seen."""

    since: Annotated[float | None, "asked for; None: from the start of the store"]
    until: Annotated[float | None, "asked for, exclusive; None: to its end"]
    first: Annotated[float, "start of the first request (or span)"]
    last: Annotated[float, "end of the last request (or span)"]
    observed_s: Annotated[float, "last - first: the time that rates are taken over"]


@dataclass(frozen=True)
class Report:
    """Everything ``taximeter report`` says about one store and window."""

    generated_at: Annotated[float, "Unix seconds"]
    store: str
    window: Window
    services: tuple[str, ...]
    service_filter: str | None
    tenant_filter: str | None
    version_filter: str | None
    totals: Usage
    error_rate: float | None
    requests_per_second: Annotated[float | None, "None when nothing can be said (under two requests)"]
    spread: Spread
    latency: Quantiles
    ranked: Annotated[tuple[Ranked, ...], "P50, P95 and P99 of all requests together, with bounds"]
    split: Split | None
    totals_from_spans: SpanTotals
    routes: Annotated[tuple[Route, ...], "most time in all first"]
    tenants: Annotated[tuple[TenantUsage, ...], "most money first, then requests"]
    models: Annotated[tuple[ModelUsage, ...], "most money first, then calls"]
    slow: Slow
    repeated: RepeatedStatements
    projection: Projection
    timeline: Timeline
    slowest: Annotated[Waterfall | None, "the longest request; None without requests"]
    notes: Annotated[tuple[str, ...], "what the reader must know to read the figures right"]
    caches: Annotated[tuple[CacheUsage, ...], "most look-ups first"] = ()
    quantile_method: str = QUANTILE_METHOD
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; ``schema_version`` first."""
        data = dataclasses.asdict(self)
        return {"schema_version": data.pop("schema_version"), **data}
