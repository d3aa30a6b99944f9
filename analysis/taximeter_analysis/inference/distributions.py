"""The few distributions that the verdicts need: binomial tails, Student's t, the normal.

Written out here because they are 80 lines, and scipy is 100 MB. Each is tested against
values computed with exact fractions.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300
_EPSILON = 1e-14


@functools.lru_cache(maxsize=1 << 17)
def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    ) - math.log(a)
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    fraction = d
    for m in range(1, 1000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + numerator / c
            c = c if abs(c) > _TINY else _TINY
            change = c * d
            fraction *= change
        if abs(change - 1.0) < _EPSILON:
            break
    return min(1.0, math.exp(log_front) * fraction)


def binomial_at_least(k: int, n: int, p: float) -> float:
    """P(Bin(n, p) >= k)."""
    if k <= 0:
        return 1.0
    return 0.0 if k > n else beta_cdf(p, float(k), float(n - k + 1))


def t_cdf(t: float, freedom: float) -> float:
    """P(T <= t) for Student's t; ``freedom`` may be infinite (the normal)."""
    if math.isinf(freedom):
        return _NORMAL.cdf(t)
    tail = 0.5 * beta_cdf(freedom / (freedom + t * t), freedom / 2, 0.5)
    return tail if t < 0 else 1.0 - tail


def t_quantile(p: float, freedom: float) -> float:
    """The t below which a share ``p`` (0 < p < 1) lies, by bisection."""
    if math.isinf(freedom):
        return _NORMAL.inv_cdf(p)
    low, high = -1e3, 1e3
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def z(p: float) -> float:
    """The normal quantile."""
    return _NORMAL.inv_cdf(min(max(p, 1e-15), 1 - 1e-15))
