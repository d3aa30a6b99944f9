"""Reads ``budget.yaml``: strict, so that a limit that nobody checks cannot exist.

Every error names the path in the file, the value, and the nearest valid name or a value that works.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from taximeter_analysis.budget.model import (
    LIMITS,
    VERSION,
    Budget,
    CacheBudget,
    Limit,
    Money,
    RouteBudget,
    Spec,
    TenantBudget,
    Unit,
)
from taximeter_analysis.window import parse_duration

_EXAMPLES: dict[Unit, str] = {
    "seconds": "800ms or 2s",
    "share": "1% or 0.01",
    "count": "6 or 4.5",
    "tokens": "3000",
    "usd": "0.02 or $0.02",
}
_TOP = ("version", "total", "defaults", "routes", "money", "caches", "tenants")
_MONEY = ("per_request", "per_day", "per_month")
DEFAULT = Path(__file__).with_name("default.yaml")
_MOST_BYTES = 1 << 20


class BudgetError(ValueError):
    """The budget cannot be read or says something impossible; the message has path, value and remedy."""


def load_budget(path: Path) -> Budget:
    """Read a budget file.

    Raises:
        BudgetError: no such file, not YAML, or anything in it that is not understood.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BudgetError(f"{path}: larger than 1 MiB: no budget is; give the right file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BudgetError(
            f"{path}: cannot be read ({error.strerror}); `taximeter budget suggest` writes a first one"
        ) from None
    except UnicodeDecodeError:
        raise BudgetError(f"{path}: is not UTF-8 text; save it as such") from None
    return parse_budget(text, str(path))


def default_budget() -> Budget:
    """What holds where the user has no budget: the thresholds of dashboards and alerts as delivered."""
    return load_budget(DEFAULT)


def parse_budget(text: str, source: str = "budget.yaml") -> Budget:
    """The budget in this YAML text; see `load_budget`."""
    try:
        data = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506  (a SafeLoader that refuses doubled keys)
        return _budget(data, source)
    except yaml.YAMLError as error:
        raise BudgetError(f"{source}: is no YAML: {' '.join(str(error).split())}") from None
    except BudgetError as error:
        raise BudgetError(f"{source}: {error}") from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; a budget may not lose a limit that way."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise BudgetError(
                    f"line {key_node.start_mark.line + 1}: `{key}` stands there twice; keep one"
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _budget(data: Any, source: str) -> Budget:
    top = _mapping(data, "the file", _TOP)
    if top.get("version") != VERSION or isinstance(top.get("version"), bool):
        raise BudgetError(f"version: {top.get('version')!r} is not known; write `version: {VERSION}`")
    money = _mapping(top.get("money") or {}, "money", _MONEY)
    return Budget(
        total=_limits(_mapping(top.get("total") or {}, "total", LIMITS), "total"),
        defaults=_limits(_mapping(top.get("defaults") or {}, "defaults", LIMITS), "defaults"),
        routes=tuple(_route(item, f"routes[{i}]") for i, item in enumerate(_list(top, "routes"))),
        money=Money(**{name: _value(value, "usd", f"money.{name}") for name, value in money.items()}),
        caches=tuple(_cache(item, f"caches[{i}]") for i, item in enumerate(_list(top, "caches"))),
        tenants=tuple(_tenant(item, f"tenants[{i}]") for i, item in enumerate(_list(top, "tenants"))),
        source=source,
    )


def _list(top: dict[str, Any], name: str) -> list[Any]:
    value = top.get(name) or []
    if not isinstance(value, list):
        raise BudgetError(f"{name}: is {_kind(value)}, not a list; write `- match: ...` below it")
    return value


