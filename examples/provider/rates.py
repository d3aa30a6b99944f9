"""Published prices, typed by hand from the providers' price pages: the ledger's own truth.

USD per million tokens, as ``Decimal``, so that the ledger's sums are exact. Nothing here is
derived from the price data that Taximeter uses; a test holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per million tokens. ``input`` is for tokens neither read from nor written to a cache."""

    input: Decimal
    output: Decimal = Decimal(0)
    cache_read: Decimal = Decimal(0)
    cache_write_5m: Decimal = Decimal(0)
    cache_write_1h: Decimal = Decimal(0)


RATES: dict[str, Rate] = {
    # platform.openai.com/docs/pricing. OpenAI does not charge for writing these models' cache.
    "gpt-4o": Rate(Decimal("2.50"), Decimal("10.00"), cache_read=Decimal("1.25")),
    "gpt-4o-mini": Rate(Decimal("0.15"), Decimal("0.60"), cache_read=Decimal("0.075")),
    "text-embedding-3-small": Rate(Decimal("0.02")),
    # docs.claude.com/en/docs/about-claude/pricing
    "claude-sonnet-4-6": Rate(
        Decimal("3.00"), Decimal("15.00"), Decimal("0.30"), Decimal("3.75"), Decimal("6.00")
    ),
    "claude-haiku-4-5": Rate(
        Decimal("1.00"), Decimal("5.00"), Decimal("0.10"), Decimal("1.25"), Decimal("2.00")
    ),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt. ``input`` counts every prompt token, cached ones included."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0

    @property
    def cache_write(self) -> int:
        return self.cache_write_5m + self.cache_write_1h

    @property
    def fresh(self) -> int:
        """Input tokens charged at the plain input rate."""
        return self.input - self.cache_read - self.cache_write


def cost(model: str, usage: Usage) -> Decimal:
    """Exact cost in USD of ``usage`` at the rates of ``model`` (a key of ``RATES``)."""
    rate = RATES[model]
    return (
        usage.fresh * rate.input
        + usage.cache_read * rate.cache_read
        + usage.cache_write_5m * rate.cache_write_5m
        + usage.cache_write_1h * rate.cache_write_1h
        + usage.output * rate.output
    ) / MILLION
