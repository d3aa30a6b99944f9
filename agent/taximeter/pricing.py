"""What a model call costs, from dated tables of rates.

The built-in table (``prices.json``) is rendered from the genai-prices data by
``taximeter prices update``; a file of contract prices (``TAXIMETER_PRICES_FILE``, see
``taximeter.pricefile`` for its shape) goes before it. Rates are compiled per model once, so
that pricing a call is a few multiplications.

What is not known has no price: :meth:`PriceBook.quote` gives ``cost=None`` and the reason,
never 0. That holds for an unknown provider, model or service tier, and for a call that used
something its model has no rate for (audio, a server tool). Pure: imports nothing of
OpenTelemetry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Final, NamedTuple

TOKEN_RATES: Final = (
    *("input", "output", "cache_read", "cache_write", "cache_write_1h"),
    *("input_audio", "cache_read_audio", "output_audio"),
    *("input_image", "cache_read_image", "output_image", "input_video"),
)
CALL_RATES: Final = ("web_search", "file_search")  # USD per thousand calls
RATES: Final = TOKEN_RATES + CALL_RATES
_MAX_CACHE: Final = 4096

#: ``gen_ai.provider.name`` -> tables to look in, in order.
PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "azure.ai.openai": ("azure", "openai"),
    "azure.ai.inference": ("azure", "openai", "anthropic", "deepseek", "x-ai", "moonshotai"),
    "aws.bedrock": ("aws",),
    "gcp.gemini": ("google",),
    "gcp.gen_ai": ("google",),
    "gcp.vertex_ai": ("google", "anthropic"),
    "mistral_ai": ("mistral",),
    "moonshot_ai": ("moonshotai",),
    "x_ai": ("x-ai",),
}


class PriceFileError(Exception):
    """A price file cannot be used. The message names path, place and remedy."""


class Usage(NamedTuple):
    """What one call used. Tokens, save the two kinds of searches.

    ``input`` and ``output`` include all others of their side: cached ones (read and written),
    audio, images, reasoning. ``cache_read_audio`` is part of both ``cache_read`` and
    ``input_audio``.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0  # the part of cache_write kept for an hour
    input_audio: int = 0
    cache_read_audio: int = 0
    output_audio: int = 0
    input_image: int = 0
    cache_read_image: int = 0
    output_image: int = 0
    input_video: int = 0
    web_search: int = 0
    file_search: int = 0
    reasoning: int = 0  # part of output and charged as such; for the record


class Rate(NamedTuple):
    """USD per unit: the base, and tiers ``(more_than_input_tokens, rate)``, highest first."""

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, input_tokens: int) -> float:
        """The rate for a call whose whole input is ``input_tokens``."""
        for start, rate in self.tiers:
            if input_tokens > start:
                return rate
        return self.base

    def times(self, factor: float) -> Rate:
        return Rate(self.base * factor, tuple((start, rate * factor) for start, rate in self.tiers))


class Part(NamedTuple):
    """One line of a bill."""

    name: str  # as in RATES
    quantity: int
    rate: float  # USD per token or call


class NoRate(Exception):
    """A call used something that its model has no rate for."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of one model, service tier and time, by the names of :data:`RATES`."""

    rates: Mapping[str, Rate]
    start: float = 0.0  # Unix time from which they apply

    def parts(self, usage: Usage) -> list[Part]:
        """The bill, line by line. Counts that contradict each other are clamped, never negative.

        Raises :class:`NoRate` with the name of what has no rate.
        """
        size = usage.input
        read = min(usage.cache_read, size)
        write = min(usage.cache_write, size - read)
        hour = min(usage.cache_write_1h, write)
        rest, output = size - read - write, usage.output
        bill: list[tuple[str, int]] = []
        if usage[5:14] != _NO_EXTRAS:
            for name, whole, cached in (
                ("audio", usage.input_audio, usage.cache_read_audio),
                ("image", usage.input_image, usage.cache_read_image),
                ("video", usage.input_video, 0),
            ):
                cached = min(cached, whole, read)  # noqa: PLW2901
                fresh = min(whole - cached, rest)
                read, rest = read - cached, rest - fresh
                bill += [(f"input_{name}", fresh), (f"cache_read_{name}", cached)]
            audio = min(usage.output_audio, output)
            image = min(usage.output_image, output - audio)
            output -= audio + image
            bill += [("output_audio", audio), ("output_image", image)]
            bill += [("web_search", usage.web_search), ("file_search", usage.file_search)]
        bill += [("input", rest), ("cache_read", read)]
        bill += [("cache_write", write - hour), ("cache_write_1h", hour), ("output", output)]
        return [Part(name, quantity, self._rate(name, size)) for name, quantity in bill if quantity]

    def _rate(self, name: str, size: int) -> float:
        rate = self.rates.get(name)
        if rate is None:
            raise NoRate(name)
        return rate.at(size)

    def cost(self, usage: Usage, factor: float = 1.0) -> float:
        """USD for ``usage``: the total of its parts, without making them where it is text alone."""
        if factor != 1 or usage[5:14] != _NO_EXTRAS:
            return total(self.parts(usage), factor)
        size = usage[0]
        read = min(usage[2], size)
        write = min(usage[3], size - read)
        hour = min(usage[4], write)
        rest = size - read - write
        return sum(
            [
                quantity * self._rate(name, size)
                for name, quantity in (
                    *(("input", rest), ("cache_read", read)),
                    *(("cache_write", write - hour), ("cache_write_1h", hour), ("output", usage[1])),
                )
                if quantity
            ]
        )

    def flat(self) -> tuple[float, float, float] | None:
        """The rates of input, cached input and output, where none depends on the size; NaN: there is none."""
        found = [self.rates.get(name, Rate(nan)) for name in ("input", "cache_read", "output")]
        if any(rate.tiers for rate in found):
            return None
        fresh, cached, made = (rate.base for rate in found)
        return fresh, cached, made

    def times(self, factor: float) -> Rates:
        """The same at a discount."""
        return Rates({name: rate.times(factor) for name, rate in self.rates.items()}, self.start)


