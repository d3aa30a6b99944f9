"""Many tests at once: how sure a whole table or a whole budget is, not one line of it.

Holm's step-down keeps the chance of *any* false alarm under the level, whatever the dependence
between the tests: it is for the gate. Benjamini and Hochberg's step-up keeps the expected *share*
of false findings under the level: it is for reading a table of many routes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from taximeter_analysis.inference.distributions import z

LEVEL = 0.05


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: compare each with the level."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: compare each with the level."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index], reverse=True)
    adjusted, lowest = [1.0] * len(p_values), 1.0
    for place, index in enumerate(order):
        lowest = min(lowest, p_values[index] * len(p_values) / (len(p_values) - place))
        adjusted[index] = lowest
    return adjusted


def needed_units(count: int, error: float, effect: float, tests: int = 1, power: float = 0.8) -> int:
    """How many units a side show ``effect`` with this power, if ``count`` of them have this standard error.

    ``error`` and ``effect`` are on one scale (logs of a ratio, or differences).
    """
    wanted = effect / (z(1 - LEVEL / tests) + z(power))
    return max(count + 1, math.ceil(count * (error / wanted) ** 2))
