"""Metrics over OTLP/HTTP, encoded a few series at a time.

The official encoder takes 9 us a series in one go: 50 ms for the 5,000 series of 200 routes, during which
an event loop gets the interpreter every 5 ms at best. Here the exporting thread pauses in between. What is
sent is the same; settings, retries and the client are the official exporter's.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder import _encode_metric
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from taximeter import guard, otlp, retry

_SLICE: Final = 16  # series: 0.15 ms
_PAUSE: Final = 5e-5


class MetricExporter(OTLPMetricExporter):
    """The official exporter with another encoder."""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        if self._shutdown or self._max_export_batch_size is not None:
            return super().export(metrics_data, timeout_millis, **kwargs)
        try:
            data = encode(metrics_data)
        except Exception as error:
            guard.caught("metrics.encode", error)
            return MetricExportResult.FAILURE
        if 0 < self._max_request_size < len(data):
            return super().export(metrics_data, timeout_millis, **kwargs)  # which says so
        done = self._client.export(data).success
        return MetricExportResult.SUCCESS if done else MetricExportResult.FAILURE


def encode(data: MetricsData) -> bytes:
    """An ExportMetricsServiceRequest; it is built like one of spans."""
    encoded: list[otlp.Encoded] = []
    series = 0
    for resource in data.resource_metrics:
        for part in resource.scope_metrics:
            for metric in part.metrics:
                message = Metric(
                    name=metric.name, description=metric.description or "", unit=metric.unit or ""
                )
                every = metric.data.data_points
                for at in range(0, len(every), _SLICE):
                    some = replace(metric.data, data_points=every[at : at + _SLICE])  # type: ignore[arg-type]
                    _encode_metric(replace(metric, data=some), message)  # type: ignore[no-untyped-call]  # it adds
                    series += len(some.data_points)
                    if series >= _SLICE and not retry.hurrying():
                        series = 0
                        time.sleep(_PAUSE)
                encoded.append((resource.resource, part.scope, message.SerializeToString()))
    return otlp.request(encoded)
