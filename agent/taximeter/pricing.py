"""What a model call costs, from a dated table of rates.

The built-in table (``prices.json``) is rendered from the genai-prices data by
``tools/render_prices.py``; a file of contract prices (``TAXIMETER_PRICES_FILE``) of the same
shape goes before it. Rates are compiled per model once, so that pricing a call is a few
multiplications. An unknown model has no price: :meth:`PriceBook.price` returns ``None``,
never 0. Pure: imports nothing of OpenTelemetry.

Shape of a table (rates are USD per million tokens)::

    {"version": 1, "source": "contract of 2026", "providers": {
      "openai": {"models": [
        {"id": "gpt-4o", "input": 2.0, "output": 8.0, "cache_read": 1.0},
        {"id": "my-model", "match": [["^", "my-model"]],
         "prices": [{"input": 1, "output": 2}, {"from": "2027-01-01", "input": 2, "output": 4}]}]}}}

``match`` holds alternatives, each ``[how, text]``: ``=`` equals (the default, with the id),
``^`` starts with, ``$`` ends with, ``*`` contains, ``~`` regular expression, and ``&`` with a
list of such pairs that must all hold. A rate may be tiered by the size of the whole input:
``[base, [more_than_tokens, rate], ...]``. ``cache_read`` and ``cache_write`` default to
``input``, ``cache_write_1h`` to ``cache_write``. The last price whose ``from`` (UTC date) has
come applies.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

RATES: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_MAX_CACHE: Final = 4096

#: ``gen_ai.provider.name`` -> tables to look in, in order.
PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "azure.ai.openai": ("azure", "openai"),
    "azure.ai.inference": ("azure", "openai"),
    "aws.bedrock": ("aws", "anthropic"),
    "gcp.gemini": ("google",),
    "gcp.gen_ai": ("google",),
    "gcp.vertex_ai": ("google", "anthropic"),
    "mistral_ai": ("mistral",),
    "x_ai": ("x-ai",),
}


class PriceFileError(Exception):
    """A price file cannot be used. The message names path, place and remedy."""


class Usage(NamedTuple):
    """Tokens of one call. ``input`` includes the cached ones (read and written)."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0  # the part of cache_write kept for an hour


class _Rate(NamedTuple):
    """USD per token: the base, and tiers ``(more_than_input_tokens, rate)``, highest first."""

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, input_tokens: int) -> float:
        for start, rate in self.tiers:
            if input_tokens > start:
                return rate
        return self.base


@dataclass(frozen=True, slots=True)
class Rates:
    """The compiled rates of one model at one time, in USD per token."""

    input: _Rate
    output: _Rate
    cache_read: _Rate
    cache_write: _Rate
    cache_write_1h: _Rate

    def cost(self, usage: Usage) -> float:
        """USD for ``usage``. Counts that contradict each other are clamped, never negative."""
        size = usage.input
        read = min(usage.cache_read, size)
        write = min(usage.cache_write, size - read)
        hour = min(usage.cache_write_1h, write)
        return (
            (size - read - write) * self.input.at(size)
            + read * self.cache_read.at(size)
            + (write - hour) * self.cache_write.at(size)
            + hour * self.cache_write_1h.at(size)
            + usage.output * self.output.at(size)
        )


@dataclass(frozen=True, slots=True)
class _Model:
    matches: Callable[[str], bool]
    prices: tuple[tuple[float, Rates], ...]  # (Unix time from which it applies, rates), ascending


class PriceBook:
    """Prices of every known model; tables given first win."""

    def __init__(self, *tables: Mapping[str, Sequence[_Model]]) -> None:
        self._tables = tables
        self._found: dict[tuple[str, str], _Model | None] = {}

    def rates(self, provider: str, model: str, when: float | None = None) -> Rates | None:
        """The rates of ``model`` at Unix time ``when`` (now), or ``None`` if it is unknown."""
        found = self._find(provider, model)
        if found is None:
            return None
        if len(found.prices) == 1:
            return found.prices[0][1]
        now = time.time() if when is None else when
        best = found.prices[0][1]
        for start, rates in found.prices:
            if now >= start:
                best = rates
        return best

    def price(
        self, provider: str, models: Sequence[str | None], usage: Usage, when: float | None = None
    ) -> float | None:
        """USD for ``usage`` of the first of ``models`` that has a price, or ``None`` if none has.

        Give the response's model first, then the request's: an alias may be all the table knows.
        """
        for model in models:
            if model and (rates := self.rates(provider, model, when)) is not None:
                return rates.cost(usage)
        return None

    def _find(self, provider: str, model: str) -> _Model | None:
        key = (provider, model)
        if key in self._found:
            return self._found[key]
        found = self._search(provider, model.lower()[:256])
        if len(self._found) < _MAX_CACHE:
            self._found[key] = found
        return found

    def _search(self, provider: str, model: str) -> _Model | None:
        for table in self._tables:
            for name in (provider, *PROVIDERS.get(provider, ())):
                for candidate in table.get(name, ()):
                    if candidate.matches(model):
                        return candidate
        return None


def builtin_path() -> Path:
    """Where the built-in table lies."""
    return Path(__file__).with_name("prices.json")


