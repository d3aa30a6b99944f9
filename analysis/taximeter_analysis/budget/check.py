"""Holds a report against a budget: finds what each limit speaks of, has it judged, and decides.

A limit that leaves room for chance is broken only when the chance of such a figure is under 5 %
after Holm's correction over all such limits of the budget, so that an unchanged build breaks *any*
of them in at most 5 of 100 runs, whatever the number of routes. Where there is too little data to
say either, that is said, with the number that would do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from taximeter_analysis.budget.judge import Subject, hard, judge, judge_share, missed, per_request
from taximeter_analysis.budget.model import LIMITS, Budget, Limit, Spec, matches
from taximeter_analysis.budget.result import Line, Outcome
from taximeter_analysis.budget.runs import Runs
from taximeter_analysis.inference import families
from taximeter_analysis.model import Report, Usage

#: A day's money is not said from less than this.
LEAST_OBSERVED_S = 3600.0

ALL_REQUESTS = "all requests"

_DAY = 86400.0


class NoBaseline(ValueError):
    """The budget has relative limits and no baseline was given."""


def check(
    budget: Budget,
    measured: Report | Sequence[Report],
    baseline: Report | Sequence[Report] | None = None,
    *,
    paired: bool = False,
) -> Outcome:
    """Judge every limit of the budget.

    Args:
        budget: the limits.
        measured: a report, or those of several runs: then latency is judged by run.
        baseline: likewise; several where ``measured`` is several.
        paired: the runs of both sides were interleaved: A1 B1 A2 B2 ...

    Raises:
        NoBaseline: a limit is relative (``max_increase``) and ``baseline`` is None.
        ValueError: one run on a side and several on the other, or ``paired`` and not as many on both.
    """
    found, before = Runs.of(measured), None if baseline is None else Runs.of(baseline)
    if before is None:
        _no_relative(budget)
    else:
        _comparable(found, before, paired)
    jobs = [*_totals(budget, found, before), *_routes(budget, found, before)]
    tests = sum(_leaves_room(spec, limit) for _, spec, limit, _, _ in jobs)
    tests += sum(cache.match == "*" and cache.hit_rate < 1 for cache in budget.caches)
    lines = [done for job in jobs for done in judge(*job, tests=tests, paired=paired)]
    lines += _caches(budget, found, tests)
    return Outcome(
        budget=budget.source,
        source=found.name,
        baseline=before.name if before else None,
        lines=(*_decided(lines), *_idle(budget, found), *_money(budget, found), *_tenants(budget, found)),
        notes=_notes(found),
    )


def _comparable(found: Runs, before: Runs, paired: bool) -> None:
    one, other = len(before.reports), len(found.reports)
    if (one == 1) != (other == 1):
        raise ValueError(
            f"{one} run(s) as baseline against {other}: give one on each side, or several on each "
            "(a.json,b.json)"
        )
    if paired and one != other:
        raise ValueError(f"--paired goes run by run, and there are {one} and {other} of them")


def _no_relative(budget: Budget) -> None:
    entries = [("total", budget.total), ("defaults", budget.defaults)]
    entries += [(f"routes[{index}]", entry.limits) for index, entry in enumerate(budget.routes)]
    for where, limits in entries:
        for name, limit in limits.items():
            for relative in ("max_increase", "max_decrease"):
                if getattr(limit, relative) is not None:
                    raise NoBaseline(
                        f"{budget.source}: {where}.{name}.{relative} is held against a baseline: give one "
                        "with --baseline report.json (written by `taximeter report --json`)"
                    )


_Job = tuple[Line, Spec, Limit, Subject, Subject | None]


def _totals(budget: Budget, found: Runs, baseline: Runs | None) -> Iterator[_Job]:
    before = Subject.of(baseline.reports, ALL_REQUESTS) if baseline else None
    for name, limit in budget.total.items():
        spec = LIMITS[name]
        line = Line("pass", f"total.{name}", ALL_REQUESTS, name, spec.unit)
        yield line, spec, limit, Subject.of(found.reports, ALL_REQUESTS), before


def _routes(budget: Budget, found: Runs, baseline: Runs | None) -> Iterator[_Job]:
    earlier = baseline.routes() if baseline else {}
    several = len(found.services) > 1
    for key, parts in sorted(found.routes().items(), key=lambda item: (item[0][2] or "", item[0][1] or "")):
        route = parts[0]
        label = f"{route.service} {route.label}" if several else route.label
        old = earlier.get(key)
        before = Subject.of(old, label) if old else None
        for spec in LIMITS.values():
            origin = budget.origin_of(route.service, route.method, route.route, spec.name)
            if origin is None or (route.route is None and origin[0].startswith("defaults.")):
                continue  # what matched no route is strangers' traffic: only a pattern of its own judges it
            place, limit = origin
            line = Line("pass", place, label, spec.name, spec.unit)
            yield line, spec, limit, Subject.of(parts, label), before


def _leaves_room(spec: Spec, limit: Limit) -> int:
    """How many tests with chance in them this limit makes."""
    if spec.kind == "count":
        return 0
    absolute = limit.min if spec.lowest else limit.max
    certain = absolute is not None and spec.kind == "share" and absolute == (1 if spec.lowest else 0)
    relative = limit.max_decrease if spec.lowest else limit.max_increase
    return (absolute is not None and not certain) + (relative is not None)


def _decided(lines: list[Line]) -> Iterator[Line]:
    """Correct the chances for their number, and decide."""
    adjusted = iter(families.holm([line.p for line in lines if line.p is not None]))
    for line in lines:
        if line.p is None:
            yield line
            continue
        p = next(adjusted)
        if p <= families.LEVEL:
            reason = f"beyond the limit, not by chance (p = {p:.2g})"
            yield replace(line, p=p, state="fail", reason=reason, needs=None)
        elif line.state == "no_data":
            yield replace(line, p=p)
        elif line.beyond:
            yield replace(line, p=p, reason=f"beyond the limit, but that may be chance (p = {p:.2g})")
        else:
            yield replace(line, p=p)


def _idle(budget: Budget, found: Runs) -> Iterator[Line]:
    """Entries that no route in the report matches: a typing mistake, or a route without traffic."""
    routes = found.routes()
    labels = [parts[0].label for parts in routes.values()]
    for index, entry in enumerate(budget.routes):
        if any(entry.covers(*key) for key in routes):
            continue
        close = difflib.get_close_matches(entry.match, labels, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        for name in entry.limits:
            yield Line(
                "no_data", f"routes[{index}].{name}", entry.match, name, LIMITS[name].unit,
                f"no request of a route that matches{hint}", needs=1,
            )  # fmt: skip


def _spending(
    about: tuple[str, str],
    limits: dict[str, float | None],
    usage: Usage,
    *,
    outside: float,
    observed_s: float,
) -> Iterator[Line]:
    """Money limits of ``about`` (place in the file, subject); ``outside``: spent outside of requests."""
    place, subject = about
    spent = None if usage.cost_usd is None else usage.cost_usd + outside
    for name, limit in limits.items():
        if limit is None:
            continue
        line = Line("pass", f"{place}.{name}", subject, name, "usd", limit=limit, count=usage.requests)
        if name == "per_request":
            yield hard(line, per_request(usage, "cost"), limit)
        elif observed_s < LEAST_OBSERVED_S:
            # A test run's rate is the load generator's, not the guests': it says nothing of a day.
            yield replace(
                line, state="skipped",
                reason=f"{observed_s:.0f} s of traffic tell nothing of a day (needs 1 h); alerts watch it",
            )  # fmt: skip
        else:
            days = 30 if name == "per_month" else 1
            yield hard(line, None if spent is None else spent / observed_s * _DAY * days, limit)


def _money(budget: Budget, found: Runs) -> Iterator[Line]:
    money = budget.money
    limits = {"per_request": money.per_request, "per_day": money.per_day, "per_month": money.per_month}
    yield from _spending(
        ("money", "all model calls"), limits, found.totals,
        outside=found.outside_cost_usd, observed_s=found.observed_s,
    )  # fmt: skip


def _caches(budget: Budget, found: Runs, tests: int) -> Iterator[Line]:
    for index, cache in enumerate(budget.caches):
        subject = "all caches" if cache.match == "*" else f"cache {cache.match}"
        line = Line("pass", f"caches[{index}].hit_rate", subject, "hit_rate", "share", limit=cache.hit_rate)
        if cache.match != "*":  # the store knows look-ups by request, not by cache
            reason = "the span store has no figures by cache; the alerts made from this budget watch it"
            yield replace(line, state="skipped", reason=reason)
            continue
        found_share = missed(found.totals, "cache_hit_rate")
        yield judge_share(line, found_share, cache.hit_rate, lowest=True, tests=tests)


def _tenants(budget: Budget, found: Runs) -> Iterator[Line]:
    for index, entry in enumerate(budget.tenants):
        limits = {"per_request": entry.per_request, "per_day": entry.per_day, "per_month": entry.per_month}
        covered = {name: usage for name, usage in found.tenants().items() if matches(entry.match, name)}
        for name, usage in covered.items():
            yield from _spending(
                (f"tenants[{index}]", f"tenant {name}"), limits, usage,
                outside=0.0, observed_s=found.observed_s,
            )  # fmt: skip
        for name, limit in limits.items() if not covered and entry.match != "*" else ():
            if limit is not None:
                yield Line(
                    "no_data", f"tenants[{index}].{name}", entry.match, name, "usd",
                    "no request of a tenant that matches", limit=limit, needs=1,
                )  # fmt: skip


def _notes(found: Runs) -> tuple[str, ...]:
    unpriced = found.totals.unpriced_calls
    if not unpriced:
        return ()
    return (f"{unpriced} model call(s) have no price: the true cost is higher than what was judged",)
