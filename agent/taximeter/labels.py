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
