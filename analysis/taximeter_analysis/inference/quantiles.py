"""A quantile with its uncertainty: the order statistics around it, and bounds that assume nothing.

How many of n values lie beyond the true quantile is binomial, whatever their distribution. So a few
dozen order statistics (`Ranked`, saved with every report) stand for all requests: for the bounds of
the quantile, for a test against a limit, and for the comparison with another run (`inference.tails`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from taximeter_analysis.inference.distributions import binomial_at_least
from taximeter_analysis.model import Ranked

#: Each bound of an interval holds with this confidence.
CONFIDENCE = 0.95

_SIGMAS = 8.0  # five for the test of `tails`, three for how far the other run may have moved
_MOST = 160


def rank_of(q: float, count: int) -> int:
    """Nearest rank: ceil(q * count), computed in integers for q given in thousandths."""
    return max(1, -(-round(q * 1000) * count // 1000))


def window(q: float, count: int) -> tuple[int, int, int]:
    """First and last rank and the step between them that `Ranked` keeps; the quantile's own is among them."""
    rank = rank_of(q, count)
    half = math.ceil(_SIGMAS * math.sqrt(count * q * (1 - q))) + 2
    step = max(1, -(-2 * half // _MOST))
    below, above = min(half, rank - 1) // step, min(half, count - rank) // step
    return rank - below * step, rank + above * step, step


def ranked(q: float, values: Sequence[float]) -> Ranked:
    """The order statistics of these sorted values around their quantile."""
    first, last, step = window(q, len(values))
    return ranked_from(q, len(values), first, step, [values[n - 1] for n in range(first, last + 1, step)])


def ranked_from(q: float, count: int, first: int, step: int, values: Sequence[float]) -> Ranked:
    """A `Ranked` with its estimate and bounds, from the values that `window` asked for."""
    bare = Ranked(q, count, 0.0, None, None, first, step, tuple(values))
    low, high = bounds(bare)
    return replace(bare, value=estimate(bare), low=low, high=high)


def estimate(sample: Ranked) -> float:
    """The quantile itself."""
    return sample.values[(rank_of(sample.q, sample.count) - sample.first) // sample.step]


def needed(q: float, confidence: float = CONFIDENCE) -> int:
    """The smallest sample that has an upper confidence bound of its quantile: 59 for P95, 299 for P99."""
    return math.ceil(round(math.log(1 - confidence) / math.log(q), 9))


def bounds(sample: Ranked, confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """Distribution-free bounds of the quantile, each holding with ``confidence``; None where none exists."""
    n, q = sample.count, sample.q
    low = high = None
    for index, value in enumerate(sample.values):
        rank = sample.first + index * sample.step
        if binomial_at_least(rank, n, q) >= confidence:
            low = value
        elif 1 - binomial_at_least(rank, n, q) >= confidence:
            high = value
            break
    return low, high


def exceeding_p(sample: Ranked, limit: float) -> float:
    """The chance of so many values over ``limit`` if the true quantile were at the limit: exact, binomial."""
    over = sample.count
    for index, value in enumerate(sample.values):
        if value > limit:
            # the rank before the first one over the limit; ranks between kept ones count as within it
            over = sample.count - (sample.first + index * sample.step - 1)
            break
        over = sample.count - (sample.first + index * sample.step)
    return binomial_at_least(over, sample.count, 1 - sample.q)
