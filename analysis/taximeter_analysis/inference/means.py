"""Means and shares before and after: Welch's test on the difference, bounds of the ratio.

For means the bootstrap has a known limit, the normal (with Student's correction for few units);
it is used directly. The unit is a request, or a run where several runs were given: requests of one
run share its machine and its minute, so runs are the honest unit whenever there are some.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from taximeter_analysis.inference.distributions import t_cdf, t_quantile


@dataclass(frozen=True)
class Mean:
    """A mean of ``count`` units with their standard deviation."""

    count: int
    mean: float
    deviation: float

    @property
    def error(self) -> float:
        """Standard error."""
        return self.deviation / math.sqrt(self.count)


def mean_of(values: Sequence[float]) -> Mean:
    """`Mean` of these units, two or more."""
    n = len(values)
    mean = math.fsum(values) / n
    return Mean(n, mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)))


def share_of(part: float, whole: int) -> Mean:
    """A share as a mean of zeros and ones, with one success and one failure added to its deviation.

    The addition (Agresti and Coull's idea) keeps 0 of 20 from claiming to be certain.
    """
    guess = (part + 1) / (whole + 2)
    return Mean(whole, part / whole, math.sqrt(guess * (1 - guess)))


def freedom(one: Mean, other: Mean) -> float:
    """Welch and Satterthwaite's degrees of freedom of a difference; infinite without any spread."""
    spread = sum(side.error**4 / (side.count - 1) for side in (one, other) if side.error > 0)
    return math.hypot(one.error, other.error) ** 4 / spread if spread else math.inf


@dataclass(frozen=True)
class MeanShift:
    """``after - before`` and ``after / before`` with their bounds (None: before is 0)."""

    difference: float
    ratio: float | None
    low: float | None
    high: float | None
    p_not_higher: float
    p_not_lower: float
    error: float  # standard error of the difference


def shift(before: Mean, after: Mean, allowed: float = 0.0, confidence: float = 0.95) -> MeanShift:
    """Compare two means. Without any spread on both sides, a difference is certain.

    ``allowed``: the difference and its chances are taken against ``before * (1 + allowed)``.
    """
    difference = after.mean - before.mean * (1 + allowed)
    error = math.hypot(before.error * (1 + allowed), after.error)
    ratio = after.mean / before.mean if before.mean > 0 else None
    if error == 0:
        return MeanShift(
            difference,
            ratio,
            ratio,
            ratio,
            1.0 if difference <= 0 else 0.0,
            1.0 if difference >= 0 else 0.0,
            0.0,
        )
    degrees = freedom(before, after)
    p_higher = 1.0 - t_cdf(difference / error, degrees)
    low = high = None
    if ratio is not None and after.mean > 0:
        width = t_quantile(confidence, degrees) * math.hypot(
            before.error / before.mean, after.error / after.mean
        )
        low, high = ratio * math.exp(-width), ratio * math.exp(width)
    elif ratio is not None:
        low, high = 0.0, t_quantile(confidence, degrees) * error / before.mean
    return MeanShift(difference, ratio, low, high, p_higher, 1.0 - p_higher, error)
