"""From files to one validated :class:`CollectorConfig`, or one :class:`ConfigError` that says what to change.

Several files are merged as the official collector does it: mappings key by key, anything
else replaced by the later file. ``${env:NAME}`` and ``${env:NAME:-default}`` are expanded in
values; a variable that is not set and has no default is an error here (the official
collector warns and goes on with nothing).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from taximeter_collector.config import security, shaping
from taximeter_collector.config.components import (
    ALIASES,
    EXPORTER_SIGNALS,
    KINDS,
    REQUIRED,
)
from taximeter_collector.config.connectors import CONNECTOR_SIGNALS
from taximeter_collector.config.fields import Expanded, Notes, nearest, read_section, wrong
from taximeter_collector.config.official import OFFICIAL
from taximeter_collector.config.service import TELEMETRY, Telemetry, read_telemetry
from taximeter_collector.errors import ConfigError

_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}")
_TOP = ("receivers", "processors", "exporters", "connectors", "extensions", "service")
_PIPELINE = ("receivers", "processors", "exporters")
_SIGNALS = ("traces", "metrics", "logs")


@dataclass(frozen=True)
class Component:
    """A configured component: ``otlp/2`` has type ``otlp``; ``values`` has every key, defaults filled in."""

    id: str
    type: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """``service.pipelines.<id>``, its parts by id, in order; a connector is an exporter and a receiver."""

    id: str
    signal: str
    receivers: tuple[str, ...]
    processors: tuple[str, ...]
    exporters: tuple[str, ...]


@dataclass
class CollectorConfig:
    """What ``run`` needs. Only components that a pipeline or ``service.extensions`` uses are started."""

    receivers: dict[str, Component]
    processors: dict[str, Component]
    exporters: dict[str, Component]
    extensions: dict[str, Component]
    connectors: dict[str, Component]
    active_extensions: tuple[str, ...]
    pipelines: tuple[Pipeline, ...]
    telemetry: Telemetry
    notes: list[str] = field(default_factory=list)

    def sink(self, name: str) -> Component:
        """What stands at the end of a pipeline: an exporter or a connector."""
        return self.exporters.get(name) or self.connectors[name]

    def extension(self, kind: str) -> Component | None:
        """The active extension of a type."""
        for name in self.active_extensions:
            if self.extensions[name].type == kind:
                return self.extensions[name]
        return None


def load(paths: Sequence[Path], environment: Mapping[str, str] = os.environ) -> CollectorConfig:
    """Read, merge, expand and check configuration files."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merge(merged, _read(path))
    return parse(_expand(merged, "", environment))


def parse(document: Mapping[str, Any]) -> CollectorConfig:
    """Check an already expanded document."""
    for key in document:
        if key not in _TOP:
            raise ConfigError(f"{key}: unknown section; {nearest(str(key), _TOP)}")
    notes = Notes()
    parts = {kind: _components(kind, document.get(kind), notes) for kind in KINDS}
    service = document.get("service")
    if not isinstance(service, dict):
        raise ConfigError("service: missing; it says which pipelines run (service.pipelines)")
    for key in service:
        if key not in ("pipelines", "extensions", "telemetry"):
            raise ConfigError(
                f"service.{key}: unknown key; {nearest(str(key), ('pipelines', 'extensions', 'telemetry'))}"
            )
    pipelines = _pipelines(service.get("pipelines"), parts)
    active = tuple(_references("service.extensions", service.get("extensions") or [], "extensions", parts))
    telemetry = read_telemetry(read_section(TELEMETRY, service.get("telemetry"), "service.telemetry", notes))
    config = CollectorConfig(
        parts["receivers"],
        parts["processors"],
        parts["exporters"],
        parts["extensions"],
        parts["connectors"],
        active,
        pipelines,
        telemetry,
        notes.lines,
    )
    security.check(config)
    _note_unused(config)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(), _Loader)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text in UTF-8 ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        place = ""
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            place = f", line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{path}{place}: {problem}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: is empty or no mapping; it needs receivers, exporters and service")
    return document


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would let the second win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key `{key.value}` is there twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _expand(value: Any, path: str, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, f"{path}.{k}" if path else str(k), environment) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, path, environment) for v in value]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return _variable(match.group(1), path, environment)

    expanded = _VARIABLE.sub(replace, value)
    whole = _VARIABLE.fullmatch(value)
    if whole and whole.group(0) != "$$":
        # A value that is one variable has that variable's type; where a text is wanted, its text.
        try:
            parsed = yaml.safe_load(expanded)
        except yaml.YAMLError:
            return expanded
        return parsed if isinstance(parsed, str | dict | list) else Expanded(expanded, parsed)
    return expanded


