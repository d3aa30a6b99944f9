"""What an observed amount comes to in a day and in a month at the same pace.

Deliberately naive, and only where at least half a minute was observed: the caveats stand in
`Projection.caveats`.
"""

from __future__ import annotations

DAY_S = 86400.0
MONTH_S = 30 * DAY_S
MIN_OBSERVED_S = 30.0


def per_day(amount: float | None, observed_s: float) -> float | None:
    return _in(DAY_S, amount, observed_s)


def per_month(amount: float | None, observed_s: float) -> float | None:
    """A month has 30 days."""
    return _in(MONTH_S, amount, observed_s)


def _in(time_s: float, amount: float | None, observed_s: float) -> float | None:
    return None if amount is None or observed_s < MIN_OBSERVED_S else amount / observed_s * time_s
