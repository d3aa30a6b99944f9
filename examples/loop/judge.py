"""Predictions against measurements: what each fix was said to save, and what it saved."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from examples.loop.measure import Run
from taximeter_analysis.advise import Estimate, Finding
from taximeter_analysis.advise.material import Material, Request
from taximeter_analysis.advise.model import METRICS

#: Below these sums a saving is no more than what two runs of the same thing differ by.
_LEAST = {"duration_s": 0.3, "first_byte_s": 0.3, "cost_usd": 1e-5}
_TIMES = ("duration_s", "first_byte_s")


@dataclass(frozen=True)
class Row:
    """One prediction and what became of it: sums over the run."""

    flag: str
    kinds: tuple[str, ...]
    findings: int
    metric: str
    predicted: Estimate
    measured: float
    baseline: float  # the metric's sum without the fix, on the same requests
    ceiling: bool
    noise: float = 0.0  # what the runs of the baseline differ by, on the same requests

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
    flag: str,
    findings: Sequence[Finding],
    baselines: Sequence[Run],
    after: Run,
    touched: Callable[[Finding], set[str]],
) -> list[Row]:
    """One row a metric: the findings that the flag answers together.

    Counts, tokens and money are summed over the routes that the findings are about. Times are summed over the
    requests that the findings touch, by name the same ones in every run: the others' waiting has nothing to
    do with the fix. What a run would have taken without it is read off the baselines before and after it.
    """
    rows = []
    for metric in METRICS:
        found = [each for each in findings if metric in each.savings]
        if not found:
            continue
        predicted = sum((each.savings[metric] for each in found), Estimate(0, 0, 0))
        if predicted.high < _LEAST.get(metric, 0.0):
            continue
        sums = _requests(metric, found, touched) if metric in _TIMES else _routes(metric, found)
        base = without(baselines, after, sums)
        levels = [sums(each) for each in baselines]
        kinds = tuple(dict.fromkeys(each.kind for each in found))
        ceiling = any(each.ceiling for each in found)
        saved, noise = base - sums(after), max(levels) - min(levels)
        rows.append(Row(flag, kinds, len(found), metric, predicted, saved, base, ceiling, noise))
    return rows


def _routes(metric: str, findings: Sequence[Finding]) -> Callable[[Run], float]:
    routes = {each.route for each in findings}
    chosen: set[str | None] = {None} if None in routes else set(routes)
    return lambda run: sum(run.total(metric, route) for route in chosen)


def _requests(
    metric: str, findings: Sequence[Finding], touched: Callable[[Finding], set[str]]
) -> Callable[[Run], float]:
    names = set[str]().union(*map(touched, findings))

    def sums(run: Run) -> float:
        times = [run.times[name] for name in names if name in run.times]
        return sum(each.duration_s if metric == "duration_s" else each.first_byte_s for each in times)

    return sums


def without(baselines: Sequence[Run], after: Run, sums: Callable[[Run], float]) -> float:
    """What a baseline would have come to in ``after``'s place: between the two that were run around it."""
    before = [each for each in baselines if each.order <= after.order]
    behind = [each for each in baselines if each.order > after.order]
    if not before or not behind:
        nearest = before[-1] if before else behind[0]
        return sums(nearest)
    first, last = before[-1], behind[0]
    share = (after.order - first.order) / (last.order - first.order)
    return sums(first) * (1 - share) + sums(last) * share


def touching(material: Material, names: Mapping[str, str]) -> Callable[[Finding], set[str]]:
    """Finding -> names of the baseline's requests that it is about (``names``: by trace id)."""

    def chosen(finding: Finding) -> set[str]:
        return {
            names[request.trace]
            for request in material.requests
            if request.trace in names
            and (finding.route is None or request.label == finding.route)
            and _touches(finding, request)
        }

    return chosen


def _touches(finding: Finding, request: Request) -> bool:
    if finding.kind in ("embedding_cache", "near_duplicates"):
        return bool(request.of("embedding"))
    if finding.kind == "pool_wait":
        return bool(request.pool_wait_s)
    if finding.statements:
        return any(call.statement in finding.statements for call in request.of("db"))
    return True


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
