"""Reports as others bring them: a saved ``report.json``, read back into the classes it was made from.

Promises: the result is a `Report` or an error that names the file, the field and the remedy. Fields
that the reader does not know are ignored (``make demo`` adds its books), missing ones are an error unless
they have a default.
"""

from __future__ import annotations

import dataclasses
import json
import types
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from taximeter_analysis.model import SCHEMA_VERSION, Report

_MOST_BYTES = 64 << 20


class NotAReport(ValueError):
    """The file is no saved report; the message says why and what to do."""


def load_report(path: Path) -> Report:
    """Read a saved report.

    Raises:
        NotAReport: no such file, no JSON, or not written by ``taximeter report --json``.
    """
    remedy = "give a file that `taximeter report --json FILE` wrote"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise NotAReport(f"{path}: {path.stat().st_size} bytes are no report; {remedy}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotAReport(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except ValueError as error:
        if isinstance(error, NotAReport):
            raise
        raise NotAReport(f"{path}: is no JSON ({error}); {remedy}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise NotAReport(f"{path}: schema_version is {version!r}, not {SCHEMA_VERSION}; {remedy}")
    try:
        found = _build(Report, data, "$")
    except (TypeError, ValueError) as error:
        raise NotAReport(f"{path}: {error}; make it again with this version of `taximeter report`") from None
    assert isinstance(found, Report)
    return found


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _needed(item: dataclasses.Field[Any]) -> bool:
    """A field that came later has a default: reports saved before it are read without it."""
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _build(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        [kind] = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{where} is not a list")
        return tuple(_build(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{where} is not an object")
        missing = [item.name for item in dataclasses.fields(kind) if item.name not in value and _needed(item)]
        if missing:
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        names = [item.name for item in dataclasses.fields(kind) if item.name in value]
        return kind(**{name: _build(_hints(kind)[name], value[name], f"{where}.{name}") for name in names})
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
        raise TypeError(f"{where} is {value!r}, not a {kind.__name__}")
    return value
