"""Compares two sides, each one report or several (runs, or blocks of time).

Every figure of every route gets bounds and a chance; the chances of a whole table are corrected
together (Benjamini and Hochberg), so that of what is called better or worse at most 5 % is expected
to be chance. A change that is surely smaller than the smallest one that matters is none ("same"); all else
lacks data, and says how much would do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from taximeter_analysis.budget.judge import missed, per_request
from taximeter_analysis.budget.model import LIMITS, Spec
from taximeter_analysis.compare.model import Comparison, Figure, Subject, Verdict
from taximeter_analysis.compare.targets import success_table
from taximeter_analysis.inference import families, shifts
from taximeter_analysis.inference.means import Mean, share_of
from taximeter_analysis.inference.shifts import Shift, TooFew
from taximeter_analysis.model import Ranked, Report, Route, Spread, Usage

#: The smallest change that matters, unless asked otherwise.
EFFECT = 0.1
ALL_REQUESTS = "all requests"

#: From this part of the requests on, another mix of routes makes totals incomparable.
_MIX = 0.05

_Key = tuple[str | None, str | None, str | None]
_Part = Report | Route


def compare(
    before: Sequence[Report],
    after: Sequence[Report],
    *,
    effect: float = EFFECT,
    paired: bool = False,
) -> Comparison:
    """Say what changed from ``before`` to ``after``.

    Raises:
        ValueError: no run on a side, one run against several, or ``paired`` sides of unequal length.
    """
    _comparable(before, after, paired)
    sides = [[{_key(route): route for route in run.routes} for run in side] for side in (before, after)]
    common = [
        key for key in {key: None for side in sides for run in side for key in run}
        if all(any(key in run for run in side) for side in sides)
    ]  # fmt: skip
    several = len({service for run in (*before, *after) for service in run.services}) > 1
    total = _corrected([_subject(ALL_REQUESTS, None, before, after, paired)], effect)[0]
    drafts = []
    for key in common:
        old, new = ([run[key] for run in side if key in run] for side in sides)
        label = f"{old[0].service} {old[0].label}" if several else old[0].label
        drafts.append(_subject(label, old[0].service, old, new, paired and len(old) == len(new)))
    routes = sorted(_corrected(drafts, effect), key=lambda item: -item.requests_before)
    names = [{key: run[key].label for run in side for key in run} for side in sides]
    return Comparison(
        before=tuple(run.store for run in before),
        after=tuple(run.store for run in after),
        paired=paired,
        effect=effect,
        total=total,
        routes=tuple(routes),
        only_before=tuple(sorted(names[0][key] for key in names[0].keys() - names[1].keys())),
        only_after=tuple(sorted(names[1][key] for key in names[1].keys() - names[0].keys())),
        targets=success_table(before, after, paired=paired),
        notes=tuple(_notes(before, after)),
    )


def _comparable(before: Sequence[Report], after: Sequence[Report], paired: bool) -> None:
    one, other = len(before), len(after)
    if not one or not other or (one == 1) != (other == 1):
        raise ValueError(
            f"{one} run(s) against {other}: give one on each side, or several on each (a.json,b.json; "
            "a store is cut into blocks of time with --blocks)"
        )
    if paired and one != other:
        raise ValueError(f"--paired goes run by run, and there are {one} and {other} of them")


def _key(route: Route) -> _Key:
    return route.service, route.method, route.route


def _usage(part: _Part) -> Usage:
    return part.totals if isinstance(part, Report) else part.usage


Draft = tuple[str, str | None, int, int, list[tuple[Spec, Shift | TooFew]]]


def _subject(
    label: str, service: str | None, before: Sequence[_Part], after: Sequence[_Part], paired: bool
) -> Draft:
    found = []
    for spec in LIMITS.values():
        moved = measure(spec, before, after, paired=paired)
        if moved is not None:
            found.append((spec, moved))
    old, new = (sum(_usage(part).requests for part in side) for side in (before, after))
    return label, service, old, new, found


def measure(
    spec: Spec, before: Sequence[_Part], after: Sequence[_Part], *, paired: bool = False
) -> Shift | TooFew | None:
    """One figure of both sides; None where a side has not measured it."""
    if spec.kind == "quantile":
        ranked = [[_sample(part, spec.q) for part in side] for side in (before, after)]
        old, new = ([sample for sample in side if sample is not None] for side in ranked)
        return shifts.of_quantile(old, new, paired=paired and len(old) == len(new)) if old and new else None
    if spec.name == "error_rate":
        pairs = [[missed(_usage(part), spec.name) for part in side] for side in (before, after)]
        failed, failing = ([pair for pair in side if pair and pair[1]] for side in pairs)
        return shifts.of_failures(failed, failing, paired=paired) if failed and failing else None
    means = [[mean_of(spec, part) for part in side] for side in (before, after)]
    was, now = ([mean for mean in side if mean is not None] for side in means)
    return shifts.of_means(was, now, paired=paired and len(was) == len(now)) if was and now else None


def mean_of(spec: Spec, part: _Part) -> Mean | None:
    """The mean of a count, or the hit rate as one, with its standard deviation over requests."""
    usage = _usage(part)
    if spec.kind == "share":
        found = missed(usage, spec.name)
        return share_of(found[1] - found[0], found[1]) if found else None
    value = per_request(usage, spec.name)
    if value is None:
        return None
    deviation = getattr(_spread(part), "cost_usd" if spec.name == "cost" else spec.name)
    return Mean(usage.requests if deviation is not None else 1, value, deviation or 0.0)


def _spread(part: _Part) -> Spread:
    return part.spread


def _sample(part: _Part, q: float | None) -> Ranked | None:
    return next((sample for sample in part.ranked if sample.q == q), None)


def _corrected(drafts: Sequence[Draft], effect: float) -> list[Subject]:
    """All verdicts of one table: its chances are corrected together."""
    shown = [moved for *_, found in drafts for _, moved in found if isinstance(moved, Shift)]
    p_values = [min(1.0, 2 * min(moved.p_not_higher, moved.p_not_lower)) for moved in shown]
    adjusted = iter(families.benjamini_hochberg(p_values))
    subjects = []
    for label, service, old, new, found in drafts:
        figures = tuple(
            _figure(
                spec,
                moved,
                next(adjusted) if isinstance(moved, Shift) else None,
                effect=effect,
                tests=len(shown),
            )
            for spec, moved in found
        )
        subjects.append(Subject(label, service, old, new, figures))
    return subjects


def _figure(spec: Spec, moved: Shift | TooFew, p: float | None, *, effect: float, tests: int) -> Figure:
    change = moved.after / moved.before - 1 if moved.before and moved.after is not None else None
    bare = Figure(
        name=spec.name, unit=spec.unit, before=moved.before, after=moved.after, change=change, low=None,
        high=None, p=p, verdict="not enough data", count=moved.count, counted=moved.unit, needs=None,
    )  # fmt: skip
    if isinstance(moved, TooFew):
        return replace(bare, needs=moved.needs)
    assert p is not None
    low, high = (None if bound is None else bound - 1 for bound in (moved.low, moved.high))
    bare = replace(bare, low=low, high=high)
    if p <= families.LEVEL:
        higher = moved.p_not_higher < moved.p_not_lower
        verdict: Verdict = "better" if higher == spec.lowest else "worse"
        return replace(bare, verdict=verdict)
    if moved.before == moved.after and not moved.error:
        return replace(bare, verdict="same")
    if low is not None and high is not None and -effect <= low and high <= effect:
        return replace(bare, verdict="same")
    if moved.error:
        needs = families.needed_units(moved.count, moved.error, math.log1p(effect), tests)
        return replace(bare, needs=needs)
    return bare


def _notes(before: Sequence[Report], after: Sequence[Report]) -> list[str]:
    notes = []
    shares = []
    for side in (before, after):
        whole = sum(run.totals.requests for run in side) or 1
        found: dict[_Key, float] = {}
        for run in side:
            for route in run.routes:
                found[_key(route)] = found.get(_key(route), 0.0) + route.usage.requests / whole
        shares.append(found)
    moved = sum(abs(shares[0].get(key, 0) - shares[1].get(key, 0)) for key in {*shares[0], *shares[1]}) / 2
    if moved > _MIX:
        notes.append(
            f"{moved:.0%} of the requests went to other routes than before: totals compare other traffic, "
            "routes do not"
        )
    for name, side in (("before", before), ("after", after)):
        unpriced = sum(run.totals.unpriced_calls or 0 for run in side)
        if unpriced:
            notes.append(f"{name}: {unpriced} model call(s) have no price; their money is missing")
    return notes
