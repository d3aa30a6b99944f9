"""The JSON Schema of ``budget.yaml``, for editors, made from `LIMITS`.

The committed ``budget.schema.json`` is this module's output (``python -m
taximeter_analysis.budget.schema``); a test fails when it drifts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from taximeter_analysis.budget.model import LIMITS, VERSION, Spec, Unit

COMMITTED = Path(__file__).with_name("budget.schema.json")

_VALUES: dict[Unit, dict[str, Any]] = {
    "seconds": {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|min|s|m|h|d|w)\s*)+$"},
    "share": {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"},
        ]
    },
    "count": {"type": "number", "minimum": 0},
    "tokens": {"type": "number", "minimum": 0},
    "usd": {
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": r"^\s*\$?\s*\d+(\.\d+)?(\s*USD)?\s*$"},
        ]
    },
}
_INCREASE = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"},
    ],
    "description": "against the report given with --baseline",
}


def schema() -> dict[str, Any]:
    """The schema (draft 2020-12)."""
    limits = {name: _limit(spec) for name, spec in LIMITS.items()}
    pattern = {"type": "string", "minLength": 1, "description": "shell pattern; * is any text"}
    money = dict.fromkeys(("per_request", "per_day", "per_month"), _VALUES["usd"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Taximeter performance budget (budget.yaml)",
        **_object(
            {
                "version": {"const": VERSION},
                "total": {"description": "limits of all requests together", **_object(limits)},
                "defaults": {"description": "limits of every route without its own", **_object(limits)},
                "routes": _items({"match": pattern, "service": {"type": "string"}, **limits}),
                "money": _object(money),
                "caches": _items({"match": pattern, "hit_rate": _VALUES["share"]}, "hit_rate"),
                "tenants": _items({"match": pattern, **money}),
            },
            "version",
        ),
    }


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def _items(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "array", "items": _object(properties, "match", *required)}


def _limit(spec: Spec) -> dict[str, Any]:
    absolute, relative = ("min", "max_decrease") if spec.lowest else ("max", "max_increase")
    both = _object({absolute: _VALUES[spec.unit], relative: _INCREASE})
    simple = _VALUES[spec.unit]
    return {"description": spec.doc, "anyOf": [*simple.get("anyOf", [simple]), {**both, "minProperties": 1}]}


def text() -> str:
    """The schema as committed."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    COMMITTED.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"written: {COMMITTED.name}\n")
