"""OTLP attribute values as plain texts: the one form that labels and the store's attribute map share."""

from __future__ import annotations

import base64
import json
from typing import Any


def plain(value: Any) -> Any:
    """An AnyValue as Python sees JSON; bytes become base64."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(v) for v in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def as_text(value: Any) -> str:
    """What :func:`plain` gave as text; lists and mappings as JSON, booleans as ``true`` and ``false``."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)
