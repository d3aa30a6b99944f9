"""Has a quantile moved? A rank test of the requests around it, exact in what it supposes.

The order statistics that two runs keep around their quantile (`Ranked`: eight standard deviations of
its rank to each side) are ranked together; a value's score rises from 0 five
standard deviations below the quantile to 1 five above it. If nothing changed, every assignment of those
scores to the two runs is as likely as any other, whatever the distribution: the sum of the later run's
scores has a known mean and variance. The quantile alone says less: between two runs it jumps over
gaps in the tail, while the requests on both sides of it show a shift just the same.

What is called higher must be higher in the quantile itself as well. Bounds of the ratio are those ratios
by which the earlier run could be multiplied without the test objecting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from taximeter_analysis.inference.distributions import z
from taximeter_analysis.inference.quantiles import CONFIDENCE, estimate
from taximeter_analysis.model import Ranked

_LEAST = 1e-9  # a nanosecond: nothing is measured more finely, and it has a logarithm
_SUSPECT = 0.5  # the chance that is said at least where the quantile itself is not beyond the limit
_RAMP = 5.0  # standard deviations of the quantile's rank
_MARGIN = 1.25  # on every chance, for what is approximate: the normal, and values kept in steps
_FINE = 1e-4  # of the logarithm of a ratio


@dataclass(frozen=True)
class QuantileShift:
    """The ratio after / before of a quantile, its bounds, and the chance of such a rise or fall."""

    ratio: float
    low: float
    high: float
    p_not_higher: float
    p_not_lower: float
    error: float  # standard error of the log of the ratio


def shift(
    before: Ranked, after: Ranked, allowed: float = 0.0, confidence: float = CONFIDENCE
) -> QuantileShift:
    """Compare two quantiles. ``allowed``: only what is beyond this relative increase counts as higher."""
    ratio = estimate(after) / max(estimate(before), _LEAST)
    limit = z(1 - (1 - confidence) / _MARGIN)
    low, high = _reached(before, after, limit), _reached(before, after, -limit)
    not_higher = _chance(lifted(before, after, 1.0 + allowed))
    not_lower = _chance(-lifted(before, after, 1.0))
    return QuantileShift(
        ratio=ratio,
        low=low,
        high=high,
        p_not_higher=not_higher if ratio > 1.0 + allowed else max(not_higher, _SUSPECT),
        p_not_lower=not_lower if ratio < 1.0 else max(not_lower, _SUSPECT),
        error=math.log(high / low) / (2 * limit),
    )


def lifted(before: Ranked, after: Ranked, scale: float) -> float:
    """By how many standard deviations ``after`` is above ``before * scale``; 0: nothing tells them apart."""
    ours = [(value * scale, rank) for value, rank in _steps(before)]
    theirs = list(_steps(after))
    low, high = max(ours[0][0], theirs[0][0]), min(ours[-1][0], theirs[-1][0])
    if low >= high:  # what they kept does not overlap: only what is above the middle counts
        low = high = (low + high) / 2
    n, m = before.count, after.count
    one = _cut(ours, before.first - 1, n, low=low, high=high)
    other = _cut(theirs, after.first - 1, m, low=low, high=high)
    ramp = _RAMP * math.sqrt(before.q * (1 - before.q) / min(n, m))
    start, width = (n + m) * (before.q - ramp), (n + m) * 2 * ramp
    scores, reached = [], 0
    for value in sorted({*one, *other}):
        here, there = one.get(value, 0), other.get(value, 0)
        place = (reached + (here + there) / 2 - start) / width
        score = 1.0 if value == math.inf else 0.0 if value == -math.inf else min(max(place, 0.0), 1.0)
        scores.append((score, here + there, there))
        reached += here + there
    return _deviations(scores, m, n + m)


def _deviations(scores: list[tuple[float, int, int]], drawn: int, whole: int) -> float:
    """How far the drawn ones' scores lie above those of as many drawn at random, as a normal deviate.

    ``scores``: each with how many have it, and how many of the drawn. The sum over a random draw without
    replacement has known moments; its skewness matters where one run is much longer than the other, and is
    taken out by Wilson and Hilferty's cube root.
    """
    mean = math.fsum(score * count for score, count, _ in scores) / whole
    squares = math.fsum(count * (score - mean) ** 2 for score, count, _ in scores)
    cubes = math.fsum(count * (score - mean) ** 3 for score, count, _ in scores)
    left = whole - drawn
    spread = math.sqrt(squares * drawn * left / (whole * (whole - 1)))
    if spread < 1e-9:
        return 0.0
    deviate = math.fsum((score - mean) * mine for score, _, mine in scores) / spread
    skew = cubes * drawn * left * (left - drawn) / (whole * (whole - 1) * (whole - 2)) / spread**3
    if abs(skew) < 1e-6:
        return deviate
    return 6 / skew * (math.cbrt(max(1 + skew * deviate / 2, 0.0)) - 1) + skew / 6


def _steps(sample: Ranked) -> Iterator[tuple[float, int]]:
    """The kept values, each with the last rank that it stands for; ranks in between go to their nearest."""
    last = len(sample.values) - 1
    for index, value in enumerate(sample.values):
        rank = sample.first + index * sample.step
        yield value, rank if index == last else rank + (sample.step - 1) // 2


def _cut(
    kept: list[tuple[float, int]], less: int, count: int, *, low: float, high: float
) -> dict[float, int]:
    """How many of ``count`` requests have each value; those below ``low`` or above ``high`` at an infinity.

    ``less``: so many lie below the first value that was kept.
    """
    found = {-math.inf: less}
    before = less
    for value, rank in kept:
        place = -math.inf if value < low else math.inf if value > high else value
        found[place] = found.get(place, 0) + rank - before
        before = rank
    found[math.inf] = found.get(math.inf, 0) + count - before
    return found


def _reached(before: Ranked, after: Ranked, limit: float) -> float:
    """The ratio at which ``after`` is lifted by ``limit``, to four figures, by bisection."""
    low = math.log(max(after.values[0], _LEAST) / max(before.values[-1], _LEAST)) - _FINE
    high = math.log(max(after.values[-1], _LEAST) / max(before.values[0], _LEAST)) + _FINE
    while high - low > _FINE:
        middle = (low + high) / 2
        low, high = (middle, high) if lifted(before, after, math.exp(middle)) > limit else (low, middle)
    return math.exp(low if limit > 0 else high)


def _chance(deviate: float) -> float:
    """Of a deviate so high or higher."""
    return min(1.0, _MARGIN * 0.5 * math.erfc(deviate / math.sqrt(2)))