_NO_EXTRAS: Final = (0,) * 9


def total(parts: Sequence[Part], factor: float = 1.0) -> float:
    """USD for a bill, token rates times ``factor``."""
    if factor == 1:
        return sum([part.quantity * part.rate for part in parts])
    return sum([part.quantity * part.rate * (1 if part.name in CALL_RATES else factor) for part in parts])


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of a table. ``discount`` without prices: that much off the next table's."""

    id: str
    matches: Callable[[str], bool]
    prices: Mapping[str, tuple[Rates, ...]]  # by service tier ("" is the standard one), by start
    discount: float = 0.0
    source: str = ""

    def rates(self, tier: str, when: float) -> Rates | None:
        """What applies to ``tier`` at Unix time ``when``; the first standard price has no beginning."""
        dated = self.prices.get(tier)
        if not dated:
            return None
        best = None if tier else dated[0]
        for rates in dated:
            if when >= rates.start:
                best = rates
        return best

    def until(self, tier: str, when: float) -> float:
        """How long what applies at Unix time ``when`` does."""
        return min((rates.start for rates in self.prices.get(tier, ()) if rates.start > when), default=inf)

    def times(self, factor: float, source: str) -> Model:
        prices = {tier: tuple(rates.times(factor) for rates in dated) for tier, dated in self.prices.items()}
        return Model(self.id, self.matches, prices, source=f"{self.source}, {1 - factor:.4g} off by {source}")


@dataclass(frozen=True, slots=True)
class Table:
    """One price file, compiled as far as it is asked for."""

    source: str
    providers: Mapping[str, Callable[[], Sequence[Model]]]
    discounts: Mapping[str, float]  # by provider, off the tables after this one


class Quote(NamedTuple):
    """A price, or why there is none."""

    cost: float | None
    reason: str  # "" with a cost; else no_usage, unknown_model, unknown_tier or no_rate:NAME
    entry: Model | None = None
    rates: Rates | None = None


class PriceBook:
    """Prices of every known model; tables given first win."""

    def __init__(self, *tables: Table) -> None:
        self._tables = tables
        self._found: dict[tuple[str, str], Model | None] = {}

    def quote(
        self,
        provider: str,
        models: Sequence[str | None],
        usage: Usage,
        *,
        tier: str = "",
        factor: float = 1.0,
        when: float | None = None,
    ) -> Quote:
        """The price of ``usage`` by the first of ``models`` that is known; ``factor`` is of token rates.

        Give the response's model first, then the request's: an alias may be all the table knows.
        """
        entry = self.first(provider, models)
        if entry is None:
            return Quote(None, "unknown_model")
        rates = entry.rates(tier, time.time() if when is None else when)
        if rates is None:
            return Quote(None, "unknown_tier", entry)
        try:
            return Quote(total(rates.parts(usage), factor), "", entry, rates)
        except NoRate as missing:
            return Quote(None, f"no_rate:{missing}", entry, rates)

    def first(self, provider: str, models: Sequence[str | None]) -> Model | None:
        """The entry of the first of ``models`` that is known."""
        return next(
            (found for name in models if name and type(name) is str and (found := self.find(provider, name))),
            None,
        )

    def price(
        self, provider: str, models: Sequence[str | None], usage: Usage, when: float | None = None
    ) -> float | None:
        """USD for ``usage`` at the standard tier, or ``None`` if that is not known."""
        return self.quote(provider, models, usage, when=when).cost

    def find(self, provider: str, model: str) -> Model | None:
        """The entry that prices ``model`` when ``provider`` serves it, discounts taken off."""
        key = (provider, model)
        if key in self._found:
            return self._found[key]
        found = self._search(provider, model.lower()[:256])
        if len(self._found) < _MAX_CACHE:
            self._found[key] = found
        return found

    def providers(self) -> Iterator[tuple[Table, str, Sequence[Model]]]:
        """Every table and provider with its models, as they are tried."""
        for table in self._tables:
            for name, models in table.providers.items():
                yield table, name, models()

    def _search(self, provider: str, model: str) -> Model | None:
        factor, by = 1.0, ""
        names = (provider, *PROVIDERS.get(provider, ()))
        for table in self._tables:
            models = (found for name in names for found in table.providers.get(name, tuple)())
            found = next((candidate for candidate in models if candidate.matches(model)), None)
            if found is not None and not found.discount:
                return found if factor == 1 else found.times(factor, by)
            discounts = [table.discounts[name] for name in names if name in table.discounts]
            discount = found.discount if found is not None else next(iter(discounts), 0.0)
            if discount:
                factor, by = factor * (1 - discount), table.source
        return None


def builtin_path() -> Path:
    """Where the built-in table lies."""
    return Path(__file__).with_name("prices.json")


def load(override: str | None = None) -> tuple[PriceBook, str | None]:
    """The price book, and a message when the ``override`` file cannot be used (it is then left out)."""
    from taximeter import pricefile  # noqa: PLC0415  (it imports this module)

    builtin = pricefile.read(builtin_path(), trusted=True)
    if not override:
        return PriceBook(builtin), None
    try:
        return PriceBook(pricefile.read(Path(override)), builtin), None
    except PriceFileError as error:
        return PriceBook(builtin), f"{error} Until then the built-in prices apply."
