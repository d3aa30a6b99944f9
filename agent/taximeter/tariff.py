"""What one model costs as one provider serves it in one tier, looked up once until a date changes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf, isnan
from typing import Final

from taximeter.pricing import NoRate, PriceBook, Rates, Usage

_NO_WRITES: Final = (0,) * 11


class Tariff:
    """One model as one provider serves it in one tier: looked up once, until a date changes its rates."""

    __slots__ = ("_book", "_flat", "_models", "_provider", "_rates", "_reason", "_tier", "_until")

    def __init__(self, book: PriceBook, provider: str, models: Sequence[str | None], tier: str) -> None:
        self._book, self._provider, self._models, self._tier = book, provider, models, tier
        self._rates: Rates | None = None
        self._reason = ""
        self._until = -inf
        #: Rates of plain input, of cached input and of output, where none depends on the size.
        self._flat: tuple[float, float, float] | None = None

    def quote(self, usage: Usage, factor: float = 1.0) -> tuple[float | None, str]:
        """The price of a call now, or ``None`` and why, as of :meth:`PriceBook.quote`."""
        if (now := time.time()) >= self._until:
            self._look_up(now)
        if self._rates is None:
            return None, self._reason
        size, output, read = usage[:3]
        if self._flat is not None and factor == 1 and usage[3:14] == _NO_WRITES and read <= size:
            fresh, cached, made = self._flat
            rest = size - read
            cost = sum([rest and rest * fresh, read and read * cached, output and output * made])
            if not isnan(cost):  # nothing was used that has no rate
                return cost, ""
        try:
            return self._rates.cost(usage, factor), ""
        except NoRate as missing:
            return None, f"no_rate:{missing}"

    def _look_up(self, now: float) -> None:
        entry = self._book.first(self._provider, self._models)
        self._rates = None if entry is None else entry.rates(self._tier, now)
        self._flat = None if self._rates is None else self._rates.flat()
        self._reason = "unknown_model" if entry is None else "unknown_tier" if self._rates is None else ""
        # Last: another thread looks up as well until it sees this.
        self._until = inf if entry is None else entry.until(self._tier, now)
