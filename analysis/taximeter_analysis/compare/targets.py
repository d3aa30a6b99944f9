"""The optimization plan's success table: its seven targets, and whether they are reached.

A target is reached when even the bound on the wrong side of the change meets it, not reached when
even the better bound does not, and not certain in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from taximeter_analysis.budget.judge import missed
from taximeter_analysis.budget.model import LIMITS
from taximeter_analysis.compare.model import Met, Target
from taximeter_analysis.inference import means, shifts
from taximeter_analysis.inference.distributions import t_quantile
from taximeter_analysis.inference.means import Mean
from taximeter_analysis.inference.shifts import Shift, TooFew
from taximeter_analysis.model import Report

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Goal:
    """A line of the plan."""

    title: str
    name: str
    target: float
    absolute: bool = False


GOALS = (
    Goal("API response time (P50)", "latency_p50", -0.40),
    Goal("API response time (P95)", "latency_p95", -0.35),
    Goal("Database queries per request", "db_calls", -0.30),
    Goal("Embedding calls per request", "embedding_calls", -0.50),
    Goal("Cache hit rate", "cache_hit_rate", 0.80, absolute=True),
    Goal("AI cost per request", "cost", -0.50),
    Goal("Tokens per request", "tokens", -0.25),
)


def success_table(
    before: Sequence[Report], after: Sequence[Report], *, paired: bool = False
) -> tuple[Target, ...]:
    """The plan's targets, filled in from both sides' totals."""
    return tuple(
        _share(goal, before, after) if goal.absolute else _change(goal, before, after, paired)
        for goal in GOALS
    )


def _change(goal: Goal, before: Sequence[Report], after: Sequence[Report], paired: bool) -> Target:
    sides = (before, after)
    moved: Shift | TooFew | None = None
    if goal.name.startswith("latency"):
        q = LIMITS[goal.name].q
        ranked = [[sample for run in side for sample in run.ranked if sample.q == q] for side in sides]
        moved = shifts.of_quantile(*ranked, paired=paired) if all(ranked) else None
    else:
        found = [[mean for run in side if (mean := _mean(goal.name, run)) is not None] for side in sides]
        moved = shifts.of_means(*found, paired=paired) if all(found) else None
    low = high = None
    if isinstance(moved, Shift):
        low, high = (None if bound is None else bound - 1 for bound in (moved.low, moved.high))
    met: Met = "not certain"
    if high is not None and high <= goal.target:
        met = "reached"
    elif low is not None and low > goal.target:
        met = "not reached"
    unit = "tokens" if goal.name == "tokens" else LIMITS[goal.name].unit
    values = (moved.before, moved.after) if moved else (None, None)
    return Target(goal.title, goal.name, unit, goal.target, False, *values, low, high, met)


def _mean(name: str, run: Report) -> Mean | None:
    usage, spread = run.totals, run.spread
    if not usage.requests:
        return None
    parts: list[tuple[float | None, float | None]]
    if name == "tokens":  # their deviations add up at most
        parts = [(usage.input_tokens, spread.input_tokens), (usage.output_tokens, spread.output_tokens)]
    elif name == "cost":
        parts = [(usage.cost_usd, spread.cost_usd)]
    else:
        parts = [(getattr(usage, name), getattr(spread, name))]
    if any(total is None for total, _ in parts):
        return None
    known = all(deviation is not None for _, deviation in parts)
    return Mean(
        usage.requests if known else 1,
        math.fsum(total or 0 for total, _ in parts) / usage.requests,
        math.fsum(deviation or 0.0 for _, deviation in parts),
    )


def _share(goal: Goal, before: Sequence[Report], after: Sequence[Report]) -> Target:
    values: list[float | None] = []
    low = high = None
    for side in (before, after):
        found = [pair for run in side if (pair := missed(run.totals, goal.name)) is not None]
        whole = sum(of for _, of in found)
        values.append(1 - sum(bad for bad, _ in found) / whole if whole else None)
        if side is not after or not whole:
            continue
        rates = [1 - bad / of for bad, of in found]
        mean = means.mean_of(rates) if len(rates) > 1 else means.share_of(rates[0] * whole, whole)
        freedom = len(rates) - 1.0 if len(rates) > 1 else math.inf
        width = t_quantile(_CONFIDENCE, freedom) * mean.error
        low, high = max(0.0, mean.mean - width), min(1.0, mean.mean + width)
    met: Met = "not certain"
    if low is not None and low >= goal.target:
        met = "reached"
    elif high is not None and high < goal.target:
        met = "not reached"
    return Target(goal.title, goal.name, "share", goal.target, True, values[0], values[1], low, high, met)
