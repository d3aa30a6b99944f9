"""What the service remembers between requests, where a ``fix.*`` flag lets it: answers by their key.

A fresh answer is given back; a stale one too, while it is renewed behind the guest's back (stale-while-
revalidate); one older than that is awaited anew. Requests that miss the same key at once wait for one answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import taximeter

FRESH_S = 120.0
STALE_S = 600.0


class Memory:
    """Up to ``capacity`` answers; the least recently used are forgotten first."""

    def __init__(self, name: str, capacity: int = 1_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._capacity = capacity
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Any]] = {}

    async def get(self, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer for ``key``, from memory or from ``ask()``. An answer of None is not remembered."""
        found = self._known.get(key)
        age = self._clock() - found[0] if found else STALE_S
        taximeter.record_cache(self._name, hit=age < STALE_S, key=key)
        if found and age < FRESH_S:
            self._known.move_to_end(key)
            return found[1]
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.ensure_future(self._renew(key, ask))
        return found[1] if found and age < STALE_S else await asyncio.shield(task)

    def known(self, key: str) -> Any:
        """The answer remembered for ``key``, or None: for answers that are not asked for in one go."""
        found = self._known.get(key)
        fresh = found is not None and self._clock() - found[0] < STALE_S
        taximeter.record_cache(self._name, hit=fresh, key=key)
        return found[1] if found and fresh else None

    def keep(self, key: str, answer: Any) -> None:
        """Remember an answer."""
        self._known[key] = (self._clock(), answer)
        self._known.move_to_end(key)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)

    async def _renew(self, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            answer = await ask()
            if answer is not None:
                self.keep(key, answer)
            return answer
        finally:
            del self._asking[key]
