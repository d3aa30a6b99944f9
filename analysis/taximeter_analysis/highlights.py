"""What stands out in a report, in a few sentences: the first thing a reader wants to know.

Plain rules on the report's own figures. Each says what was found, how much it weighs and where;
nothing is said that the tables do not show.
"""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_analysis.model import Report
from taximeter_analysis.render.units import count, limit, money, per_request, percent, seconds

#: Fewer requests than this say little about a route.
_ENOUGH = 5


@dataclass(frozen=True)
class Highlight:
    """One sentence: ``kind`` (money, time, queries, errors, cache), what it is about, what was found."""

    kind: str
    subject: str
    text: str


def highlights(report: Report) -> list[Highlight]:
    """At most one highlight of each kind, the most useful first."""
    found = (_money(report), _queries(report), _slow(report), _time(report), _errors(report), _cache(report))
    return [highlight for highlight in found if highlight is not None]


def _of(part: int, whole: int) -> str:
    return f"all {count(whole)}" if part == whole else f"{count(part)} of the {count(whole)}"


def _money(report: Report) -> Highlight | None:
    total = report.totals.cost_usd
    if not total:
        return None
    top = max(report.routes, key=lambda route: route.usage.cost_usd or 0.0)
    spent = top.usage.cost_usd or 0.0
    return Highlight(
        "money",
        top.label,
        f"spends {percent(spent / total)} of the money: {money(spent)} of {money(total)}, "
        f"{money(top.cost_per_request_usd)} a request.",
    )


def _queries(report: Report) -> Highlight | None:
    if not report.repeated.shown:
        return None
    worst = report.repeated.shown[0]
    more = report.repeated.total - 1
    others = (
        f" {count(more)} more {'statement repeats' if more == 1 else 'statements repeat'} so." if more else ""
    )
    return Highlight(
        "queries",
        worst.label,
        f"sends the same statement {per_request(worst.repeats_median)} times per request "
        f"({count(worst.requests)} requests, {seconds(worst.time_per_request_s)} each): an N+1.{others}",
    )


def _slow(report: Report) -> Highlight | None:
    slow = [route for route in report.routes if route.slow_requests]
    if not slow:
        return None
    worst = max(slow, key=lambda route: route.slow_requests)
    total = report.slow.requests_total
    return Highlight(
        "slow",
        worst.label,
        f"has {_of(worst.slow_requests, total)} requests that took "
        f"{limit(report.slow.threshold_s)} or longer; its P95 is {seconds(worst.latency.p95)}.",
    )


def _time(report: Report) -> Highlight | None:
    if report.split is None:
        return None
    whole = report.split.whole_s
    if not whole:
        return None
    parts = {
        "Model calls": report.split.model_s,
        "The database": report.split.db_s,
        "Other HTTP calls": report.split.http_s,
        "The service's own work": report.split.other_s,
    }
    name, longest = max(parts.items(), key=lambda item: item[1])
    return Highlight(
        "time",
        name,
        f"take{'' if name.endswith('calls') else 's'} {percent(longest / whole)} of all request time.",
    )


def _errors(report: Report) -> Highlight | None:
    failing = [route for route in report.routes if route.usage.errors]
    if not failing:
        return None
    worst = max(failing, key=lambda route: route.usage.errors)
    return Highlight(
        "errors",
        worst.label,
        f"has {_of(worst.usage.errors, report.totals.errors)} failed requests "
        f"({percent(report.error_rate)} of all requests fail).",
    )


def _cache(report: Report) -> Highlight | None:
    lookups, hits = report.totals.cache_lookups, report.totals.cache_hits
    if not lookups or hits is None or lookups < _ENOUGH:
        return None
    return Highlight("cache", "The cache", f"answers {percent(hits / lookups)} of {count(lookups)} look-ups.")
