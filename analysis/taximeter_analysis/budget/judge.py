"""Holds one limit against one route (or the whole): what was measured, and the chance of it.

Counts (queries, calls, tokens, money per request) are judged hard: they do not depend on the
machine. Latency, error rate and hit rate get a ``p``: the chance of such a figure if the limit were
just kept. `check` corrects those for their number and decides; here nothing is decided by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

from taximeter_analysis.budget.model import Limit, Spec
from taximeter_analysis.budget.result import Line
from taximeter_analysis.inference import means, quantiles, shifts, tails
from taximeter_analysis.inference.distributions import binomial_at_least
from taximeter_analysis.inference.shifts import Shift, TooFew
from taximeter_analysis.model import Ranked, Report, Route, Usage

_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Subject:
    """What limits are held against: a route, or all requests together; of one run or of several.

    Counts are summed over the runs; the order statistics of each stay apart.
    """

    label: str
    usage: Usage
    ranked: tuple[tuple[Ranked, ...], ...]

    @classmethod
    def of(cls, measured: Sequence[Route | Report], label: str) -> Subject:
        """The subject of a route, or of a whole report, in each run."""
        usages = [part.totals if isinstance(part, Report) else part.usage for part in measured]
        return cls(label, together(usages), tuple(part.ranked for part in measured))

    def samples(self, q: float | None) -> list[Ranked]:
        """Its order statistics around a quantile, of each run that has some."""
        return [sample for ranked in self.ranked for sample in ranked if sample.q == q]


def together(usages: Sequence[Usage]) -> Usage:
    """The usage of several runs; what one of them did not measure is not known."""
    values = {}
    for item in fields(Usage):
        found = [getattr(usage, item.name) for usage in usages]
        values[item.name] = None if None in found else sum(found)
    return Usage(**values)  # type: ignore[arg-type]  # by name, from the class's own fields


def judge(
    line: Line,
    spec: Spec,
    limit: Limit,
    now: Subject,
    before: Subject | None,
    *,
    tests: int,
    paired: bool = False,
) -> Iterator[Line]:
    """One line per part of the limit: the absolute one, and the one relative to the baseline.

    ``tests``: how many limits of the whole budget leave room for chance; it decides how many
    requests are enough.
    """
    absolute = limit.min if spec.lowest else limit.max
    if absolute is not None:
        yield _absolute(replace(line, limit=absolute), spec, absolute, now, tests)
    name = "max_decrease" if spec.lowest else "max_increase"
    change: float | None = getattr(limit, name)
    if change is not None:
        line = replace(line, place=f"{line.place}.{name}", limit=change, relative=True)
        if before is None:
            yield replace(line, state="no_data", reason="the baseline has no such route")
        else:
            yield _relative(line, spec, change, now, before, tests=tests, paired=paired)


def hard(line: Line, value: float | None, limit: float) -> Line:
    """A count or an amount: over the limit is broken."""
    if value is None:
        return replace(line, state="no_data", reason="not measured: no agent, or nothing was priced")
    line = replace(line, measured=value)
    return replace(line, state="fail", reason="over the limit") if value > limit * _ROUNDING else line


def per_request(usage: Usage, name: str) -> float | None:
    """The mean of a count, of tokens or of ``cost`` over the requests."""
    total: float | None = getattr(usage, "cost_usd" if name == "cost" else name)
    return None if total is None or not usage.requests else total / usage.requests


def missed(usage: Usage, name: str) -> tuple[int, int] | None:
    """The bad ones and all: failed requests, or missed look-ups."""
    if name == "error_rate":
        return usage.errors, usage.requests
    if not usage.cache_lookups or usage.cache_hits is None:
        return None
    return usage.cache_lookups - usage.cache_hits, usage.cache_lookups


def enough_for(q: float, tests: int) -> int:
    """From how many requests on an upper bound of the quantile exists, among so many tests."""
    return quantiles.needed(q, 1 - (1 - quantiles.CONFIDENCE) / max(tests, 1))


def _too_few(line: Line, count: int, needs: int, p: float | None = None) -> Line:
    """Too few for a pass. With a ``p`` it may still fail: half of 100 requests failed is no chance."""
    reason = f"not enough data (needs n = {needs:,}, has {count:,})"
    return replace(line, state="no_data", count=count, needs=needs, reason=reason, p=p)


def _absolute(line: Line, spec: Spec, limit: float, now: Subject, tests: int) -> Line:
    if spec.kind == "share":
        return judge_share(line, missed(now.usage, spec.name), limit, lowest=spec.lowest, tests=tests)
    if spec.kind == "count":
        return hard(replace(line, count=now.usage.requests), per_request(now.usage, spec.name), limit)
    assert spec.q is not None
    samples, needs = now.samples(spec.q), enough_for(spec.q, tests)
    if len(samples) > 1:
        return _of_runs(line, shifts.against_limit(samples, limit), limit)
    sample = samples[0] if samples else None
    if sample is None or sample.count < needs:
        if sample is None or not sample.count:
            return _too_few(line, 0, needs)
        p = quantiles.exceeding_p(sample, limit)
        return _too_few(replace(line, measured=sample.value), sample.count, needs, p)
    return replace(
        line, measured=sample.value, low=sample.low, high=sample.high, count=sample.count,
        p=quantiles.exceeding_p(sample, limit), beyond=sample.value > limit,
    )  # fmt: skip


def judge_share(line: Line, found: tuple[int, int] | None, limit: float, *, lowest: bool, tests: int) -> Line:
    """A share of requests or look-ups, by the exact binomial test."""
    if found is None:
        return replace(line, state="no_data", reason="no cache look-up was recorded")
    bad, whole = found
    allowed = 1 - limit if lowest else limit
    line = replace(line, measured=(whole - bad if lowest else bad) / whole, count=whole)
    if allowed <= 0:  # nothing bad is allowed: no chance in it
        return replace(line, state="fail", reason=f"{bad} of {whole}, and none is allowed") if bad else line
    needs = enough_for(1 - allowed, tests) if allowed < 1 else 1
    p = binomial_at_least(bad, whole, allowed)
    if whole < needs:
        return _too_few(line, whole, needs, p)
    return replace(line, p=p, beyond=bad / whole > allowed)


def _relative(
    line: Line, spec: Spec, change: float, now: Subject, before: Subject, *, tests: int, paired: bool
) -> Line:
    if spec.kind == "share":
        return _relative_share(
            line, spec, change, missed(before.usage, spec.name), missed(now.usage, spec.name)
        )
    if spec.kind == "count":
        old = per_request(before.usage, spec.name)
        if old is None:
            return replace(line, state="no_data", reason="the baseline did not measure it")
        line = replace(line, count=now.usage.requests, baseline=old)
        return hard(line, per_request(now.usage, spec.name), old * (1 + change))
    assert spec.q is not None
    olds, news, needs = before.samples(spec.q), now.samples(spec.q), enough_for(spec.q, tests)
    if len(olds) > 1 and len(news) > 1:
        by_run = shifts.of_quantile(olds, news, allowed=change, paired=paired and len(olds) == len(news))
        limit = (by_run.before or 0.0) * (1 + change)
        return _of_runs(replace(line, baseline=by_run.before), by_run, limit)
    fewest = min(samples[0].count if samples else 0 for samples in (olds, news))
    if fewest < needs:
        return _too_few(line, fewest, needs)
    old_sample, new_sample = olds[0], news[0]
    moved = tails.shift(old_sample, new_sample, change)
    return replace(
        line, measured=new_sample.value, baseline=old_sample.value, low=moved.low, high=moved.high,
        count=fewest, p=moved.p_not_higher, beyond=moved.ratio > 1 + change,
    )  # fmt: skip


def _of_runs(line: Line, moved: Shift | TooFew, limit: float) -> Line:
    """A quantile over several runs: the run is the unit."""
    line = replace(line, measured=moved.after)
    if isinstance(moved, TooFew):
        return _too_few(line, moved.count, moved.needs)
    return replace(
        line, low=moved.low, high=moved.high, count=moved.count, counted=moved.unit, p=moved.p_not_higher,
        beyond=(moved.after or 0.0) > limit,
    )  # fmt: skip


def _relative_share(
    line: Line, spec: Spec, change: float, before: tuple[int, int] | None, after: tuple[int, int] | None
) -> Line:
    if before is None or after is None:
        return replace(line, state="no_data", reason="no cache look-up was recorded on both sides")
    count, needs = min(before[1], after[1]), quantiles.needed(0.95)
    if count < needs:
        return _too_few(line, count, needs)
    old, new = (found[0] / found[1] for found in (before, after))
    if not spec.lowest:
        # Exact, given all failures of both sides: how many of them fall on this side by chance?
        scaled = after[1] * (1 + change)
        p = binomial_at_least(after[0], before[0] + after[0], scaled / (before[1] + scaled))
        return replace(line, measured=new, baseline=old, count=count, p=p, beyond=new > old * (1 + change))
    hits = [means.share_of(whole - bad, whole) for bad, whole in (before, after)]
    moved = means.shift(hits[0], hits[1], -change)
    return replace(
        line, measured=1 - new, baseline=1 - old, low=moved.low, high=moved.high,
        count=count, p=moved.p_not_lower, beyond=moved.difference < 0,
    )  # fmt: skip
