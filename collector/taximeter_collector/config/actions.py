"""The keys of the ``attributes`` and ``resource`` processors: one list of actions, under two names."""

from __future__ import annotations

import re
from typing import Any

from taximeter_collector.config.fields import (
    Key,
    Notes,
    Section,
    anything,
    duration,
    one_of,
    read_section,
    text,
    text_map,
    whole,
    wrong,
)
from taximeter_collector.errors import ConfigError

_ACTION = Section(
    {
        "key": Key(text, ""),
        "action": Key(one_of("insert", "update", "upsert", "delete", "hash")),
        "value": Key(anything),
        "from_attribute": Key(text, ""),
        "pattern": Key(text, ""),
    },
    official=("from_context", "converted_type", "default_value"),
)


def actions(value: Any, path: str) -> list[dict[str, Any]]:
    """A checked list of actions, every key filled in."""
    if not isinstance(value, list) or not value:
        raise wrong(path, value, "a list of at least one action")
    return [_action(item, f"{path}[{number}]") for number, item in enumerate(value)]


def _action(value: Any, path: str) -> dict[str, Any]:
    kind = value.get("action") if isinstance(value, dict) else None
    if kind in ("extract", "convert"):
        raise ConfigError(f"{path}.action: the official collector has `{kind}`; Taximeter does not")
    read = read_section(_ACTION, value, path, Notes())
    if not read["action"]:
        raise ConfigError(f"{path}.action: is required")
    by_pattern = read["action"] in ("delete", "hash")
    if not read["key"] and not (by_pattern and read["pattern"]):
        raise ConfigError(f"{path}.key: is required")
    if read["pattern"]:
        if not by_pattern:
            raise ConfigError(f"{path}.pattern: belongs to delete and hash, not to {read['action']}")
        try:
            re.compile(read["pattern"])
        except re.error as error:
            raise ConfigError(
                f"{path}.pattern: {read['pattern']!r} is no regular expression ({error})"
            ) from error
    if not by_pattern and (read["value"] is None) == (not read["from_attribute"]):
        raise ConfigError(f"{path}.value: give one of value and from_attribute")
    if isinstance(read["value"], dict | list):
        raise wrong(f"{path}.value", read["value"], "a text, a number, or true or false")
    return read


ATTRIBUTES = Section({"actions": Key(actions)}, official=("include", "exclude"))
RESOURCE = Section({"attributes": Key(actions)})
REQUEST_ACCOUNT = Section(  # Taximeter's own
    {
        # How long a trace's spans are waited for: after its first span, and after its root's.
        "wait": Key(duration, 30.0),
        "wait_after_root": Key(duration, 10.0),  # SDKs send every 5 s, and Express ends spans after the root
        "num_traces": Key(whole, 50_000),
    }
)
PRICING = Section({"prices_file": Key(text, ""), "hosts": Key(text_map, {})})  # Taximeter's own
