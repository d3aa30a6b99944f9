"""A canary: one trace and one metric point that nothing else can be mistaken for.

The point's value is the moment it was made, under labels that never change, so that a canary an hour
adds no series.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Final

import httpx
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from taximeter import semconv
from taximeter_collector.prometheus import catalogue as c

SERVICE: Final = "taximeter-verify"
QUERY: Final = f'{c.VERIFY_CANARY}{{{c.JOB}="{SERVICE}"}}'
_SENT: Final = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Canary:
    """What is sent, and what must be found again."""

    trace_id: bytes = field(default_factory=lambda: os.urandom(16))
    moment: int = field(default_factory=lambda: int(time.time()))

    @property
    def trace(self) -> str:
        """The trace id as people write it."""
        return self.trace_id.hex()

    def send(self, url: str) -> None:
        """Send both to a collector's OTLP/HTTP endpoint. Raises httpx.HTTPError."""
        for path, request in (("traces", self._spans()), ("metrics", self._points())):
            answer = httpx.post(
                f"{url.rstrip('/')}/v1/{path}",
                content=request.SerializeToString(),
                headers={"content-type": _SENT},
                timeout=10,
            )
            answer.raise_for_status()

    def _resource(self) -> Resource:
        names = ((semconv.SERVICE_NAME, SERVICE), (semconv.SERVICE_INSTANCE_ID, "canary"))
        return Resource(
            attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in names]
        )

    def _spans(self) -> ExportTraceServiceRequest:
        span = Span(
            trace_id=self.trace_id,
            span_id=self.trace_id[:8],
            name="taximeter verify",
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=self.moment * 10**9,
            end_time_unix_nano=self.moment * 10**9 + 10**6,
        )
        spans = ResourceSpans(resource=self._resource(), scope_spans=[ScopeSpans(spans=[span])])
        return ExportTraceServiceRequest(resource_spans=[spans])

    def _points(self) -> ExportMetricsServiceRequest:
        point = NumberDataPoint(time_unix_nano=self.moment * 10**9, as_double=float(self.moment))
        metric = Metric(
            name=semconv.VERIFY_CANARY,
            description="When the last canary of `taximeter verify` was sent.",
            unit="s",
            gauge=Gauge(data_points=[point]),
        )
        metrics = ResourceMetrics(resource=self._resource(), scope_metrics=[ScopeMetrics(metrics=[metric])])
        return ExportMetricsServiceRequest(resource_metrics=[metrics])