def _variable(inner: str, path: str, environment: Mapping[str, str]) -> str:
    scheme, colon, rest = inner.partition(":")
    if colon and scheme != "env":
        raise ConfigError(
            f"{path}: ${{{inner}}}: only ${{env:NAME}} is supported, the official collector has others"
        )
    name, dash, default = (rest if colon else inner).partition(":-")
    if name in environment:
        return environment[name]
    if dash:
        return default
    raise ConfigError(
        f"{path}: environment variable {name} is not set; set it, or write ${{env:{name}:-default}}"
    )


def _components(kind: str, section: Any, notes: Notes) -> dict[str, Component]:
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise wrong(kind, section, "a mapping of components")
    known, result = KINDS[kind], {}
    for name, value in section.items():
        path = f"{kind}.{name}"
        written = str(name).partition("/")[0]
        aliases = ALIASES.get(kind, {})
        type_ = aliases.get(written, written)
        if type_ not in known:
            if written in OFFICIAL[kind]:
                raise ConfigError(
                    f"{path}: the official collector has `{written}`; Taximeter does not. "
                    f"It has: {', '.join(f'`{k}`' for k in sorted(known))}"
                )
            for other, others in KINDS.items():
                if type_ in others and other != kind:
                    raise ConfigError(f"{path}: `{written}` is not one of the {kind} but of the {other}")
            raise ConfigError(f"{path}: unknown component; {nearest(written, {*known, *aliases})}")
        values = read_section(known[type_], value, path, notes)
        for key in REQUIRED.get(type_, ()):
            if not values[key]:
                raise ConfigError(f"{path}.{key}: is required")
        _check(type_, values, path)
        result[str(name)] = Component(str(name), type_, values)
    return result


def _check(type_: str, values: dict[str, Any], path: str) -> None:
    """What needs more than one key to be seen."""
    security.check_extension(type_, values, path)
    shaping.check(type_, values, path)
    if type_ == "otlp" and not any(values["protocols"].values()):
        raise ConfigError(f"{path}.protocols: name at least one of `grpc`, `http`")
    if type_ in ("otlp_http", "prometheus_remote_write"):
        places = [key for key in ("endpoint", *(f"{s}_endpoint" for s in _SIGNALS)) if values.get(key)]
        for key in places:
            if not values[key].startswith(("http://", "https://")):
                raise wrong(f"{path}.{key}", values[key], "a URL that begins with http:// or https://")
        if not places:
            raise ConfigError(f"{path}.endpoint: is required")
    if type_ == "memory_limiter":
        if not values["check_interval"]:
            raise ConfigError(f"{path}.check_interval: must be greater than 0, such as 1s")
        if not values["limit_mib"] and not values["limit_percentage"]:
            raise ConfigError(f"{path}.limit_mib: set limit_mib or limit_percentage")
        for unit in ("mib", "percentage"):
            limit, spike = values[f"limit_{unit}"], values[f"spike_limit_{unit}"]
            if limit and spike >= limit:
                raise ConfigError(
                    f"{path}.spike_limit_{unit}: {spike} is not less than limit_{unit} {limit}: "
                    "every request would be refused"
                )
    if type_ == "batch" and 0 < values["send_batch_max_size"] < values["send_batch_size"]:
        raise ConfigError(
            f"{path}.send_batch_max_size: {values['send_batch_max_size']} is less than "
            f"send_batch_size {values['send_batch_size']}"
        )
    if type_ == "span_store" and not values["max_rows"]:
        raise ConfigError(f"{path}.max_rows: must be greater than 0")


