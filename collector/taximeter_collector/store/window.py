"""Which spans were stored lately: at-least-once senders and replays must count once.

Two sets that take turns, so that the older half can be forgotten at once. Bounded twice: by
time (a key is remembered for at least ``window_s``) and by number, for which the time gives way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable


class RecentKeys:
    """A set of byte keys that forgets."""

    def __init__(
        self, window_s: float = 600, max_keys: int = 1_000_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._max = max_keys // 2
        self._clock = clock
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turned = clock()

    def __contains__(self, key: bytes) -> bool:
        return key in self._new or key in self._old

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def add(self, keys: Iterable[bytes]) -> None:
        """Remember; call when the keys' rows are on disk, so that a failed write can be repeated."""
        now = self._clock()
        if now - self._turned > self._window_s or len(self._new) >= self._max:
            self._old, self._new, self._turned = self._new, set(), now
        self._new.update(keys)
