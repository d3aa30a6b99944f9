"""The three OTLP signals: names, paths and message types, in one table.

A merged request is the concatenation of serialised ones, because each is one repeated
field: parts that forward never build Python objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


def _count_spans(request: Any) -> int:
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def _count_logs(request: Any) -> int:
    return sum(len(scope.log_records) for resource in request.resource_logs for scope in resource.scope_logs)


def _count_points(request: Any) -> int:
    points = 0
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                if kind:
                    points += len(getattr(metric, kind).data_points)
    return points


@dataclass(frozen=True)
class Signal:
    """One kind of telemetry. ``noun`` is the official own-metrics suffix (spans, ...)."""

    name: str
    noun: str
    path: str  # OTLP/HTTP
    service: str  # OTLP/gRPC full service name; the method is Export
    request: type[Message]
    response: type[Message]
    rejected_field: str  # of ExportXPartialSuccess
    count: Callable[[Any], int]

    @property
    def method(self) -> str:
        return f"/{self.service}/Export"


SIGNALS: dict[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal(
            "traces",
            "spans",
            "/v1/traces",
            "opentelemetry.proto.collector.trace.v1.TraceService",
            trace_service_pb2.ExportTraceServiceRequest,
            trace_service_pb2.ExportTraceServiceResponse,
            "rejected_spans",
            _count_spans,
        ),
        Signal(
            "metrics",
            "metric_points",
            "/v1/metrics",
            "opentelemetry.proto.collector.metrics.v1.MetricsService",
            metrics_service_pb2.ExportMetricsServiceRequest,
            metrics_service_pb2.ExportMetricsServiceResponse,
            "rejected_data_points",
            _count_points,
        ),
        Signal(
            "logs",
            "log_records",
            "/v1/logs",
            "opentelemetry.proto.collector.logs.v1.LogsService",
            logs_service_pb2.ExportLogsServiceRequest,
            logs_service_pb2.ExportLogsServiceResponse,
            "rejected_log_records",
            _count_logs,
        ),
    )
}
