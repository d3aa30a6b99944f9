"""One figure before and after: by request where each side is one run, by run where it is several.

Requests of one run share its machine and its minute, so a run (or a block of time) is the honest
unit whenever there are several; then Student's t over the runs' own figures is the bound, on the
logarithm for quantiles. The percentile bootstrap over six runs would be too narrow. With one run a
side, a quantile gets the rank test of `tails` and a mean Welch's, over the requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from taximeter_analysis.inference import means, quantiles, tails
from taximeter_analysis.inference.distributions import binomial_at_least, t_cdf, t_quantile
from taximeter_analysis.inference.means import Mean
from taximeter_analysis.model import Ranked

Unit = Literal["requests", "runs"]


@dataclass(frozen=True)
class Shift:
    """``low`` and ``high`` bound ``after / before``, each with 95 % confidence; None: not bounded.

    ``error`` is the standard error of the ratio's logarithm, ``count`` the units of the smaller side.
    """

    before: float
    after: float
    low: float | None
    high: float | None
    p_not_higher: float
    p_not_lower: float
    error: float | None
    count: int
    unit: Unit


@dataclass(frozen=True)
class TooFew:
    """There is nothing to bound yet; ``needs`` units a side would do."""

    before: float | None
    after: float | None
    count: int
    needs: int
    unit: Unit


def of_quantile(
    before: Sequence[Ranked], after: Sequence[Ranked], *, paired: bool = False, allowed: float = 0.0
) -> Shift | TooFew:
    """Compare a quantile of latency. ``allowed``: only what is beyond this increase counts as higher."""
    q = before[0].q
    if len(before) == len(after) == 1:
        one, other = before[0], after[0]
        count, needs = min(one.count, other.count), quantiles.needed(q)
        if count < needs:
            return TooFew(one.value, other.value, count, needs, "requests")
        found = tails.shift(one, other, allowed)
        return Shift(
            one.value, other.value, found.low, found.high, found.p_not_higher, found.p_not_lower,
            found.error, count, "requests",
        )  # fmt: skip
    fewest, least = min(run.count for run in (*before, *after)), math.ceil(1 / (1 - q))
    values = [[run.value for run in side] for side in (before, after)]
    if fewest < least:
        return TooFew(_geometric(values[0]), _geometric(values[1]), fewest, least, "requests")
    return _by_run(*values, paired=paired, logs=True, allowed=allowed)


def against_limit(runs: Sequence[Ranked], limit: float) -> Shift | TooFew:
    """A quantile of several runs against a fixed limit, as ``limit`` before and the runs after.

    Student's t over the logarithms of the runs' own quantiles; ``low`` and ``high`` bound their middle.
    """
    fewest, least = min(run.count for run in runs), math.ceil(1 / (1 - runs[0].q))
    middle = _geometric([run.value for run in runs])
    if fewest < least:
        return TooFew(limit, middle, fewest, least, "requests")
    found = means.mean_of([math.log(max(run.value, 1e-9)) for run in runs])
    width = t_quantile(quantiles.CONFIDENCE, found.count - 1.0) * found.error if found.error else 0.0
    difference = found.mean - math.log(max(limit, 1e-9))
    p = 1.0 - t_cdf(difference / found.error, found.count - 1.0) if found.error else float(difference <= 0)
    return Shift(
        limit, middle, middle * math.exp(-width), middle * math.exp(width), p, 1.0 - p, found.error,
        found.count, "runs",
    )  # fmt: skip


def of_means(before: Sequence[Mean], after: Sequence[Mean], *, paired: bool = False) -> Shift | TooFew:
    """Compare a mean per request; each `Mean` is one run."""
    if len(before) == len(after) == 1:
        one, other = before[0], after[0]
        if min(one.count, other.count) < 2:
            return TooFew(one.mean, other.mean, min(one.count, other.count), 2, "requests")
        return _welch(one, other, "requests")
    return _by_run([run.mean for run in before], [run.mean for run in after], paired=paired, logs=False)


def of_failures(
    before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]], *, paired: bool = False
) -> Shift | TooFew:
    """Compare a rate of rare events, (events, of) a run: exact, given the events of both sides together.

    With several runs the runs must agree as well: an outage in one of them is no property of the build.
    """
    bad, new_bad = (sum(events for events, _ in side) for side in (before, after))
    whole, new_whole = (sum(of for _, of in side) for side in (before, after))
    share = new_whole / (whole + new_whole)
    p_higher = binomial_at_least(new_bad, bad + new_bad, share)
    p_lower = binomial_at_least(bad, bad + new_bad, 1 - share)
    error = math.sqrt(1 / max(bad, 1) + 1 / max(new_bad, 1)) if bad or new_bad else None
    if len(before) > 1:
        runs = _by_run(
            [one / other for one, other in before], [one / other for one, other in after],
            paired=paired, logs=False,
        )  # fmt: skip
        if isinstance(runs, Shift):
            p_higher, p_lower = max(p_higher, runs.p_not_higher), max(p_lower, runs.p_not_lower)
    return Shift(
        bad / whole, new_bad / new_whole, None, None, p_higher, p_lower, error, min(whole, new_whole),
        "requests",
    )  # fmt: skip


def _by_run(
    before: Sequence[float], after: Sequence[float], *, paired: bool, logs: bool, allowed: float = 0.0
) -> Shift | TooFew:
    count = min(len(before), len(after))
    if count < 2:
        return TooFew(_middle(before, logs), _middle(after, logs), count, 2, "runs")
    if not paired or min(*before, *after) <= 0:
        if not logs:
            return _welch(means.mean_of(before), means.mean_of(after), "runs")
        one, other = (
            means.mean_of([math.log(max(value, 1e-9)) for value in side]) for side in (before, after)
        )
        error = math.hypot(one.error, other.error)
        freedom = means.freedom(one, other)
        difference = other.mean - one.mean
    else:
        # Block by block: what the machine did in that minute happened to both.
        ratios = [
            math.log(max(new, 1e-9) / max(old, 1e-9)) for old, new in zip(before, after, strict=True)
        ]  # fmt: skip
        pairs = means.mean_of(ratios)
        error, freedom, difference = pairs.error, float(count - 1), pairs.mean
    return _shift_of_logs(
        _middle(before, logs), _middle(after, logs), difference, error, freedom=freedom, count=count,
        allowed=math.log1p(allowed),
    )  # fmt: skip


def _shift_of_logs(
    before: float, after: float, difference: float, error: float, *, freedom: float, count: int,
    allowed: float,
) -> Shift:  # fmt: skip
    if error == 0:
        p_higher, p_lower = float(difference <= allowed), float(difference >= 0)
    else:
        p_lower = t_cdf(difference / error, freedom)
        p_higher = 1.0 - t_cdf((difference - allowed) / error, freedom)
    width = t_quantile(quantiles.CONFIDENCE, freedom) * error if error else 0.0
    return Shift(
        before, after, math.exp(difference - width), math.exp(difference + width), p_higher, p_lower,
        error, count, "runs",
    )  # fmt: skip


def _welch(before: Mean, after: Mean, unit: Unit) -> Shift:
    found = means.shift(before, after)
    error = None
    if before.mean > 0 and after.mean > 0:
        error = math.hypot(before.error / before.mean, after.error / after.mean)
    return Shift(
        before.mean, after.mean, found.low, found.high, found.p_not_higher, found.p_not_lower, error,
        min(before.count, after.count), unit,
    )  # fmt: skip


def _middle(values: Sequence[float], logs: bool) -> float:
    return _geometric(values) if logs else math.fsum(values) / len(values)


def _geometric(values: Sequence[float]) -> float:
    return math.exp(math.fsum(math.log(max(value, 1e-9)) for value in values) / len(values))
