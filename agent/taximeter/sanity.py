"""Settings that cannot work are replaced by ones that can, with one clear line each.

The SDK's answer to a queue size of ``abc`` is an exception while it is configured, which costs
all telemetry, and a queue size of 10 billion would cost the host its memory. So every number is
held against what it may be, and every name against what is installed, before anything reads
them. Pure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, MutableMapping
from importlib.metadata import entry_points
from typing import Final
from urllib.parse import urlsplit

from taximeter.settings import SETTINGS

#: Whole numbers and the range that each may have; the upper ends bound memory.
_COUNTS: Final[dict[str, tuple[int, int]]] = {
    "OTEL_BSP_MAX_QUEUE_SIZE": (1, 1_000_000),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": (1, 100_000),
    "OTEL_BSP_SCHEDULE_DELAY": (1, 3_600_000),
    "OTEL_BSP_EXPORT_TIMEOUT": (1, 3_600_000),
    "OTEL_METRIC_EXPORT_INTERVAL": (10, 86_400_000),
    "OTEL_METRIC_EXPORT_TIMEOUT": (1, 86_400_000),
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": (1, 10_000_000),
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": (1, 10_000_000),
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": (0, 100_000),
    "OTEL_ATTRIBUTE_COUNT_LIMIT": (0, 100_000),
    "OTEL_SPAN_EVENT_COUNT_LIMIT": (0, 100_000),
    "OTEL_SPAN_LINK_COUNT_LIMIT": (0, 100_000),
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": (0, 100_000),
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": (0, 100_000),
    "TAXIMETER_LABEL_LIMIT": (0, 100_000),
}
_SECONDS: Final[dict[str, tuple[float, float]]] = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": (0.001, 3600.0),
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": (0.001, 3600.0),
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": (0.001, 3600.0),
    "TAXIMETER_FLUSH_TIMEOUT": (0.0, 3600.0),
}
_ADDRESSES: Final = tuple(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "METRICS_"))
_COMPRESSIONS: Final = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}COMPRESSION" for signal in ("", "TRACES_", "METRICS_")
)
_PLUGINS: Final = {
    "OTEL_TRACES_EXPORTER": "opentelemetry_traces_exporter",
    "OTEL_METRICS_EXPORTER": "opentelemetry_metrics_exporter",
    "OTEL_LOGS_EXPORTER": "opentelemetry_logs_exporter",
    "OTEL_PYTHON_ID_GENERATOR": "opentelemetry_id_generator",
}
_SAMPLERS: Final = (
    *("always_on", "always_off", "traceidratio"),
    *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
)
_EXEMPLARS: Final = ("always_on", "always_off", "trace_based")

_Valid = Callable[[str], str | None]  # what is wrong with a value, if anything


def repair(environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Replace what cannot work in ``environ``; one line for each: what was wrong and what holds now."""
    environ = os.environ if environ is None else environ
    defaults = {setting.name: setting.default for setting in SETTINGS}
    problems = []
    for name, valid in _rules(environ):
        value = environ.get(name, "").strip()
        if not value or (wrong := valid(value)) is None:
            continue
        default = defaults.get(name)
        if default is None:
            del environ[name]
        else:
            environ[name] = default
        # The value of an address may hold credentials.
        shown = "" if name in _ADDRESSES else f"={value[:80]!r}"
        problems.append(f"{name}{shown} {wrong}; using {'its default' if default is None else default}.")
    batch, queue = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE"
    if batch in environ and queue in environ and int(environ[batch]) > int(environ[queue]):
        problems.append(
            f"{batch}={environ[batch]} is more than {queue}={environ[queue]}; using the latter for both."
        )
        environ[batch] = environ[queue]
    return problems


def _rules(environ: MutableMapping[str, str]) -> Iterator[tuple[str, _Valid]]:
    for name, (low, high) in _COUNTS.items():
        yield name, _number(int, low, high, "a whole number")
    for name, (least, most) in _SECONDS.items():
        yield name, _number(float, least, most, "a number")
    for name in _ADDRESSES:
        # gRPC takes an address without a scheme.
        if environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip() != "grpc":
            yield name, _address
    for name in _COMPRESSIONS:
        yield name, _one_of(("none", "gzip", "deflate"))
    for name, group in _PLUGINS.items():
        yield name, _installed(group)
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    yield "OTEL_TRACES_SAMPLER", _one_of((*_SAMPLERS, *_names("opentelemetry_traces_sampler")))
    if sampler.endswith("traceidratio"):
        yield "OTEL_TRACES_SAMPLER_ARG", _number(float, 0.0, 1.0, "a number")
    yield "OTEL_METRICS_EXEMPLAR_FILTER", _one_of(_EXEMPLARS)
    yield "TAXIMETER_LOG_LEVEL", _one_of(("debug", "info", "warning", "error", "critical"))


def _number(kind: Callable[[str], float], low: float, high: float, what: str) -> _Valid:
    def valid(value: str) -> str | None:
        try:
            fine = low <= kind(value) <= high
        except ValueError:
            fine = False
        return None if fine else f"is not {what} from {low:,} to {high:,}"

    return valid


def _one_of(names: tuple[str, ...]) -> _Valid:
    return lambda value: None if value.lower() in names else f"is none of {', '.join(names)}"


def _names(group: str) -> tuple[str, ...]:
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def _installed(group: str) -> _Valid:
    def valid(value: str) -> str | None:
        known = {"none", "otlp", *_names(group)}
        unknown = [name for name in (word.strip() for word in value.split(",")) if name not in known]
        return f"names what is not installed ({', '.join(unknown)})" if unknown else None

    return valid


def _address(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    return None if fine else "is not an address such as http://localhost:4318"