def _pipelines(section: Any, parts: dict[str, dict[str, Component]]) -> tuple[Pipeline, ...]:
    if not isinstance(section, dict) or not section:
        raise ConfigError("service.pipelines: missing; name at least one of traces, metrics, logs")
    connectors = parts["connectors"]
    for kind in ("receivers", "exporters"):
        for name in connectors.keys() & parts[kind].keys():
            raise ConfigError(f"connectors.{name}: {kind}.{name} has the same name: add /2 to one of them")
    ends = {kind: {**parts[kind], **(connectors if kind != "processors" else {})} for kind in _PIPELINE}
    result = []
    for name, value in section.items():
        path = f"service.pipelines.{name}"
        signal = str(name).partition("/")[0]
        if signal not in _SIGNALS:
            has = "the official collector has `profiles`; Taximeter does not" if signal == "profiles" else ""
            raise ConfigError(f"{path}: unknown signal; {has or nearest(signal, _SIGNALS)}")
        if not isinstance(value, dict):
            raise wrong(path, value, "a mapping with receivers and exporters")
        for key in value:
            if key not in _PIPELINE:
                raise ConfigError(f"{path}.{key}: unknown key; {nearest(str(key), _PIPELINE)}")
        found = {kind: _references(f"{path}.{kind}", value.get(kind) or [], kind, ends) for kind in _PIPELINE}
        for kind in ("receivers", "exporters"):
            if not found[kind]:
                raise ConfigError(f"{path}.{kind}: name at least one")
        _check_processors(path, signal, [parts["processors"][name].type for name in found["processors"]])
        for exporter in found["exporters"]:
            kind = ends["exporters"][exporter].type
            takes = (
                CONNECTOR_SIGNALS[kind][0] if exporter in connectors else EXPORTER_SIGNALS.get(kind, _SIGNALS)
            )
            if signal not in takes:
                raise ConfigError(f"{path}.exporters: `{exporter}` takes {', '.join(takes)}, not {signal}")
        result.append(Pipeline(str(name), signal, *(tuple(found[kind]) for kind in _PIPELINE)))
    _check_connectors(result, parts)
    return tuple(result)


def _check_connectors(pipelines: list[Pipeline], parts: dict[str, dict[str, Component]]) -> None:
    for name, connector in parts["connectors"].items():
        _, makes = CONNECTOR_SIGNALS[connector.type]
        into = [p for p in pipelines if name in p.receivers]
        out_of = [p for p in pipelines if name in p.exporters]
        for pipeline in into:
            if pipeline.signal not in makes:
                raise ConfigError(
                    f"service.pipelines.{pipeline.id}.receivers: `{name}` makes {', '.join(makes)}, "
                    f"not {pipeline.signal}"
                )
        if bool(into) != bool(out_of):
            role, other = ("receivers", "exporters") if into else ("exporters", "receivers")
            raise ConfigError(
                f"connectors.{name}: is among the {role} of a pipeline, and among the {other} of none"
            )
        if connector.type == "request_metrics":
            for pipeline in out_of:
                kinds = [parts["processors"][p].type for p in pipeline.processors]
                if "request_account" not in kinds or "tail_sampling" in kinds:
                    raise ConfigError(
                        f"service.pipelines.{pipeline.id}.exporters: `{name}` counts whole traces before any "
                        "sampling: it needs `request_account` among the processors, and no `tail_sampling` "
                        "(which can have a pipeline of its own)"
                    )


def _check_processors(path: str, signal: str, kinds: list[str]) -> None:
    for kind in ("tail_sampling", "request_account", "pricing", "probabilistic_sampler"):
        if kind in kinds and signal != "traces":
            raise ConfigError(f"{path}.processors: `{kind}` takes traces, not {signal}")
        if kinds.count(kind) > 1:
            raise ConfigError(f"{path}.processors: more than one `{kind}`")


def _references(path: str, value: Any, kind: str, parts: dict[str, dict[str, Component]]) -> list[str]:
    if not isinstance(value, list):
        raise wrong(path, value, f"a list of {kind}")
    for name in value:
        if not isinstance(name, str):
            raise wrong(path, name, "a component's name")
        if name not in parts[kind]:
            defined = nearest(name, parts[kind]) if parts[kind] else f"`{kind}` is empty"
            raise ConfigError(f"{path}: `{name}` is not defined under {kind}; {defined}")
    return list(dict.fromkeys(value))


def _note_unused(config: CollectorConfig) -> None:
    used = {(kind, name) for p in config.pipelines for kind in _PIPELINE for name in getattr(p, kind)}
    used |= {("extensions", name) for name in config.active_extensions}
    used |= {("connectors", name) for p in config.pipelines for name in p.exporters}
    for kind in KINDS:
        for name in getattr(config, kind):
            if (kind, name) not in used:
                where = "service.extensions" if kind == "extensions" else "a pipeline"
                config.notes.append(f"{kind}.{name} is not used: name it in {where} to start it")
