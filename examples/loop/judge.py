"""Predictions against measurements, and the plan's success table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.loop.measure import Run
from taximeter_analysis.advise import Estimate, Finding
from taximeter_analysis.advise.model import METRICS

#: Below these sums a saving is no more than what two runs of the same thing differ by.
_LEAST = {"duration_s": 0.3, "first_byte_s": 0.3, "cost_usd": 1e-6}


@dataclass(frozen=True)
class Row:
    """One prediction and what became of it: sums over the run."""

    flag: str
    kinds: tuple[str, ...]
    findings: int
    metric: str
    predicted: Estimate
    measured: float
    baseline: float  # the metric's sum without the fix, on the same routes
    ceiling: bool
    noise: float = 0.0  # what two runs of the baseline differ by

    @property
    def told(self) -> bool:
        """Whether the runs can tell: a saving smaller than what nothing at all saves is not measured."""
        return self.noise < abs(self.predicted.high)

    @property
    def inside(self) -> bool:
        return self.predicted.holds(self.measured)

    @property
    def error(self) -> float | None:
        """Of the expected value, as a share of what was measured; None for an upper bound."""
        if self.ceiling or self.measured == 0:
            return None
        return abs(self.predicted.value - self.measured) / abs(self.measured)


def judge(
    flag: str, findings: Sequence[Finding], before: Run, after: Run, again: Run | None = None
) -> list[Row]:
    """One row a metric: the findings that the flag answers together, on the routes they are about.

    ``again``: the baseline run once more, at the end; measured is against the mean of the two.
    """
    rows = []
    for metric in METRICS:
        found = [each for each in findings if metric in each.savings]
        if not found:
            continue
        predicted = sum((each.savings[metric] for each in found), Estimate(0, 0, 0))
        if predicted.high < _LEAST.get(metric, 0.0):
            continue
        routes = {each.route for each in found}
        chosen: set[str | None] = {None} if None in routes else set(routes)
        base = sum(before.total(metric, route) for route in chosen)
        noise = 0.0
        if again is not None:
            last = sum(again.total(metric, route) for route in chosen)
            base, noise = (base + last) / 2, abs(base - last)
        saved = base - sum(after.total(metric, route) for route in chosen)
        kinds = tuple(dict.fromkeys(each.kind for each in found))
        ceiling = any(each.ceiling for each in found)
        rows.append(Row(flag, kinds, len(found), metric, predicted, saved, base, ceiling, noise))
    return rows


@dataclass(frozen=True)
class Goal:
    """One line of the plan's success table. ``change``: negative is less."""

    what: str
    before: float
    after: float
    target: float
    unit: str
    note: str = ""

    @property
    def change(self) -> float:
        return self.after / self.before - 1 if self.before else 0.0

    @property
    def reached(self) -> bool:
        return self.after >= self.target if self.unit == "rate" else self.change <= self.target


def goals(before: Run, after: Run, ceiling: float | None) -> list[Goal]:
    """The plan's targets. ``ceiling``: the hit rate that no cache of the embedding's texts goes beyond."""

    def rate(run: Run) -> float:
        return run.hits / run.lookups if run.lookups else 0.0

    def tokens(run: Run) -> float:
        return run.total("input_tokens")

    waiting = (
        f"the slowest twentieth still wait {after.slow_in_models:.0%} of their time for models: "
        "only a faster model, fewer tokens or streaming shorten that"
    )
    limit = "" if ceiling is None else f"the traffic's ceiling is {ceiling:.0%}: no cache reaches more"
    return [
        Goal("P50 of all requests", before.quantile(0.5), after.quantile(0.5), -0.40, "s"),
        Goal("P95 of all requests", before.quantile(0.95), after.quantile(0.95), -0.35, "s", waiting),
        Goal(
            "P95 to the first byte",
            before.quantile(0.95, first_byte=True),
            after.quantile(0.95, first_byte=True),
            -0.35,
            "s",
            waiting,
        ),
        Goal("database queries", before.total("db_calls"), after.total("db_calls"), -0.30, "count"),
        Goal(
            "embedding calls",
            before.total("embedding_calls"),
            after.total("embedding_calls"),
            -0.50,
            "count",
            limit,
        ),
        Goal("embedding cache hit rate", rate(before), rate(after), 0.80, "rate", limit),
        Goal("input tokens", tokens(before), tokens(after), -0.25, "count"),
        Goal("cost", before.total("cost_usd"), after.total("cost_usd"), -0.50, "usd"),
    ]


def summary(rows: Sequence[Row]) -> Mapping[str, float]:
    """Median error of the expectations, and the share of all rows whose bounds held the measured value."""
    errors = [row.error for row in rows if row.error is not None]
    return {
        "predictions": len(rows),
        "expectations": len(errors),
        "median_error": statistics.median(errors) if errors else 0.0,
        "untold": sum(not row.told for row in rows),
        "inside": sum(row.inside for row in rows) / len(rows) if rows else 0.0,
    }
