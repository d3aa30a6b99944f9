"""Quantiles with their uncertainty: order statistics, their bounds and their exact bootstrap.

The quantile of a resample of n values is one of the original order statistics, and which one is
known in closed form: P(rank <= j) = P(Bin(n, j/n) >= k). So the bootstrap needs no resampling, no
seed and no time: the distribution over ranks is written down. Only ranks near the quantile have any
weight, so a few dozen order statistics (`Ranked`, saved with every report) stand for all requests.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taximeter_analysis.inference.distributions import binomial_at_least
from taximeter_analysis.model import Ranked

#: Each bound of an interval holds with this confidence.
CONFIDENCE = 0.95

_LEAST = 1e-9  # a nanosecond: nothing is measured more finely, and it has a logarithm
_SIGMAS = 5.0
_MOST = 100


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


@functools.lru_cache(maxsize=4096)
def _weights(q: float, count: int, first: int, step: int, size: int) -> tuple[float, ...]:
    """The bootstrap's probability of each kept rank; ranks in between go to their nearest."""
    rank, below, weights = rank_of(q, count), 0.0, []
    for index in range(size):
        upto = count if index == size - 1 else first + index * step + step // 2
        reached = binomial_at_least(rank, count, upto / count)
        weights.append(max(0.0, reached - below))
        below = reached
    return tuple(weights)


def weights(sample: Ranked) -> tuple[float, ...]:
    """The bootstrap distribution of the sample's quantile over its kept values; sums to 1."""
    return _weights(sample.q, sample.count, sample.first, sample.step, len(sample.values))


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


@dataclass(frozen=True)
class QuantileShift:
    """The ratio after / before of a quantile, with bounds, and how often a bootstrap says otherwise."""

    ratio: float
    low: float
    high: float
    p_not_higher: float
    p_not_lower: float
    error: float  # standard deviation of the log of the ratio


def shift(
    before: Ranked, after: Ranked, allowed: float = 0.0, confidence: float = CONFIDENCE
) -> QuantileShift:
    """Compare two quantiles. ``allowed``: only what is beyond this relative increase counts as higher."""
    return QuantileShift(
        ratio=estimate(after) / max(estimate(before), _LEAST),
        low=_ratio_reached(before, after, 1 - confidence),
        high=_ratio_reached(before, after, confidence),
        p_not_higher=_not_higher(before, after, 1.0 + allowed),
        p_not_lower=_not_higher(after, before, 1.0),
        error=math.hypot(_spread(before), _spread(after)),
    )


def _at_most(before: Ranked, after: Ranked, scale: float) -> float:
    """How often ``after <= before * scale``, over all pairs of bootstrapped quantiles."""
    seconds = weights(after)
    chance, reached, index = 0.0, 0.0, 0
    for value, weight in zip(before.values, weights(before), strict=True):
        while index < len(seconds) and after.values[index] <= value * scale:
            reached += seconds[index]
            index += 1
        chance += weight * reached
    return min(1.0, chance)


def _not_higher(before: Ranked, after: Ranked, scale: float) -> float:
    """How often a bootstrapped ``after`` is not beyond ``before * scale``; a tie counts half."""
    return (_at_most(before, after, scale) + 1.0 - _at_most(after, before, 1.0 / scale)) / 2


def _ratio_reached(before: Ranked, after: Ranked, share: float) -> float:
    """The ratio that this share of the bootstrapped ratios stays within, to four figures, by bisection."""
    low = math.log(max(after.values[0], _LEAST) / max(before.values[-1], _LEAST)) - 1e-4
    high = math.log(max(after.values[-1], _LEAST) / max(before.values[0], _LEAST)) + 1e-4
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(before, after, math.exp(middle)) < share else (low, middle)
    return math.exp(high if share > 0.5 else low)


def _spread(sample: Ranked) -> float:
    """The standard deviation of the logarithm of the bootstrapped quantile."""
    logs, chances = [math.log(max(value, _LEAST)) for value in sample.values], weights(sample)
    mean = math.fsum(chance * value for chance, value in zip(chances, logs, strict=True))
    return math.sqrt(
        math.fsum(chance * (value - mean) ** 2 for chance, value in zip(chances, logs, strict=True))
    )
