"""All that a loop came to, for printing and for the plan's documents."""

from __future__ import annotations

from dataclasses import dataclass

from examples.loop.effects import Effect
from examples.loop.goals import Goal
from examples.loop.judge import Row
from examples.loop.measure import Run
from taximeter_analysis.advise import Advice


@dataclass(frozen=True)
class Result:
    """``left_out``: advised flags that the time did not suffice for."""

    rows: list[Row]
    goals: list[Goal]
    effects: list[Effect]
    runs: dict[str, Run]
    advice: Advice
    left_out: tuple[str, ...] = ()
