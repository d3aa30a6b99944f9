"""The one table of settings: what the agent sets, its default, its type and why.

Defaults go in with ``os.environ.setdefault``, so every standard ``OTEL_*`` variable that the
user has set still wins. :func:`effective` returns what is in force, with secrets removed, for
the one line logged at start. ``docs/`` renders its reference from :data:`SETTINGS`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from typing import Final
from urllib.parse import urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable. ``default`` of ``None`` means: not set by the agent."""

    name: str
    default: str | None
    kind: str  # "text", "int", "float", "bool", "path", "url", "list"
    doc: str


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("OTEL_PYTHON_DISTRO", "taximeter", "text", "Which distro is used when several are installed."),
    Setting("OTEL_PYTHON_CONFIGURATOR", "taximeter", "text", "Which configurator is used; both matter."),
    Setting("OTEL_SERVICE_NAME", None, "text", "Name of the service; set it."),
    Setting(
        "OTEL_RESOURCE_ATTRIBUTES", None, "list", "More resource attributes, key=value, comma-separated."
    ),
    Setting("OTEL_TRACES_EXPORTER", "otlp", "text", "Where spans go."),
    Setting("OTEL_METRICS_EXPORTER", "otlp", "text", "Where metrics go."),
    Setting(
        "OTEL_LOGS_EXPORTER",
        "none",
        "text",
        "Where the service's log lines go; otlp sends them, as the service wrote them, with their trace ids.",
    ),
    Setting(
        "OTEL_PYTHON_LOG_CORRELATION",
        None,
        "bool",
        "true: configures logging with trace and span id in every line (format: OTEL_PYTHON_LOG_FORMAT).",
    ),
    Setting("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "64", "int", "Log records per request, as for spans."),
    Setting("OTEL_BLRP_SCHEDULE_DELAY", "500", "int", "Milliseconds between two exports of log records."),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", None, "url", "Base address of the collector (http://localhost:4318)."
    ),
    Setting("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "text", "gRPC needs the extra [grpc]."),
    Setting(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "30",
        "float",
        "Seconds a batch of metrics is retried, and the longest pause between tries of a batch of spans, "
        "which is tried until the process ends. The SDK's 10 s may not outlive a collector's restart.",
    ),
    Setting(
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "http,database",
        "list",
        "The stable HTTP and database conventions; everything downstream expects their names.",
    ),
    Setting(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "256",
        "int",
        "Spans per request; 64 at most where it is not OTLP over HTTP: others encode a batch at once, "
        "and an event loop waits meanwhile.",
    ),
    Setting("OTEL_BSP_SCHEDULE_DELAY", "1000", "int", "Milliseconds between two exports of spans."),
    Setting(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "16384",
        "int",
        "Spans kept while the collector cannot be reached; beyond it they are dropped and counted.",
    ),
    Setting("OTEL_METRIC_EXPORT_INTERVAL", "15000", "int", "Milliseconds between two exports of metrics."),
    Setting("OTEL_TRACES_SAMPLER", None, "text", "Sampler of spans. Metrics stay exact at any rate."),
    Setting("OTEL_TRACES_SAMPLER_ARG", None, "text", "Argument of the sampler."),
    Setting(
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "4096",
        "int",
        "Longest text in a span attribute: paths and user agents are chosen by strangers.",
    ),
    Setting("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", None, "list", "Instrumentors to leave out."),
    Setting(
        "ANTHROPIC_OPEN_TELEMETRY",
        "false",
        "bool",
        "The Anthropic SDK's own spans: off, because the official instrumentor already makes one a call.",
    ),
    Setting(
        "TAXIMETER_PRICES_FILE",
        None,
        "path",
        "JSON file of contract prices; its models win over the built-in table.",
    ),
    Setting(
        "TAXIMETER_CAPTURE_CONTENT",
        None,
        "list",
        "Kinds of content to export, none by default: errors, urls, sql, messages, clients, or all.",
    ),
    Setting(
        "TAXIMETER_MODEL_HOSTS",
        None,
        "list",
        "Gateways and proxies, comma-separated: a host that passes calls on to the provider the SDK is for, "
        "or host=provider. A server at any other unknown host is a provider of its own, with its own prices.",
    ),
    Setting(
        "TAXIMETER_LABEL_LIMIT",
        "200",
        "int",
        "Distinct values of one label (tenant, model, cache name); later ones become 'other'.",
    ),
    Setting(
        "TAXIMETER_BAGGAGE",
        None,
        "list",
        "Baggage that is believed: tenant=KEY,feature=KEY,segment=KEY. Strangers can send baggage too.",
    ),
    Setting(
        "TAXIMETER_CACHES",
        "redis,cachetools,aiocache",
        "list",
        "Libraries whose cache lookups are counted.",
    ),
    Setting(
        "TAXIMETER_REDIS_CACHES",
        None,
        "list",
        "Names of caches in redis by prefix of the key: embedding=emb:,answer=ans:. Others are 'redis'.",
    ),
    Setting(
        "TAXIMETER_HASH_KEY",
        None,
        "text",
        "Key of the hashes, at least 16 characters, the same for all replicas. Else one is made and kept.",
    ),
    Setting("TAXIMETER_STATE_DIR", None, "path", "Where the made key is kept (~/.local/state/taximeter)."),
    Setting(
        "TAXIMETER_EVIDENCE_INPUTS", "64", "int", "Embedding inputs of a call that are hashed (240); 0: none."
    ),
    Setting(
        "TAXIMETER_EVIDENCE_SIGNATURES",
        "16",
        "int",
        "Returned vectors of a call that are signed, where numpy is loaded (63); 0: none.",
    ),
    Setting(
        "TAXIMETER_EVIDENCE_PROMPT_BLOCKS",
        "96",
        "int",
        "Blocks of a prompt that are hashed (96, some 200,000 characters); 0: none.",
    ),
    Setting(
        "TAXIMETER_EVIDENCE_PARAMETERS",
        "256",
        "int",
        "Values of a statement's parameters that are looked at for its hash (1000); 0: no hash.",
    ),
    Setting(
        "TAXIMETER_EVIDENCE_VALUES",
        "0",
        "int",
        "Single values of parameters and of returned rows hashed a statement (240); off, since it costs.",
    ),
    Setting(
        "TAXIMETER_EVIDENCE_LOOKUPS",
        "64",
        "int",
        "Cache lookups of a request whose key is hashed (100); 0: none. Lookups are counted all the same.",
    ),
    Setting(
        "TAXIMETER_EVIDENCE_CODE",
        "2",
        "int",
        "Lines of the service's code recorded for a database or model call (4); 0: none.",
    ),
    Setting(
        "TAXIMETER_OFFICIAL",
        None,
        "list",
        "Of asgi, database, http and models: where the official instrumentor does all the work itself, at "
        "two to three times the cost. What only it can do (hooks, captured headers, comments in SQL, streams "
        "of models) brings it back too.",
    ),
    Setting(
        "TAXIMETER_SERIES_LIMIT",
        "2000",
        "int",
        "Series of one instrument; later ones are added up under otel.metric.overflow.",
    ),
    Setting(
        "TAXIMETER_FLUSH_TIMEOUT",
        "5",
        "float",
        "Seconds that the last export may take when the process is told to stop.",
    ),
    Setting("TAXIMETER_LOG_LEVEL", "info", "text", "Level of the agent's own log lines (stderr)."),
    Setting("TAXIMETER_STRICT", None, "bool", "Raise the agent's internal failures (tests only)."),
)

#: Variables that are read but never shown: their values may hold credentials.
_SECRET_MARKS = ("HEADERS", "KEY", "CERTIFICATE", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


def apply_defaults(environ: MutableMapping[str, str] | None = None) -> None:
    """Set every default that the user has not set."""
    environ = os.environ if environ is None else environ
    for setting in SETTINGS:
        if setting.default is not None:
            environ.setdefault(setting.name, setting.default)


def effective(environ: MutableMapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """``(variable, value)`` of everything in force, sorted, without secrets or user-info in addresses."""
    environ = os.environ if environ is None else environ
    kinds = {setting.name: setting.kind for setting in SETTINGS}
    for name in sorted(environ):
        if name not in kinds and not name.startswith(("OTEL_", "TAXIMETER_")):
            continue
        if any(mark in name for mark in _SECRET_MARKS):
            yield name, "***"
        elif kinds.get(name) == "url" or name.endswith("_ENDPOINT"):
            yield name, without_user_info(environ[name])
        else:
            yield name, environ[name]


def official(part: str) -> bool:
    """Whether ``TAXIMETER_OFFICIAL`` wants the official implementation of ``part``."""
    return part in {each.strip().lower() for each in os.environ.get("TAXIMETER_OFFICIAL", "").split(",")}


def missing_extra(environ: MutableMapping[str, str] | None = None) -> str | None:
    """What to install, where a setting asks for an exporter that is not there."""
    environ = os.environ if environ is None else environ
    for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
        name = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
        if (
            environ.get(name, "").strip() == "grpc"
            and find_spec("opentelemetry.exporter.otlp.proto.grpc") is None
        ):
            return (
                f"{name}=grpc needs a package that is not installed: pip install 'taximeter[grpc]', "
                "or set it to http/protobuf."
            )
    return None


def number(name: str, environ: MutableMapping[str, str] | None = None) -> float:
    """The setting as a number of at least 0; its default where the value is none (and says so)."""
    from taximeter import guard  # noqa: PLC0415  (kept out of import time: pure users need no logging)

    environ = os.environ if environ is None else environ
    default = next(setting.default for setting in SETTINGS if setting.name == name)
    assert default is not None
    text = environ.get(name, default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < inf:
        return value
    guard.note("settings", f"{name}={text!r} is not a number of at least 0; using {default}.")
    return float(default)


def without_user_info(address: str) -> str:
    """``address`` as it may be shown: without credentials and query."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "***"
    if "@" not in parts.netloc and not parts.query:
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
