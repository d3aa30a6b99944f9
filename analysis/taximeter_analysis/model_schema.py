"""The JSON Schemas of what the commands print, rendered from the dataclasses of their models.

One source: a field's type and the text beside it. The committed ``report.schema.json``,
``compare.schema.json`` and ``discover.schema.json`` are this module's output (``python -m
taximeter_analysis.model_schema``), and a test fails when they drift.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from taximeter_analysis.compare.model import Comparison
from taximeter_analysis.discover.model import Discovery
from taximeter_analysis.model import SCHEMA_VERSION, Report

COMMITTED = Path(__file__).with_name("report.schema.json")
COMPARE_COMMITTED = Path(__file__).with_name("compare.schema.json")
DISCOVER_COMMITTED = Path(__file__).with_name("discover.schema.json")

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema(kind: type = Report, title: str = "taximeter report --format json") -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``kind.to_dict``: of `Report`, or of another versioned model."""
    definitions: dict[str, Any] = {}
    reference = _of(kind, definitions)
    definitions[kind.__name__]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": "Times are seconds, instants Unix seconds, money USD. null: not known, not 0.",
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """The schema as committed."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def compare_text() -> str:
    """The schema of `Comparison` as committed."""
    found = schema(Comparison, "taximeter compare --format json")
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def discover_text() -> str:
    """The schema of `Discovery` as committed."""
    found = schema(Discovery, "taximeter discover --format json")
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if get_origin(kind) is Annotated:
        inner, note = get_args(kind)
        return {**_of(inner, definitions), "description": note}
    if get_origin(kind) in (Union, types.UnionType):
        options = [_of(option, definitions) for option in get_args(kind)]
        if all(set(option) == {"type"} for option in options):
            return {"type": [option["type"] for option in options]}
        return {"anyOf": options}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _of(get_args(kind)[0], definitions)}
    if kind in _SIMPLE or get_origin(kind) is Literal:
        return {"type": _SIMPLE[kind]} if kind in _SIMPLE else {"enum": list(get_args(kind))}
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise TypeError(f"{kind!r} is not in the report's data model: add it to model_schema._SIMPLE")
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # in place before its fields, should one refer back to it
        hints = get_type_hints(kind, include_extras=True)
        properties = {item.name: _of(hints[item.name], definitions) for item in dataclasses.fields(kind)}
        definitions[kind.__name__] = {
            "description": inspect.cleandoc(kind.__doc__ or "").replace("\n", " "),
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}


if __name__ == "__main__":
    COMMITTED.write_text(text(), encoding="utf-8")
    COMPARE_COMMITTED.write_text(compare_text(), encoding="utf-8")
    DISCOVER_COMMITTED.write_text(discover_text(), encoding="utf-8")
    sys.stdout.write(f"written: {COMMITTED.name}, {COMPARE_COMMITTED.name}, {DISCOVER_COMMITTED.name}\n")