def _mapping(value: Any, where: str, valid: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BudgetError(f"{where}: is {_kind(value)}, not a mapping of names to values")
    for name in value:
        if name not in valid:
            raise BudgetError(
                f"{name if where == 'the file' else f'{where}.{name}'}: {_nearest(name, valid)}"
            )
    return value


def _kind(value: Any) -> str:
    return "empty" if value is None else f"{value!r}"[:60]


def _nearest(name: object, valid: Collection[str]) -> str:
    close = difflib.get_close_matches(str(name), sorted(valid), n=1, cutoff=0.5)
    return (
        f"unknown name; did you mean `{close[0]}`?"
        if close
        else "unknown name; valid here: " + ", ".join(f"`{item}`" for item in valid)
    )


def _pattern(item: dict[str, Any], where: str) -> str:
    match = item.get("match")
    if not isinstance(match, str) or not match.strip():
        raise BudgetError(f'{where}.match: is {_kind(match)}; write a pattern such as "GET /hotels/*" or "*"')
    return match


def _route(value: Any, where: str) -> RouteBudget:
    item = _mapping(value, where, ("match", "service", *LIMITS))
    service = item.get("service")
    if service is not None and not isinstance(service, str):
        raise BudgetError(f"{where}.service: is {_kind(service)}, not a service.name")
    limits = _limits({name: item[name] for name in item if name in LIMITS}, where)
    if not limits:
        raise BudgetError(f"{where}: sets no limit; add one of {', '.join(LIMITS)}")
    return RouteBudget(_pattern(item, where), limits, service)


def _cache(value: Any, where: str) -> CacheBudget:
    item = _mapping(value, where, ("match", "hit_rate"))
    if "hit_rate" not in item:
        raise BudgetError(f"{where}: sets no limit; add `hit_rate: 80%`")
    return CacheBudget(_pattern(item, where), _value(item["hit_rate"], "share", f"{where}.hit_rate"))


def _tenant(value: Any, where: str) -> TenantBudget:
    item = _mapping(value, where, ("match", *_MONEY))
    amounts = {name: _value(item[name], "usd", f"{where}.{name}") for name in _MONEY if name in item}
    if not amounts:
        raise BudgetError(f"{where}: sets no limit; add one of {', '.join(_MONEY)}")
    return TenantBudget(_pattern(item, where), **amounts)


def _limits(items: dict[str, Any], where: str) -> dict[str, Limit]:
    return {name: _limit(value, LIMITS[name], f"{where}.{name}") for name, value in items.items()}


def _limit(value: Any, spec: Spec, where: str) -> Limit:
    absolute, relative = ("min", "max_decrease") if spec.lowest else ("max", "max_increase")
    if not isinstance(value, dict):
        return Limit(**{absolute: _value(value, spec.unit, where)})
    item = _mapping(value, where, (absolute, relative))
    if not item:
        raise BudgetError(f"{where}: is empty; write a value, or `{absolute}:` and `{relative}:` below it")
    read = {}
    if absolute in item:
        read[absolute] = _value(item[absolute], spec.unit, f"{where}.{absolute}")
    if relative in item:
        read[relative] = _value(item[relative], "share", f"{where}.{relative}", any_share=True)
    return Limit(**read)


def _value(value: Any, unit: Unit, where: str, *, any_share: bool = False) -> float:
    """A number of this unit, in seconds, USD, tokens or as a share of 1."""
    wrong = BudgetError(f"{where}: {_kind(value)} is no {_named(unit)}; write {_EXAMPLES[unit]}")
    number: float
    if isinstance(value, bool) or value is None:
        raise wrong
    if isinstance(value, str):
        number = _read_text(value.strip(), unit, wrong)
    elif isinstance(value, int | float):
        if unit == "seconds":
            raise BudgetError(f"{where}: {value!r} has no unit; write {value}ms or {value}s")
        number = float(value)
    else:
        raise wrong
    if not 0 <= number < 1e12 or (unit == "share" and number > 1 and not any_share):
        raise wrong
    return number


def _read_text(text: str, unit: Unit, wrong: BudgetError) -> float:
    if unit == "seconds":
        try:
            seconds = parse_duration(text)
        except ValueError:
            raise wrong from None
        if re.fullmatch(r"[\d.]+", text):
            raise wrong
        return seconds
    pattern = {"share": r"([\d.]+)\s*%", "usd": r"\$?\s*([\d.]+)(?:\s*USD)?"}.get(unit, r"([\d.]+)")
    found = re.fullmatch(pattern, text)
    try:
        number = float(found[1]) if found else None
    except ValueError:
        number = None
    if number is None:
        raise wrong
    return number / 100 if unit == "share" else number


def _named(unit: Unit) -> str:
    return {"seconds": "duration", "share": "share", "usd": "amount of USD"}.get(unit, "number")
