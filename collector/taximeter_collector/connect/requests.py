"""``request_metrics``: the agent's metrics by route, for services that run without the agent.

Counts the server spans of whole traces, after ``request_account`` has written their accounts: the same
names, units, labels and buckets as the agent's own, so dashboards, alerts and budgets need not know who
counted. Services with the agent count themselves, and are left out. A span with an upstream sampler's
threshold in its tracestate counts for as many as it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taximeter import semconv
from taximeter.bounds import BOUNDS, COST_BOUNDS, DB_CALLS_BOUNDS
from taximeter_collector.connect.connector import Connector
from taximeter_collector.connect.counted import Attributes, Counted, Exemplar, Instrument
from taximeter_collector.log import Log
from taximeter_collector.process import raw
from taximeter_collector.process.account import Request, requests
from taximeter_collector.process.tail_sampling import adjusted_count

_DURATION = semconv.HTTP_SERVER_REQUEST_DURATION
_SPENT = "Money spent on models"
#: Account fields that are counters by route alone, and those also by who pays.
_COUNTERS = (
    Instrument(semconv.REQUEST_DB_DURATION, "s", "Time spent in statements."),
    Instrument(semconv.REQUEST_DB_REPEATED, "{call}", "Statements already sent by the same request."),
    Instrument(semconv.REQUEST_MODEL_CALLS, "{call}", "Model calls, embeddings excluded."),
    Instrument(semconv.REQUEST_EMBEDDING_CALLS, "{call}", "Embedding calls."),
    Instrument(semconv.REQUEST_UNPRICED_CALLS, "{call}", "Calls whose price is unknown."),
)
_PAID = (
    Instrument(semconv.REQUEST_TOKENS_INPUT, "{token}", "Input tokens, cached ones included."),
    Instrument(semconv.REQUEST_TOKENS_OUTPUT, "{token}", "Output tokens."),
    Instrument(semconv.REQUEST_TOKENS_CACHED, "{token}", "Input tokens read from a cache."),
)
_INSTRUMENTS = (
    *_COUNTERS,
    *_PAID,
    Instrument(_DURATION, "s", "Duration of HTTP server requests.", BOUNDS[_DURATION]),
    Instrument(semconv.REQUEST_DB_CALLS, "{call}", "Statements sent per request.", DB_CALLS_BOUNDS),
    Instrument(semconv.REQUEST_COST, "{USD}", f"{_SPENT} per request.", COST_BOUNDS),
    Instrument(semconv.COST_USD, "{USD}", f"{_SPENT}."),
    Instrument(semconv.UNPRICED_CALLS, "{call}", "Calls whose price is unknown, by model."),
)
#: Labels of the duration, with the names older instrumentations give them.
_LABELS = (
    (semconv.HTTP_REQUEST_METHOD, "http.method"),
    (semconv.HTTP_ROUTE,),
    (semconv.HTTP_RESPONSE_STATUS_CODE, "http.status_code"),
    ("url.scheme", "http.scheme"),
    ("network.protocol.version", "http.flavor"),
    (semconv.ERROR_TYPE,),
)
_MAX_LABEL = 128


class RequestMetrics(Connector):
    """``server_duration: false``: the services send ``http.server.request.duration`` themselves."""

    def __init__(self, name: str, values: Mapping[str, Any], target: Log) -> None:
        self._server_duration: bool = values["server_duration"]
        self._limits = (values["aggregation_cardinality_limit"], values["resource_metrics_cache_size"])
        super().__init__(
            name, target, flush_s=values["metrics_flush_interval"], idle_s=300, about="request_metrics 1"
        )

    def empty(self) -> Counted:
        return Counted(
            "taximeter.collector", _INSTRUMENTS, series_limit=self._limits[0], resource_limit=self._limits[1]
        )

    def count(self, counted: Counted, payload: bytes, now_ns: int) -> None:
        traces: dict[bytes, list[raw.RawSpan]] = {}
        for part in raw.spans(payload):
            traces.setdefault(part.trace_id, []).append(part)
        for parts in traces.values():
            for request in requests(parts):
                if self.first_time(request.span.trace_id, request.span.span_id, now_ns):
                    self._count(counted, request, now_ns)

    def _count(self, counted: Counted, request: Request, now_ns: int) -> None:
        about, span = request.about, request.span
        weight = adjusted_count(span.trace_state)

        def add(metric: str, labels: Attributes, value: float) -> None:
            counted.add(
                request.resource, metric, labels, value, now_ns=now_ns, weight=weight, exemplar=exemplar
            )

        seconds = max(0, span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        exemplar = Exemplar(seconds, span.end_time_unix_nano, span.trace_id, span.span_id)
        if self._server_duration and any(name in about for name in _LABELS[0]):
            add(_DURATION, _labels(about), seconds)
        if semconv.REQUEST_DB_CALLS not in about:  # it came too late for an account
            return
        route = _some(about, semconv.HTTP_ROUTE)
        exemplar = exemplar._replace(value=about[semconv.REQUEST_DB_CALLS])
        add(semconv.REQUEST_DB_CALLS, route, about[semconv.REQUEST_DB_CALLS])
        for counter in _COUNTERS:
            if about[counter.name]:
                add(counter.name, route, about[counter.name])
        if not (about[semconv.REQUEST_MODEL_CALLS] or about[semconv.REQUEST_EMBEDDING_CALLS]):
            return
        paying = route + _some(about, semconv.TENANT, semconv.FEATURE, semconv.SEGMENT)
        for counter in _PAID:
            if about[counter.name]:
                add(counter.name, paying, about[counter.name])
        exemplar = exemplar._replace(value=about[semconv.REQUEST_COST])
        add(semconv.REQUEST_COST, route, about[semconv.REQUEST_COST])
        for (provider, model, operation), amount in request.money.items():
            payer = (
                (semconv.GEN_AI_PROVIDER_NAME, provider[:_MAX_LABEL]),
                (semconv.GEN_AI_REQUEST_MODEL, model[:_MAX_LABEL]),
                (semconv.GEN_AI_OPERATION_NAME, operation[:_MAX_LABEL]),
            )
            add(semconv.COST_USD, paying + payer, amount)
        for (provider, model, reason), calls in request.unpriced.items():
            labels = (
                (semconv.GEN_AI_PROVIDER_NAME, provider[:_MAX_LABEL]),
                (semconv.GEN_AI_REQUEST_MODEL, model[:_MAX_LABEL]),
                ("reason", reason[:_MAX_LABEL]),
            )
            add(semconv.UNPRICED_CALLS, labels, calls)


def _labels(about: Mapping[str, Any]) -> Attributes:
    found: list[tuple[str, str | int]] = []
    for name, *older in _LABELS:
        value = next((about[n] for n in (name, *older) if about.get(n) not in (None, "")), None)
        if isinstance(value, int) and not isinstance(value, bool):
            found.append((name, value))
        elif value is not None:
            found.append((name, str(value)[:_MAX_LABEL]))
    return tuple(found)


def _some(about: Mapping[str, Any], *names: str) -> Attributes:
    return tuple((name, str(about[name])[:_MAX_LABEL]) for name in names if about.get(name))
