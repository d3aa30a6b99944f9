"""From a configured component to its exporter: the one place that knows all of them."""

from __future__ import annotations

from pathlib import Path

from taximeter_collector.auth import make_authenticator
from taximeter_collector.config.loader import CollectorConfig
from taximeter_collector.directory import state_file
from taximeter_collector.export.base import Exporter
from taximeter_collector.own_metrics import OwnMetrics


def make_exporter(config: CollectorConfig, name: str, directory: Path, own: OwnMetrics) -> Exporter:
    """The exporter ``exporters.<name>``, not yet started; ``directory`` is the data directory."""
    # Imported when used: together they are half of the time a start takes.
    component = config.exporters[name]
    values = component.values
    made: Exporter
    match component.type:
        case "otlp_grpc":
            from taximeter_collector.export.otlp_grpc import OtlpGrpcExporter  # noqa: PLC0415

            made = OtlpGrpcExporter(name, values, make_authenticator(config, values))
        case "otlp_http":
            from taximeter_collector.export.otlp_http import OtlpHttpExporter  # noqa: PLC0415

            made = OtlpHttpExporter(name, values, make_authenticator(config, values))
        case "prometheus":
            from taximeter_collector.prometheus.exporter import PrometheusExporter  # noqa: PLC0415

            pipelines = [p.id for p in config.pipelines if name in p.exporters]
            made = PrometheusExporter(name, values, state_file(directory, name), pipelines, own)
        case "prometheus_remote_write":
            from taximeter_collector.prometheus.remote_write import RemoteWriteExporter  # noqa: PLC0415

            authenticator = make_authenticator(config, values)
            made = RemoteWriteExporter(name, values, state_file(directory, name), own, authenticator)
        case "span_store":
            from taximeter_collector.store.writer import SpanStoreExporter  # noqa: PLC0415

            made = SpanStoreExporter(name, values, own)
        case "file":
            from taximeter_collector.export.file import FileExporter  # noqa: PLC0415

            made = FileExporter(name, values)
        case "debug":
            from taximeter_collector.export.debug import DebugExporter  # noqa: PLC0415

            made = DebugExporter(name)
        case _:
            raise AssertionError(component.type)
    return made
