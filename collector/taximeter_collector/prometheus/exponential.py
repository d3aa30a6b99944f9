"""Exponential histograms as classic ones, which both text formats can show.

The bounds are powers of two with one step between them (scale 1), coarser where a series spans more than 80
octaves or its sender is coarser. They cover what the series has seen and only grow, so a bound that was
shown stays, unless its sender becomes coarser. The counts at every bound that is shown are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_SCALE = 1
MAX_BUCKETS = 160
_SCALES = range(-10, 21)
_EXPONENTS = range(-1022, 1023)


@dataclass(slots=True)
class Grid:
    """``counts[0]`` is everything up to the bound of ``offset``, the last is what lies above all bounds."""

    scale: int
    offset: int
    counts: list[int]

    @property
    def bounds(self) -> list[float]:
        return [_bound(self.offset + at, self.scale) for at in range(len(self.counts) - 1)]

    def joined(self, newer: Grid, *, adding: bool) -> Grid:
        """The newer counts on bounds that cover both; with ``adding``, the sum of both."""
        scale = min(self.scale, newer.scale)
        old, new = self._at(scale), newer._at(scale)
        while max(old._end, new._end) - min(old.offset, new.offset) > MAX_BUCKETS:
            scale -= 1
            old, new = old._at(scale), new._at(scale)
        offset, end = min(old.offset, new.offset), max(old._end, new._end)
        counts = [0] * (end - offset + 2)
        for grid in (old, new) if adding else (new,):
            counts[0] += grid.counts[0]
            counts[-1] += grid.counts[-1]
            for at, count in enumerate(grid.counts[1:-1]):
                counts[grid.offset - offset + 1 + at] += count
        return Grid(scale, offset, counts)

    @property
    def _end(self) -> int:
        return self.offset + len(self.counts) - 2

    def _at(self, scale: int) -> Grid:
        if scale == self.scale:
            return self
        indexed = {self.offset + at: count for at, count in enumerate(self.counts[1:-1])}
        return _made(scale, self.scale - scale, indexed, self.counts[0], self.counts[-1])


def grid(point: Any) -> Grid | None:
    """Of an ExponentialHistogramDataPoint; None where its numbers make no sense."""
    if point.scale not in _SCALES:
        return None
    first = point.positive.offset
    indexed = {first + at: count for at, count in enumerate(point.positive.bucket_counts) if count}
    below = point.zero_count + sum(point.negative.bucket_counts)
    shift = max(0, point.scale - MAX_SCALE)
    if indexed:
        low, high = min(indexed), max(indexed)
        while (high >> shift) - (low >> shift) >= MAX_BUCKETS:
            shift += 1
        scale = point.scale - shift
        for edge in (low >> shift, (high >> shift) + 1):
            if round(edge * 2.0**-scale) not in _EXPONENTS:
                return None
    return _made(point.scale - shift, shift, indexed, below, 0)


def _made(scale: int, shift: int, indexed: dict[int, int], below: int, above: int) -> Grid:
    """From counts by index, coarsened ``shift`` times: bucket i lies between the bounds of i and i + 1."""
    coarse: dict[int, int] = {}
    for at, count in indexed.items():
        coarse[at >> shift] = coarse.get(at >> shift, 0) + count
    offset = min(coarse, default=0)
    end = max(coarse, default=offset - 1) + 1
    return Grid(scale, offset, [below, *(coarse.get(at, 0) for at in range(offset, end)), above])


def _bound(at: int, scale: int) -> float:
    bound: float = 2.0 ** (at * 2.0**-scale)
    return bound
