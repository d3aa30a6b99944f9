"""The keys of ``tail_sampling``: official names and defaults, and Taximeter's own policies beside them."""

from __future__ import annotations

import re
from typing import Any

from taximeter_collector.config.fields import (
    Key,
    Notes,
    Section,
    boolean,
    duration,
    integer,
    names,
    nearest,
    number,
    read_section,
    text,
    whole,
    wrong,
)
from taximeter_collector.errors import ConfigError

_STATUSES = ("OK", "ERROR", "UNSET")

_POLICIES: dict[str, Section] = {
    "always_sample": Section({}),
    "latency": Section({"threshold_ms": Key(whole, 0), "upper_threshold_ms": Key(whole, 0)}),
    "numeric_attribute": Section(
        {
            "key": Key(text, ""),
            "min_value": Key(integer),
            "max_value": Key(integer),
            "invert_match": Key(boolean, False),
        }
    ),
    "probabilistic": Section({"hash_salt": Key(text, ""), "sampling_percentage": Key(number, 0.0)}),
    "status_code": Section({"status_codes": Key(names, [])}),
    "string_attribute": Section(
        {
            "key": Key(text, ""),
            "values": Key(names, []),
            "enabled_regex_matching": Key(boolean, False),
            "cache_max_size": Key(whole, 0, "expressions are compiled once and need no cache"),
            "invert_match": Key(boolean, False),
        }
    ),
    "rate_limiting": Section({"spans_per_second": Key(whole)}),
    "expensive": Section({"min_usd": Key(number)}),  # Taximeter's own
    "n_plus_one": Section({"min_calls": Key(whole, 5)}),  # Taximeter's own
}
_OFFICIAL_POLICIES = (
    "boolean_attribute", "ottl_condition", "span_count", "trace_state", "composite", "bytes_limiting",
    "drop", "not", "trace_flags",
)  # fmt: skip
#: What a policy cannot do without; any one of a group will do.
_NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "numeric_attribute": (("key",), ("min_value", "max_value")),
    "string_attribute": (("key",), ("values",)),
    "status_code": (("status_codes",),),
    "rate_limiting": (("spans_per_second",),),
    "expensive": (("min_usd",),),
}


def policies(value: Any, path: str) -> list[dict[str, Any]]:
    """The list under ``policies``, checked, every key of every policy filled in."""
    return _list(value, path, nested=False)


_CACHE = "officially 0, off; here decisions are kept anyway, for the restart"

TAIL_SAMPLING = Section(
    {
        "decision_wait": Key(duration, 30.0),
        "decision_wait_after_root_received": Key(duration, 0.0),
        "num_traces": Key(whole, 50_000),
        "expected_new_traces_per_sec": Key(whole, 0, "nothing is allocated ahead"),
        "decision_cache": Section(
            {
                "sampled_cache_size": Key(whole, 100_000, differs=_CACHE),
                "non_sampled_cache_size": Key(whole, 100_000, differs=_CACHE),
            }
        ),
        "policies": Key(policies),
        "dry_run": Key(boolean, False, own=True),  # keep everything, say what would be dropped
    },
    official=(
        "sample_on_first_match", "drop_pending_traces_on_shutdown", "block_on_overflow",
        "maximum_trace_size_bytes", "sampling_strategy", "num_traces_limit",
    ),
)  # fmt: skip


def _list(value: Any, path: str, *, nested: bool) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise wrong(path, value, "a list of at least one policy")
    found = [_policy(item, f"{path}[{number}]", nested=nested) for number, item in enumerate(value)]
    seen: set[str] = set()
    for item in found:
        if item["name"] in seen:
            raise ConfigError(f"{path}: two policies are named `{item['name']}`")
        seen.add(item["name"])
    return found


def _policy(value: Any, path: str, *, nested: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(path, value, "a policy: a mapping with name and type")
    name, kind = value.get("name"), value.get("type")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{path}.name: is required")
    known = set(_POLICIES) | (set() if nested else {"and"})
    if kind not in known:
        if kind in _OFFICIAL_POLICIES:
            raise ConfigError(
                f"{path}.type: the official collector has the policy `{kind}`; Taximeter does not. "
                f"It has: {', '.join(f'`{k}`' for k in sorted(known))}"
            )
        raise ConfigError(f"{path}.type: unknown policy {kind!r}; {nearest(str(kind), known)}")
    for key in value:
        if key not in ("name", "type", kind):
            raise ConfigError(f"{path}.{key}: unknown key; {nearest(str(key), ('name', 'type', kind))}")
    own = value.get(kind)
    if kind == "and":
        own = own if isinstance(own, dict) else {}
        for key in own:
            if key != "and_sub_policy":
                raise ConfigError(f"{path}.and.{key}: unknown key; did you mean `and_sub_policy`?")
        where = f"{path}.and.and_sub_policy"
        return {
            "name": name,
            "type": kind,
            kind: {"and_sub_policy": _list(own.get("and_sub_policy"), where, nested=True)},
        }
    values = read_section(_POLICIES[kind], own, f"{path}.{kind}", Notes())
    _check(kind, values, f"{path}.{kind}")
    return {"name": name, "type": kind, kind: values}


def _check(kind: str, values: dict[str, Any], path: str) -> None:
    for group in _NEEDS.get(kind, ()):
        if all(values[key] in (None, "", []) for key in group):
            raise ConfigError(f"{path}.{group[0]}: is required")
    for status in values.get("status_codes", ()):
        if status not in _STATUSES:
            raise ConfigError(f"{path}.status_codes: unknown status {status}; {nearest(status, _STATUSES)}")
    if values.get("enabled_regex_matching"):
        for pattern in values["values"]:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{path}.values: {pattern!r} is no regular expression ({error})") from error
