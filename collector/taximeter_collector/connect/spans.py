"""``span_metrics`` (alias ``spanmetrics``): calls and durations by service, span name, kind and status.

The official connector's names, units, buckets and dimensions, for the keys that are documented. Unlike
it, what was counted outlives a restart, so there is no ``collector.instance.id`` among the dimensions. A
span kept by sampling counts for as many as it stands for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from taximeter import semconv
from taximeter_collector.connect.connector import Connector
from taximeter_collector.connect.counted import Attributes, Counted, Exemplar, Instrument
from taximeter_collector.log import Log
from taximeter_collector.process.tail_sampling import adjusted_count
from taximeter_collector.values import as_text, plain

BUCKETS_MS = (2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1000, 1400, 2000, 5000, 10_000, 15_000)
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")
_DEFAULTS = (semconv.SERVICE_NAME, "span.name", "span.kind", "status.code")


class SpanMetrics(Connector):
    """One configured connector."""

    def __init__(self, name: str, values: Mapping[str, Any], target: Log) -> None:
        self._values = values
        histogram = values["histogram"]
        self._per_second = 1e3 if histogram["unit"] == "ms" else 1.0
        seconds = histogram["explicit"]["buckets"] or [bound / 1e3 for bound in BUCKETS_MS]
        bounds = tuple(bound * self._per_second for bound in seconds)
        prefix = f"{values['namespace']}." if values["namespace"] else ""
        self._calls = Instrument(f"{prefix}calls", "", "")
        self._duration = Instrument(f"{prefix}duration", histogram["unit"], "", bounds)
        self._kept = [d for d in _DEFAULTS if d not in values["exclude_dimensions"]]
        self._alike: dict[bytes, bytes] = {}  # resource by its key attributes -> the one that is told
        expiration = values["metrics_expiration"]
        super().__init__(
            name,
            target,
            flush_s=values["metrics_flush_interval"],
            idle_s=expiration,
            about="span_metrics 1 " + json.dumps(values, sort_keys=True),
        )

    def empty(self) -> Counted:
        self._alike = {}
        return Counted(
            "spanmetricsconnector",
            (self._calls, self._duration),
            series_limit=self._values["aggregation_cardinality_limit"],
            resource_limit=self._values["resource_metrics_cache_size"],
        )

    def count(self, counted: Counted, payload: bytes, now_ns: int) -> None:
        for group in ExportTraceServiceRequest.FromString(payload).resource_spans:
            about = {pair.key: plain(pair.value) for pair in group.resource.attributes}
            if not about.get(semconv.SERVICE_NAME):
                continue
            resource = self._resource(counted, group.resource)
            for scope in group.scope_spans:
                for span in scope.spans:
                    self._span(counted, resource, about, span, now_ns)

    def _span(
        self, counted: Counted, resource: bytes, about: Mapping[str, Any], span: Any, now_ns: int
    ) -> None:
        own = {pair.key: plain(pair.value) for pair in span.attributes}
        told = own.get(semconv.SAMPLING_ADJUSTED_COUNT)
        weight = told if isinstance(told, float) and told > 0 else adjusted_count(span.trace_state)
        took = max(0, span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 * self._per_second
        labels = self._labels(about, own, span)
        counted.add(resource, self._calls.name, labels, 1, now_ns=now_ns, weight=weight)
        if self._values["histogram"]["disable"]:
            return
        exemplar = None
        if self._values["exemplars"]["enabled"]:
            exemplar = Exemplar(took, span.end_time_unix_nano, span.trace_id, span.span_id)
        counted.add(
            resource, self._duration.name, labels, took, now_ns=now_ns, weight=weight, exemplar=exemplar
        )

    def _labels(self, about: Mapping[str, Any], own: Mapping[str, Any], span: Any) -> Attributes:
        defaults = {
            semconv.SERVICE_NAME: as_text(about[semconv.SERVICE_NAME]),
            "span.name": span.name,
            "span.kind": f"SPAN_KIND_{_KINDS[span.kind] if span.kind < len(_KINDS) else _KINDS[0]}",
            "status.code": f"STATUS_CODE_{_STATUSES[span.status.code] if span.status.code < 3 else 'UNSET'}",
        }
        labels: dict[str, str | int | bool | float] = {name: defaults[name] for name in self._kept}
        for dimension in self._values["dimensions"]:
            name = dimension["name"]
            value = own.get(name, about.get(name, dimension["default"]))
            if value is not None:
                labels[name] = value if isinstance(value, str | int | float) else as_text(value)
        return tuple(labels.items())

    def _resource(self, counted: Counted, resource: Any) -> bytes:
        whole: bytes = resource.SerializeToString()
        names = self._values["resource_metrics_key_attributes"]
        if not names:
            return whole
        if not self._alike:
            for key, _ in counted:
                self._alike.setdefault(_only(Resource.FromString(key.resource), names), key.resource)
        return self._alike.setdefault(_only(resource, names), whole)


def _only(resource: Any, names: list[str]) -> bytes:
    pairs = sorted((p.key, as_text(plain(p.value))) for p in resource.attributes if p.key in names)
    return json.dumps(pairs).encode()
