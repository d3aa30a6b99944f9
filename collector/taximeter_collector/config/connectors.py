"""The keys of the connectors, and which signals they take and make."""

from __future__ import annotations

from typing import Any

from taximeter_collector.config.fields import (
    Key,
    Notes,
    Section,
    boolean,
    duration,
    names,
    one_of,
    read_section,
    text,
    whole,
    wrong,
)
from taximeter_collector.errors import ConfigError

_DIMENSION = Section({"name": Key(text), "default": Key(text)}, official=("glob",))


def dimensions(value: Any, path: str) -> list[dict[str, Any]]:
    """A list of attributes by name, each with its default or None."""
    if not isinstance(value, list):
        raise wrong(path, value, "a list of dimensions")
    found = [read_section(_DIMENSION, item, f"{path}[{at}]", Notes()) for at, item in enumerate(value)]
    for at, item in enumerate(found):
        if not item["name"]:
            raise ConfigError(f"{path}[{at}].name: is required")
    return found


def durations(value: Any, path: str) -> list[float]:
    """Rising seconds."""
    if not isinstance(value, list):
        raise wrong(path, value, "a list of durations such as [10ms, 1s]")
    found = [duration(item, f"{path}[{at}]") for at, item in enumerate(value)]
    if found != sorted(set(found)):
        raise wrong(path, value, "a list of rising durations")
    return found


_CACHE = Key(whole, 1000)

CONNECTORS: dict[str, Section] = {
    "request_metrics": Section(  # Taximeter's own
        {
            "metrics_flush_interval": Key(duration, 5.0),
            "aggregation_cardinality_limit": Key(whole, 2000),  # series per resource, then one for the rest
            "resource_metrics_cache_size": _CACHE,
            # false where the services send http.server.request.duration themselves
            "server_duration": Key(boolean, True),
        }
    ),
    "span_metrics": Section(
        {
            "namespace": Key(text, "traces.span.metrics"),
            "dimensions": Key(dimensions, []),
            "exclude_dimensions": Key(names, []),
            "histogram": Section(
                {
                    "disable": Key(boolean, False),
                    "unit": Key(one_of("ms", "s"), "ms"),
                    "explicit": Section({"buckets": Key(durations, [])}),
                },
                official=("exponential", "dimensions"),
            ),
            "exemplars": Section(
                {
                    "enabled": Key(boolean, False),
                    "max_per_data_point": Key(whole, 5, "a bucket tells its newest exemplar"),
                }
            ),
            "aggregation_temporality": Key(
                one_of("AGGREGATION_TEMPORALITY_CUMULATIVE"), "AGGREGATION_TEMPORALITY_CUMULATIVE"
            ),
            "metrics_flush_interval": Key(duration, 60.0),
            "metrics_expiration": Key(duration, 0.0),
            "resource_metrics_cache_size": _CACHE,
            "resource_metrics_key_attributes": Key(names, []),
            "aggregation_cardinality_limit": Key(
                whole, 10_000, differs="officially 0, no limit: strangers choose span names"
            ),
            "dimensions_cache_size": Key(whole, 1000, "aggregation_cardinality_limit bounds the series"),
        },
        official=(
            "calls_dimensions", "series_expiration", "metric_timestamp_cache_size", "events",
            "include_instrumentation_scope", "add_resource_attributes", "enable_metrics_sampling_method",
        ),
    ),
}  # fmt: skip

#: connector -> (signals it takes, signals it makes)
CONNECTOR_SIGNALS = {
    "request_metrics": (("traces",), ("metrics",)),
    "span_metrics": (("traces",), ("metrics",)),
}
