"""How one section of the configuration is read: keys with a type and a default, nothing else allowed.

Every error names the path (``exporters.otlp.endpont``), the nearest valid key, and whether the
official collector has what Taximeter has not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from taximeter_collector.errors import ConfigError

Reader = Callable[[Any, str], Any]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Expanded:
    """What ``${env:NAME}`` stood for, alone in a value: as text (``0123``) and as YAML reads it (``83``)."""

    text: str
    value: Any


@dataclass(frozen=True)
class Key:
    """One key. What is not said of it is as officially.

    ``no_effect``: why an official key is accepted although nothing reads it. ``differs``: how its default or
    its values differ, and why. ``own``: the official collector has no such key here.
    """

    read: Reader
    default: Any = None
    no_effect: str = ""
    differs: str = ""
    own: bool = False


@dataclass(frozen=True)
class Section:
    """A mapping. ``optional``: absent means None, present and empty means all defaults."""

    keys: Mapping[str, Key | Section]
    official: Collection[str] = ()  # keys the official collector has here and Taximeter has not
    optional: bool = False


@dataclass
class Notes:
    """What the reader wants the user to know although it is no error."""

    lines: list[str] = field(default_factory=list)


def nearest(name: str, valid: Collection[str]) -> str:
    """The valid name that was probably meant, else the list of them."""
    close = difflib.get_close_matches(name, sorted(valid), n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return "valid here: " + ", ".join(f"`{v}`" for v in sorted(valid))


def read_section(section: Section, value: Any, path: str, notes: Notes) -> dict[str, Any]:
    """Read a mapping into plain values, defaults filled in; raises :class:`ConfigError`."""
    if isinstance(value, Expanded):
        value = value.value
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise wrong(path, value, "a mapping of keys to values")
    for key in value:
        if key not in section.keys:
            if key in section.official:
                raise ConfigError(
                    f"{path}.{key}: the official collector has `{key}` here; Taximeter does not. "
                    "Remove it, or run this pipeline on the official collector"
                )
            raise ConfigError(f"{path}.{key}: unknown key; {nearest(str(key), section.keys)}")
    result: dict[str, Any] = {}
    for key, spec in section.keys.items():
        where = f"{path}.{key}"
        if isinstance(spec, Section):
            absent = spec.optional and key not in value
            result[key] = None if absent else read_section(spec, value.get(key), where, notes)
        elif (given := _typed(value.get(key), spec.read)) is None:
            result[key] = spec.default
        else:
            result[key] = spec.read(given, where)
            if spec.no_effect:
                notes.lines.append(f"{where} has no effect: {spec.no_effect}")
    return result


def _typed(value: Any, read: Reader) -> Any:
    """Variables inside a value resolved to the type that ``read`` wants."""
    if isinstance(value, Expanded):
        return value.text if read is text and value.value is not None else value.value
    if isinstance(value, dict):
        return {k: _typed(v, text if read is text_map else read) for k, v in value.items()}
    if isinstance(value, list):
        return [_typed(v, text if read is names else read) for v in value]
    return value


def wrong(path: str, value: Any, wanted: str) -> ConfigError:
    """A value of the wrong type or form."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ConfigError(f"{path}: {shown} is not {wanted}")


def text(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # YAML reads 123 as a number; the official collector takes it too
    raise wrong(path, value, "a text")


def boolean(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    raise wrong(path, value, "true or false")


def whole(value: Any, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise wrong(path, value, "a whole number of 0 or more")


def integer(value: Any, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong(path, value, "a whole number")


def number(value: Any, path: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise wrong(path, value, "a number of 0 or more")


def duration(value: Any, path: str) -> float:
    """Seconds, from Go's notation: ``200ms``, ``1m30s``, ``0``."""
    written = str(value)
    if written == "0":
        return 0.0
    parts = _DURATION.findall(written)
    if isinstance(value, str) and parts and "".join(a + b for a, b in parts) == written:
        return sum(float(amount) * _UNITS[unit] for amount, unit in parts)
    raise wrong(path, value, "a duration such as 200ms, 5s or 1m30s")


def one_of(*allowed: str) -> Reader:
    def read(value: Any, path: str) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        raise wrong(path, value, "one of " + ", ".join(allowed))

    read.__name__ = " or ".join(f"`{choice}`" for choice in allowed if choice)  # for the reference
    return read


def endpoint(value: Any, path: str) -> str:
    """``host:port`` to listen on."""
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        if colon and port.isdigit() and int(port) <= 65535 and "/" not in host:
            return value
    raise wrong(path, value, "an address to listen on, host:port")


def names(value: Any, path: str) -> list[str]:
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    raise wrong(path, value, "a list of names")


def text_map(value: Any, path: str) -> dict[str, str]:
    if isinstance(value, dict):
        return {text(k, path): text(v, f"{path}.{k}") for k, v in value.items()}
    raise wrong(path, value, "a mapping of names to texts")


def anything(value: Any, path: str) -> Any:
    return value
