"""The plan's success table: baseline, all advised fixes, the whole plan; each row with the ceiling above it.

A ceiling is computed from the runs, never assumed: what no cache can know, what the models alone take, what
their answers alone cost. So a row that misses its target says why, and one that reaches it says how far it
could go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples.loop.measure import Run, Timed


@dataclass(frozen=True)
class Goal:
    """One line. Shares of 1 for a rate; else an amount, and the target is a change (negative: less)."""

    what: str
    before: float
    advised: float
    whole: float
    target: float
    unit: str
    ceiling: str = ""

    def change(self, after: float) -> float:
        return after / self.before - 1 if self.before else 0.0

    def reached_by(self, after: float) -> bool:
        return after >= self.target if self.unit == "rate" else self.change(after) <= self.target

    @property
    def reached(self) -> str:
        """ "advised", "plan" (by the whole plan only) or "" for not at all."""
        if self.reached_by(self.advised):
            return "advised"
        return "plan" if self.reached_by(self.whole) else ""


@dataclass(frozen=True)
class Texts:
    """The runs' embedded texts; ``ceiling``: the hit rate of a cache that knows nothing beforehand."""

    ceiling: float
    lookups: int


def goals(before: Run, advised: Run, whole: Run, texts: Texts) -> list[Goal]:
    """The plan's targets."""

    def goal(what: str, value: Callable[[Run], float], target: float, unit: str, ceiling: str = "") -> Goal:
        return Goal(what, value(before), value(advised), value(whole), target, unit, ceiling)

    def rate(run: Run) -> float:
        return run.hits / run.lookups if run.lookups else 0.0

    def total(metric: str) -> Callable[[Run], float]:
        return lambda run: run.total(metric)

    def at(share: float, *, first: bool = False) -> Callable[[Run], float]:
        return lambda run: run.quantile(share, _first if first else _whole)

    return [
        goal("P50 of all requests", at(0.5), -0.40, "s", _waiting(whole, 0.5, before)),
        goal("P95 of all requests", at(0.95), -0.35, "s", _waiting(whole, 0.95, before)),
        goal("P95 to the first byte", at(0.95, first=True), -0.35, "s"),
        goal("database queries", total("db_calls"), -0.30, "count"),
        goal("embedding calls", total("embedding_calls"), -0.50, "count", _embedding(before, texts)),
        goal("embedding cache hit rate", rate, 0.80, "rate", _hits(texts)),
        goal("input tokens", total("input_tokens"), -0.25, "count"),
        goal("cost", total("cost_usd"), -0.50, "usd", _cost(before, advised)),
    ]


def _whole(each: Timed) -> float:
    return each.duration_s


def _first(each: Timed) -> float:
    return each.first_byte_s


def _waiting(run: Run, share: float, before: Run) -> str:
    """What models and database take at this quantile: how far it could fall were all else instantaneous."""
    was = before.quantile(share)
    models = run.quantile(share, lambda each: each.model_s)
    both = run.quantile(share, lambda each: each.model_s + each.db_s)
    return (
        f"with the whole plan the models alone take {models:.2f} s at this quantile ({models / was - 1:+.0%} "
        f"were all else instantaneous), models and database {both:.2f} s ({both / was - 1:+.0%})"
    )


def _hits(texts: Texts) -> str:
    return (
        f"{1 - texts.ceiling:.0%} of the {texts.lookups} texts come for the first time: a cache that knows "
        f"nothing beforehand reaches {texts.ceiling:.0%} at most, whatever its size"
    )


def _embedding(before: Run, texts: Texts) -> str:
    first = (1 - texts.ceiling) * texts.lookups
    made = before.total("embedding_calls")
    return (
        f"{first:.0f} texts come for the first time and must be embedded, unless that was done beforehand: "
        f"{first / made - 1:+.0%} at most for any cache"
        if made
        else ""
    )


def _cost(before: Run, advised: Run) -> str:
    was = before.total("cost_usd")
    if not was:
        return ""
    return (
        f"the answers' tokens alone cost {before.output_usd / was:.0%} of the baseline's money: without one "
        f"token of input it would be {before.output_usd / was - 1:+.0%}; after the advised fixes they are "
        f"{advised.output_usd / advised.total('cost_usd'):.0%} of what is left"
    )
