"""Bounded label values: the number of series must never be chosen by a stranger.

Each label remembers the values it has let through; once its limit is reached, a new value
becomes ``other``. Values are cut to a fixed length. Pure.
"""

from __future__ import annotations

import threading
from typing import Final

OTHER: Final = "other"
MAX_LENGTH: Final = 128


class Bounded:
    """Lets at most ``limit`` distinct values through, each at most ``MAX_LENGTH`` characters."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Begin anew in a forked process, where another thread may have held the lock."""
        self._lock = threading.Lock()

    def __call__(self, value: object) -> str:
        text = value if isinstance(value, str) else str(value)
        known = self._known.get(text)
        if known is not None:
            return known
        text = text[:MAX_LENGTH]
        with self._lock:
            if text in self._known:
                return text
            if len(self._known) >= self._limit:
                return OTHER
            self._known[text] = text
            return text


class Combined:
    """Lets at most ``limit`` distinct combinations of labels through; of a later one each is ``other``.

    Each label alone is bounded already, but money has several, and their product is not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[tuple[str | None, ...], tuple[str | None, ...]] = {}
        self._lock = threading.Lock()

    def renew(self) -> None:
        """As :meth:`Bounded.renew`."""
        self._lock = threading.Lock()

    def __call__(self, *values: str | None) -> tuple[str | None, ...]:
        if (known := self._known.get(values)) is not None:
            return known
        with self._lock:
            if len(self._known) >= self._limit and values not in self._known:
                return tuple(None if value is None else OTHER for value in values)
            return self._known.setdefault(values, values)
