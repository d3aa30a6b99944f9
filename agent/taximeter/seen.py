"""Which keys this process has looked up before: the ceiling of a cache's hit rate, as it happens.

A lookup whose key was never looked up before cannot hit, whatever the cache's size; the share of
all others is the ceiling. Kept as hashes of the running process in two generations, so that what is
bounded is the memory and not the time: a key is forgotten once ``generation`` newer ones came after
it. Pure.
"""

from __future__ import annotations

from typing import Final

GENERATION: Final = 50_000  # of 60 to 100 bytes each


class Seen:
    """The keys that were looked up lately. Threads need no lock: a race miscounts one key."""

    __slots__ = ("_generation", "_new", "_old")

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._new: set[int] = set()
        self._old: set[int] = set()

    def before(self, name: str, key: object) -> bool:
        """Whether this key of that cache was looked up before; remembers it."""
        each = hash((name, key if isinstance(key, str | bytes | int) else repr(key)))
        if each in self._new:
            return True
        known = each in self._old
        if len(self._new) >= self._generation:
            self._old, self._new = self._new, set()
        self._new.add(each)
        return known
