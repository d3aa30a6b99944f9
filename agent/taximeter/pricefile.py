"""Reads a price file, and says what is wrong with one: path, place and remedy.

Shape (rates are USD per million tokens, of ``web_search`` and ``file_search`` per thousand calls)::

    {"version": 1, "source": "contract of 2026", "providers": {
      "openai": {
        "discount": 0.1,
        "models": [
          {"id": "gpt-4o", "input": 2.0, "output": 8.0, "cache_read": 1.0},
          {"id": "gpt-5", "discount": 0.2},
          {"id": "my-model", "match": [["^", "my-model"]], "prices": [
            {"input": 1, "output": 2},
            {"from": "2027-01-01", "input": 2, "output": 4},
            {"tier": "batch", "input": 0.5, "output": 1}]}]}}}

``match`` holds alternatives, each ``[how, text]``: ``=`` equals (the default, with the id),
``^`` starts with, ``$`` ends with, ``*`` contains, ``~`` regular expression, and ``&`` with a
list of such pairs that must all hold. A rate may be tiered by the size of the whole input:
``[base, [more_than_tokens, rate], ...]``. ``cache_read``, ``cache_write`` and those of images
default to ``input``, ``cache_write_1h`` to ``cache_write``. The last price whose ``from`` (UTC
date) has come applies; one with a ``tier`` inherits what it leaves out from the standard price.
A ``discount`` (0.1 is ten percent) is taken off the built-in price of one model, or of every
model of the provider that the file does not name. A file in another currency says so once,
``"currency": "EUR", "usd": 1.08``, and is converted: what Taximeter counts is always USD.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from taximeter.pricing import CALL_RATES, RATES, Model, PriceFileError, Rate, Rates, Table

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_REMEDY: Final = "Correct it or unset TAXIMETER_PRICES_FILE."
#: Tables whose providers charge audio tokens like text where they name no rate for audio.
_AUDIO_AS_TEXT: Final = frozenset({"google"})

#: (what, charged like): in the order in which they are filled in.
LIKE: Final = (
    *(("input_audio", "input"), ("output_audio", "output")),  # where audio_as_text
    *(("cache_read_audio", "cache_read"), ("cache_read_audio", "input_audio")),
    *(("input_image", "input"), ("output_image", "output"), ("input_video", "input")),
    *(("cache_read_image", "cache_read"), ("cache_read_image", "input_image")),
    *(("cache_read", "input"), ("cache_write", "input"), ("cache_write_1h", "cache_write")),
)


def read(path: Path, *, trusted: bool = False) -> Table:
    """Read the table at ``path``; raises :class:`PriceFileError`.

    A ``trusted`` table (ours) is compiled provider by provider, when first asked.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PriceFileError(f"Price file {path}: larger than {MAX_FILE_BYTES} bytes. {_REMEDY}")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PriceFileError(
            f"Price file {path} cannot be read: {error.strerror or error}. {_REMEDY}"
        ) from error
    except json.JSONDecodeError as error:
        raise PriceFileError(
            f"Price file {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}. "
            f"{_REMEDY}"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise PriceFileError(f"Price file {path} is not UTF-8 JSON: {error}. {_REMEDY}") from error
    try:
        table = parse(document, path.name)
        if not trusted:
            for models in table.providers.values():
                models()
    except _Malformed as error:
        raise PriceFileError(f"Price file {path}, at {error.place}: {error.problem}. {_REMEDY}") from error
    return table


def parse(document: Any, name: str = "") -> Table:
    """A parsed document as a table; its models are compiled when first asked for."""
    table = _mapping(document, "$")
    if table.get("version") != 1:
        raise _Malformed("$.version", f"must be 1, not {table.get('version')!r}")
    source = str(table.get("source") or name)
    usd = _usd(table)
    providers: dict[str, Callable[[], Sequence[Model]]] = {}
    discounts: dict[str, float] = {}
    for provider, value in _mapping(table.get("providers"), "$.providers").items():
        place = f"$.providers.{provider}"
        entry = _mapping(value, place)
        if "discount" in entry:
            discounts[provider] = _discount(entry["discount"], f"{place}.discount")
        models = entry.get("models", [] if "discount" in entry else None)
        if not isinstance(models, list):
            raise _Malformed(f"{place}.models", "must be a list")
        providers[provider] = _compiling(models, place, usd, source, provider)
    return Table(source, providers, discounts)


def _compiling(
    models: list[Any], place: str, usd: float, source: str, provider: str
) -> Callable[[], Sequence[Model]]:
    @cache
    def compiled() -> Sequence[Model]:
        audio_as_text = provider in _AUDIO_AS_TEXT
        return [
            _model(model, f"{place}.models[{i}]", usd, source, audio_as_text)
            for i, model in enumerate(models)
        ]

    return compiled


class _Malformed(Exception):
    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Malformed(place, f"must be an object, not {type(value).__name__}")
    return value


def _usd(table: Mapping[str, Any]) -> float:
    """What one unit of the table's currency is in USD."""
    currency, usd = table.get("currency", "USD"), table.get("usd", 1.0)
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        raise _Malformed("$.currency", f"must be three capital letters like EUR, not {currency!r}")
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 < usd < 1e6:
        raise _Malformed("$.usd", f"must be what one {currency} is in USD, not {usd!r}")
    if (currency == "USD") != (usd == 1):
        raise _Malformed(
            "$.usd", f"must say what one {currency} is in USD" if usd == 1 else "must be 1 for USD"
        )
    return float(usd)


def _discount(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise _Malformed(place, f"must be a share between 0 and 1 (0.1 is ten percent), not {value!r}")
    return float(value)


def _model(value: Any, place: str, usd: float, source: str, audio_as_text: bool) -> Model:
    entry = _mapping(value, place)
    name = entry.get("id")
    if not isinstance(name, str) or not name:
        raise _Malformed(f"{place}.id", "must be the model's name")
    place = f"{place} ({name})"
    known = {"id", "match", "prices", "discount", "from", *RATES}
    if unknown := sorted(set(entry) - known):
        raise _Malformed(place, f"unknown key {unknown[0]!r} (known: {', '.join(sorted(known))})")
    match = entry.get("match", [["=", name]])
    if not isinstance(match, list) or not match:
        raise _Malformed(f"{place}.match", 'must be a list of [how, text], e.g. [["^", "gpt-4o"]]')
    matches = _any([_clause(clause, f"{place}.match[{i}]") for i, clause in enumerate(match)])
    if "discount" in entry:
        if extra := sorted(set(entry) - {"id", "match", "discount"}):
            raise _Malformed(place, f"has a discount and {extra[0]!r}: give one of the two")
        return Model(name, matches, {}, _discount(entry["discount"], f"{place}.discount"), source)
    prices = entry.get("prices")
    if prices is None:
        prices = [{key: rate for key, rate in entry.items() if key in {"from", *RATES}}]
    if not isinstance(prices, list) or not prices:
        raise _Malformed(f"{place}.prices", "must be a list of at least one price")
    dated = [_dated(price, f"{place}.prices[{i}]", usd) for i, price in enumerate(prices)]
    return Model(name, matches, _by_tier(dated, place, audio_as_text), source=source)


_Dated = tuple[str, float, Mapping[str, Rate]]  # tier, start, rates


def _by_tier(dated: Sequence[_Dated], place: str, audio_as_text: bool) -> dict[str, tuple[Rates, ...]]:
    """Each tier's prices over time, what a tier leaves out taken from the standard price then."""
    dated = sorted(dated, key=lambda price: price[1])
    standard = [price for price in dated if not price[0]]
    if not standard:
        raise _Malformed(f"{place}.prices", "has no price without a tier")
    found = {"": tuple(Rates(_complete(rates, audio_as_text), start) for _, start, rates in standard)}
    for tier in sorted({price[0] for price in dated} - {""}):
        mine = [price for price in dated if price[0] == tier]
        first = mine[0][1]
        starts = sorted({first, *(start for _, start, _ in (*standard, *mine) if start > first)})
        found[tier] = tuple(
            Rates(_complete({**_at(standard, start), **_at(mine, start)}, audio_as_text), start)
            for start in starts
        )
    return found


def _complete(rates: Mapping[str, Rate], audio_as_text: bool) -> Mapping[str, Rate]:
    """``rates`` with what is charged like something else where it has no rate of its own."""
    found = dict(rates)
    for name, like in LIKE:
        if name not in found and like in found and (audio_as_text or not name.endswith("put_audio")):
            found[name] = found[like]
    return found


def _at(dated: Sequence[_Dated], when: float) -> Mapping[str, Rate]:
    best = dated[0][2]
    for _, start, rates in dated:
        if when >= start:
            best = rates
    return best


def _any(clauses: Sequence[Callable[[str], bool]]) -> Callable[[str], bool]:
    return clauses[0] if len(clauses) == 1 else lambda text: any(clause(text) for clause in clauses)


def _clause(value: Any, place: str) -> Callable[[str], bool]:
    if not isinstance(value, list) or len(value) != 2:
        raise _Malformed(place, f"must be [how, text], not {value!r}")
    how, what = value
    if how == "&" and isinstance(what, list):
        parts = [_clause(part, f"{place}[1][{i}]") for i, part in enumerate(what)]
        return lambda text: all(part(text) for part in parts)
    if not isinstance(what, str):
        raise _Malformed(place, f"text must be a string, not {what!r}")
    lowered = what.lower()
    if how == "~":
        try:
            pattern = re.compile(what)
        except re.error as error:
            raise _Malformed(place, f"bad regular expression {what!r}: {error}") from error
        return lambda text: pattern.search(text) is not None
    simple: dict[str, Callable[[str], bool]] = {
        "=": lambda text: text == lowered,
        "^": lambda text: text.startswith(lowered),
        "$": lambda text: text.endswith(lowered),
        "*": lambda text: lowered in text,
    }
    if how not in simple:
        raise _Malformed(place, f"unknown way of matching {how!r} (known: = ^ $ * ~ &)")
    return simple[how]


def _dated(value: Any, place: str, usd: float) -> _Dated:
    price = _mapping(value, place)
    if unknown := sorted(set(price) - {"from", "tier", *RATES}):
        raise _Malformed(place, f"unknown key {unknown[0]!r} (known: from, tier, {', '.join(RATES)})")
    start = 0.0
    if (text := price.get("from")) is not None:
        try:
            day = date.fromisoformat(text)
        except (TypeError, ValueError):
            raise _Malformed(f"{place}.from", f"must be a date like 2026-01-31, not {text!r}") from None
        start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    tier = price.get("tier", "")
    if not isinstance(tier, str) or ("tier" in price and not tier):
        raise _Malformed(f"{place}.tier", f"must be a service tier like batch, not {tier!r}")
    if not tier and "input" not in price and "output" not in price:
        raise _Malformed(place, "has neither 'input' nor 'output'")
    return tier, start, {key: _rate(price[key], f"{place}.{key}", key, usd) for key in RATES if key in price}


def _rate(value: Any, place: str, name: str, usd: float) -> Rate:
    parts = value if isinstance(value, list) and value else [value]
    base = _per_unit(parts[0], place, name, usd)
    tiers: list[tuple[int, float]] = []
    for i, tier in enumerate(parts[1:], start=1):
        if not isinstance(tier, list) or len(tier) != 2 or not isinstance(tier[0], int):
            raise _Malformed(f"{place}[{i}]", f"must be [more_than_tokens, rate], not {tier!r}")
        tiers.append((tier[0], _per_unit(tier[1], f"{place}[{i}]", name, usd)))
    return Rate(base, tuple(sorted(tiers, reverse=True)))


def _per_unit(value: Any, place: str, name: str, usd: float) -> float:
    per, unit = (1e3, "thousand calls") if name in CALL_RATES else (1e6, "million tokens")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise _Malformed(place, f"must be USD per {unit}, a number of at least 0, not {value!r}")
    return float(value) * usd / per
