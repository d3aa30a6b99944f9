"""How often a cache would have hit: replays of a stream of lookups, for every size at once.

`Curve` is exact for a least-recently-used cache (Mattson's stack distances); `replay` also knows a time to
live and several instances. Distances are counted with marks in blocks, so 400,000 lookups take seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

_BLOCK = 1024


def distances(keys: Sequence[Hashable]) -> Iterator[int | None]:
    """For each lookup, how many different keys came since the last one of this key; None for its first."""
    marks = bytearray(len(keys))  # 1 where a key was looked up last
    blocks = [0] * (len(keys) // _BLOCK + 1)
    last: dict[Hashable, int] = {}
    for at, key in enumerate(keys):
        before = last.get(key)
        if before is None:
            yield None
        else:
            block = before // _BLOCK
            end = (block + 1) * _BLOCK
            yield marks.count(1, before + 1, min(end, at)) + sum(blocks[block + 1 : at // _BLOCK + 1])
            marks[before] = 0
            blocks[block] -= 1
        marks[at] = 1
        blocks[at // _BLOCK] += 1
        last[key] = at


@dataclass(frozen=True)
class Curve:
    """Hits of a cache by its size. ``depths``: sorted distances of all lookups but first ones."""

    lookups: int
    depths: Sequence[int]
    different: int

    def hits(self, size: int) -> int:
        """Lookups that a cache of so many entries would have answered."""
        return bisect_right(self.depths, size - 1)

    def rate(self, size: int) -> float:
        return self.hits(size) / self.lookups if self.lookups else 0.0

    @property
    def ceiling(self) -> float:
        """What a cache without limit would have reached: the first lookup of a key is always a miss."""
        return len(self.depths) / self.lookups if self.lookups else 0.0

    def size_for(self, rate: float) -> int | None:
        """The smallest size that reaches a hit rate; None: no size does."""
        need = -(-int(rate * self.lookups * 1_000_000) // 1_000_000)
        if need > len(self.depths):
            return None
        return self.depths[need - 1] + 1 if need > 0 else 0


def curve(keys: Sequence[Hashable]) -> Curve:
    """The curve of a stream of lookups."""
    found = sorted(each for each in distances(keys) if each is not None)
    return Curve(len(keys), found, len(keys) - len(found))


def replay(
    lookups: Iterable[tuple[float, Hashable, Hashable]], size: int, ttl_s: float | None = None
) -> list[bool]:
    """Whether each lookup (seconds, instance, key) hits: a cache of ``size`` in each instance.

    A key lives ``ttl_s`` from when it was put in; a hit makes it the latest used but not younger.
    """
    caches: dict[Hashable, OrderedDict[Hashable, float]] = {}
    hits = []
    for now, instance, key in lookups:
        cache = caches.setdefault(instance, OrderedDict())
        put = cache.get(key)
        hit = put is not None and (ttl_s is None or now - put < ttl_s)
        hits.append(hit)
        if not hit:
            cache[key] = now
        cache.move_to_end(key)
        if len(cache) > size:
            cache.popitem(last=False)
    return hits


def most_common(keys: Iterable[Hashable], top: int) -> int:
    """How many lookups the ``top`` commonest keys have together."""
    return sum(count for _, count in Counter(keys).most_common(top))
