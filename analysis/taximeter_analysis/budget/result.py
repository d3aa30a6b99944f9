"""What a check of a budget found, as data: one line per limit and route, and the verdict of the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from taximeter_analysis.budget.model import LIMITS, Unit
from taximeter_analysis.render import units

State = Literal["pass", "fail", "no_data", "skipped"]

EXIT: dict[State, int] = {"pass": 0, "fail": 1, "no_data": 3}

RESULT_VERSION = 1


@dataclass(frozen=True)
class Line:
    """One limit held against one route, tenant, cache or the whole.

    ``low`` and ``high`` bound the measured value (absolute limits) or its ratio to the baseline
    (relative ones), each with 95 % confidence. ``p`` is the chance of such a figure if the limit were
    just kept, corrected for all limits of the budget that chance is allowed for; None: judged hard.
    """

    state: State
    place: str
    subject: str
    name: str
    unit: Unit
    reason: str = ""
    measured: float | None = None
    limit: float | None = None
    baseline: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    count: int = 0
    counted: str = "requests"  # or runs: what ``count`` and ``needs`` are of
    needs: int | None = None
    relative: bool = False  # ``limit`` is a share of ``baseline``
    beyond: bool = False  # the figure itself is beyond the limit, by chance or not


@dataclass(frozen=True)
class Outcome:
    """A whole check."""

    budget: str
    source: str
    baseline: str | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def of(self, state: State) -> list[Line]:
        """The lines in this state."""
        return [line for line in self.lines if line.state == state]

    @property
    def state(self) -> State:
        """fail when any limit is broken, else no_data when any cannot be judged, else pass."""
        return "fail" if self.of("fail") else "no_data" if self.of("no_data") else "pass"

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        failed, unknown, passed = (len(self.of(state)) for state in ("fail", "no_data", "pass"))
        if failed:
            rest = f", {unknown} without enough data" if unknown else ""
            return f"Budget broken: {failed} of {failed + unknown + passed} limits{rest}."
        if unknown:
            return f"Not enough data for {unknown} of {unknown + passed} limits; the other {passed} hold."
        return f"Budget kept: all {passed} limits hold."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "schema_version": RESULT_VERSION,
            "state": self.state,
            "exit_code": EXIT[self.state],
            "headline": self.headline,
            "budget": self.budget,
            "source": self.source,
            "baseline": self.baseline,
            "notes": list(self.notes),
            "lines": [dataclasses.asdict(line) for line in self.lines],
        }


def show(value: float | None, unit: Unit) -> str:
    """A value of a limit as people read it."""
    if unit == "seconds":
        return units.seconds(value)
    if unit == "share":
        return units.percent(value)
    if unit == "usd":
        return units.money(value)
    if unit == "tokens":
        return units.UNKNOWN if value is None else f"{value:,.1f}".removesuffix(".0")
    return units.UNKNOWN if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")


def show_limit(line: Line) -> str:
    """``≤ 800 ms``, ``≥ 60%``, ``≤ +10% of 750 ms``."""
    if line.limit is None:
        return units.UNKNOWN
    lowest = (line.name in LIMITS and LIMITS[line.name].lowest) or line.name == "hit_rate"
    sign = "≥" if lowest else "≤"
    if not line.relative:
        return f"{sign} {show(line.limit, line.unit)}"
    if line.baseline is None:
        return f"{sign} baseline {'-' if lowest else '+'}{line.limit:.0%}"
    return f"{sign} {show(line.baseline, line.unit)} {'-' if lowest else '+'}{line.limit:.0%}"


def worst_first(lines: Sequence[Line]) -> list[Line]:
    """Failures, then what lacks data, then the rest; in the budget's order within each."""
    order = {"fail": 0, "no_data": 1, "pass": 2, "skipped": 3}
    return sorted(lines, key=lambda line: order[line.state])