def load(override: str | None = None) -> tuple[PriceBook, str | None]:
    """The price book, and a message when the ``override`` file cannot be used (it is then left out)."""
    builtin = read_table(builtin_path())
    if not override:
        return PriceBook(builtin), None
    try:
        return PriceBook(read_table(Path(override)), builtin), None
    except PriceFileError as error:
        return PriceBook(builtin), f"{error} Until then the built-in prices apply."


def read_table(path: Path) -> dict[str, list[_Model]]:
    """Read and compile the table at ``path``; raises :class:`PriceFileError`."""
    remedy = "Correct it or unset TAXIMETER_PRICES_FILE."
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PriceFileError(f"Price file {path}: larger than {MAX_FILE_BYTES} bytes. {remedy}")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PriceFileError(
            f"Price file {path} cannot be read: {error.strerror or error}. {remedy}"
        ) from error
    except json.JSONDecodeError as error:
        raise PriceFileError(
            f"Price file {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}. {remedy}"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise PriceFileError(f"Price file {path} is not UTF-8 JSON: {error}. {remedy}") from error
    try:
        return compile_table(document)
    except _Malformed as error:
        raise PriceFileError(f"Price file {path}, at {error.place}: {error.problem}. {remedy}") from error


def compile_table(document: Any) -> dict[str, list[_Model]]:
    """Compile a parsed table: provider -> models in the order in which they are tried."""
    table = _mapping(document, "$")
    if table.get("version") != 1:
        raise _Malformed("$.version", f"must be 1, not {table.get('version')!r}")
    compiled: dict[str, list[_Model]] = {}
    for provider, entry in _mapping(table.get("providers"), "$.providers").items():
        place = f"$.providers.{provider}"
        models = _mapping(entry, place).get("models")
        if not isinstance(models, list):
            raise _Malformed(f"{place}.models", "must be a list")
        compiled[str(provider)] = [_model(model, f"{place}.models[{i}]") for i, model in enumerate(models)]
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


def _model(value: Any, place: str) -> _Model:
    entry = _mapping(value, place)
    name = entry.get("id")
    if not isinstance(name, str) or not name:
        raise _Malformed(f"{place}.id", "must be the model's name")
    place = f"{place} ({name})"
    known = {"id", "match", "prices", "from", *RATES}
    if unknown := sorted(set(entry) - known):
        raise _Malformed(place, f"unknown key {unknown[0]!r} (known: {', '.join(sorted(known))})")
    prices = entry.get("prices")
    if prices is None:
        prices = [{key: rate for key, rate in entry.items() if key in {"from", *RATES}}]
    if not isinstance(prices, list) or not prices:
        raise _Malformed(f"{place}.prices", "must be a list of at least one price")
    dated = tuple(_dated(price, f"{place}.prices[{i}]") for i, price in enumerate(prices))
    match = entry.get("match", [["=", name]])
    if not isinstance(match, list) or not match:
        raise _Malformed(f"{place}.match", 'must be a list of [how, text], e.g. [["^", "gpt-4o"]]')
    clauses = [_clause(clause, f"{place}.match[{i}]") for i, clause in enumerate(match)]
    matches = clauses[0] if len(clauses) == 1 else lambda text: any(clause(text) for clause in clauses)
    return _Model(matches, tuple(sorted(dated, key=lambda pair: pair[0])))


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


def _dated(value: Any, place: str) -> tuple[float, Rates]:
    price = _mapping(value, place)
    if unknown := sorted(set(price) - {"from", *RATES}):
        raise _Malformed(place, f"unknown key {unknown[0]!r} (known: from, {', '.join(RATES)})")
    start = 0.0
    if (text := price.get("from")) is not None:
        try:
            day = date.fromisoformat(text)
        except (TypeError, ValueError):
            raise _Malformed(f"{place}.from", f"must be a date like 2026-01-31, not {text!r}") from None
        start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    if "input" not in price and "output" not in price:
        raise _Malformed(place, "has neither 'input' nor 'output'")
    rates = {key: _rate(price[key], f"{place}.{key}") for key in RATES if key in price}
    plain = rates.get("input", _Rate(0.0))
    write = rates.get("cache_write", plain)
    return start, Rates(
        input=plain,
        output=rates.get("output", _Rate(0.0)),
        cache_read=rates.get("cache_read", plain),
        cache_write=write,
        cache_write_1h=rates.get("cache_write_1h", write),
    )


def _rate(value: Any, place: str) -> _Rate:
    parts = value if isinstance(value, list) and value else [value]
    base = _per_token(parts[0], place)
    tiers: list[tuple[int, float]] = []
    for i, tier in enumerate(parts[1:], start=1):
        if not isinstance(tier, list) or len(tier) != 2 or not isinstance(tier[0], int):
            raise _Malformed(f"{place}[{i}]", f"must be [more_than_tokens, rate], not {tier!r}")
        tiers.append((tier[0], _per_token(tier[1], f"{place}[{i}]")))
    return _Rate(base, tuple(sorted(tiers, reverse=True)))


def _per_token(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise _Malformed(place, f"must be USD per million tokens, a number of at least 0, not {value!r}")
    return float(value) / 1e6
