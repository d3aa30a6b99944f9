"""Builds the SDK's providers as the agent needs them.

The SDK's own initialiser takes no views and no processor of ours, so the providers are built
here from the same environment variables, through the SDK's helpers for them (private, hence
the exact dependency range). Differences from stock: a duration bucket at 2 s, no response sizes
(they are wrong), spans that are lost are counted, an instance id per process, no spans from the
Anthropic SDK's own tracer, and no ``atexit`` of the SDK (see ``taximeter.shutdown``, which is
bounded in time).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.sdk import _configuration as sdk
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, _TracerConfig
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from taximeter import __version__, export, fork, guard, logexport, metering, redact, retry, semconv, spans

#: Tracers that repeat what an official instrumentor already says.
DOUBLED_SCOPES: Final = frozenset({"com.anthropic.sdk.python"})


def build(
    auto_version: str | None, first: Sequence[SpanProcessor] = ()
) -> tuple[spans.TracerProvider, metering.MeterProvider]:
    """Build and install the global providers; ``first`` see each span before it is exported."""
    fork.install()
    resource = _resource(auto_version)
    span_exporters, metric_exporters, log_exporters = sdk._import_exporters(
        sdk._get_exporter_names("traces"),
        sdk._get_exporter_names("metrics"),
        sdk._get_exporter_names("logs"),
    )
    meters = metering.MeterProvider(
        resource=resource,
        metric_readers=[_reader(kind) for kind in metric_exporters.values()],
        shutdown_on_exit=False,
    )
    metrics.set_meter_provider(meters)
    tracers = spans.TracerProvider(
        sampler=sdk._import_sampler(sdk._get_sampler()),
        id_generator=sdk._import_id_generator(sdk._get_id_generator()),
        resource=resource,
        shutdown_on_exit=False,
        _tracer_configurator=_tracer_config,
    )
    for processor in first:
        tracers.add_span_processor(processor)
    redactor = _redactor()
    for kind in span_exporters.values():
        exporter = _light(kind)()
        retry.improve(exporter, endless=True)
        tracers.add_span_processor(export.CountingProcessor(export.GuardedExporter(exporter, redactor)))
    trace.set_tracer_provider(tracers)
    kinds = [_light(kind) for kind in log_exporters.values()]
    logs = [logexport.build(kinds, resource, redactor)] if kinds else []
    fork.renewing(tracers, meters, *logs)
    return tracers, meters


def _redactor() -> redact.Redactor:
    capture, problem = redact.captured()
    if problem is not None:
        guard.note("settings", problem)
    if "errors" not in capture:
        export.silence_exceptions()
    return redact.Redactor(capture)


def guard_exporters(provider: Any) -> None:
    """Redact what the processors of a provider that was built elsewhere export."""
    redactor = _redactor()
    for processor in provider._active_span_processor._span_processors:
        batch = getattr(processor, "_batch_processor", None)
        if batch is not None:
            batch._exporter = export.GuardedExporter(batch._exporter, redactor)
        elif hasattr(processor, "span_exporter"):
            processor.span_exporter = export.GuardedExporter(processor.span_exporter, redactor)


def _resource(auto_version: str | None) -> Resource:
    attributes: dict[str, Any] = {
        semconv.TELEMETRY_DISTRO_NAME: semconv.DISTRO_NAME,
        semconv.TELEMETRY_DISTRO_VERSION: __version__,
    }
    if auto_version:
        attributes["telemetry.auto.version"] = auto_version
    if not fork.instance_id_given():
        # Not through the environment: child processes would inherit it, and the cumulative
        # metrics of two processes would become one series.
        attributes[semconv.SERVICE_INSTANCE_ID] = str(uuid.uuid4())
    return Resource.create(attributes)


def _reader(kind: Any) -> MetricReader:
    made = _light(kind)()
    if isinstance(made, MetricReader):
        return made
    retry.improve(made, endless=False)
    return PeriodicExportingMetricReader(made)


def _light(kind: Any) -> Any:
    if not kind.__module__.startswith("opentelemetry.exporter.otlp.proto.http"):
        return kind
    from taximeter import sending  # noqa: PLC0415  (loads the OTLP/HTTP exporter)

    return sending.light(kind)


def _tracer_config(scope: InstrumentationScope) -> _TracerConfig:
    return _TracerConfig(is_enabled=scope.name not in DOUBLED_SCOPES)
