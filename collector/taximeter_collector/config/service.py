"""``service.telemetry``: the collector's own log and own metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taximeter_collector.config.fields import (
    Key,
    Notes,
    Section,
    anything,
    one_of,
    read_section,
    text,
    whole,
    wrong,
)
from taximeter_collector.errors import ConfigError

_LEVELS = ("debug", "info", "warn", "error")

TELEMETRY = Section(
    {
        "logs": Section(
            {"level": Key(one_of(*_LEVELS, *map(str.upper, _LEVELS)), "info")},
            official=("encoding", "development", "sampling", "output_paths", "error_output_paths",
                      "initial_fields", "disable_caller", "disable_stacktrace", "processors"),
        ),
        "metrics": Section(
            {"level": Key(one_of("none", "basic", "normal", "detailed"), "normal"), "readers": Key(anything)},
            official=("address", "views"),
        ),
    },
    official=("traces", "resource"),
)  # fmt: skip

_PULL = Section(
    {"host": Key(text, "localhost"), "port": Key(whole, 8888)},
    official=("without_scope_info", "without_type_suffix", "without_units", "with_resource_constant_labels"),
)
_READER = Section(
    {"pull": Section({"exporter": Section({"prometheus": _PULL})}, official=("producers",))},
    official=("periodic",),
)


@dataclass(frozen=True)
class Telemetry:
    """``metrics_endpoint`` is None when the own metrics are turned off."""

    log_level: str  # a name of the logging module: DEBUG, INFO, WARNING, ERROR
    metrics_endpoint: str | None


def read_telemetry(values: dict[str, Any]) -> Telemetry:
    """Reduce the official form (a list of readers) to the one address it means here."""
    level = values["logs"]["level"].upper()
    readers = values["metrics"]["readers"]
    path = "service.telemetry.metrics.readers"
    endpoint: str | None = "localhost:8888"
    if readers is not None:
        if not isinstance(readers, list):
            raise wrong(path, readers, "a list of readers")
        if len(readers) > 1:
            raise ConfigError(f"{path}: {len(readers)} readers; Taximeter supports one, a Prometheus pull")
        endpoint = None
        for reader in readers:
            read = read_section(_READER, reader, f"{path}[0]", Notes())
            pull = read["pull"]["exporter"]["prometheus"]
            endpoint = f"{pull['host']}:{pull['port']}"
    if values["metrics"]["level"] == "none":
        endpoint = None
    return Telemetry("WARNING" if level == "WARN" else level, endpoint)
