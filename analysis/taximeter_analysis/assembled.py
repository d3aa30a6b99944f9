"""A report put together from requests that no store holds: a load generator's own, or a recording.

It has what requests alone tell (durations, failures, and counts where they are given) and says
*not known* for the rest; a later `compare` or `budget check` takes it like any other.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields

from taximeter_analysis import course
from taximeter_analysis.figures import NO_ROUTE, quantiles
from taximeter_analysis.inference.quantiles import rank_of, ranked
from taximeter_analysis.model import (
    Quantiles,
    Ranked,
    RepeatedStatements,
    Report,
    Route,
    Slow,
    SpanTotals,
    Spread,
    Timeline,
    Usage,
    Window,
)
from taximeter_analysis.ranks import QUANTILES

#: Of one request: seconds, whether it failed (0 or 1), then the counts that are named.
Row = Sequence[float]

_NOTHING = SpanTotals(0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0.0)


def assemble(
    name: str,
    requests: Mapping[str, Sequence[Row]],
    *,
    service: str | None = None,
    counts: Sequence[str] = (),
    since: float = 0.0,
    until: float = 0.0,
    notes: Sequence[str] = (),
) -> Report:
    """A report of these requests.

    Args:
        name: where they come from; stands in the place of the store's path.
        requests: by label, method and route (``GET /hotels/{hotel}``).
        service: their service.name.
        counts: names of `Usage` figures that each row carries after duration and failure.
        since: start of the first request, Unix seconds.
        until: end of the last one.
        notes: what the reader must know.
    """
    rows = [row for found in requests.values() for row in found]
    durations = sorted(row[0] for row in rows)
    usage, observed = _usage(rows, counts), max(0.0, until - since)
    return Report(
        generated_at=until, store=name, window=Window(since, until, since, until, observed),
        services=(service,) if service else (), service_filter=None, tenant_filter=None, version_filter=None,
        totals=usage, error_rate=usage.errors / usage.requests if rows else None,
        requests_per_second=len(rows) / observed if observed else None, spread=_spread(rows, counts),
        latency=_latency(durations), ranked=_ranked(durations), split=None, totals_from_spans=_NOTHING,
        routes=tuple(_route(label, found, service, counts) for label, found in requests.items() if found),
        tenants=(), models=(), slow=Slow(2.0, 0, 0, (), ()), repeated=RepeatedStatements(2, 0, ()),
        projection=course.projection(usage, _NOTHING, observed), timeline=Timeline(1.0, ()), slowest=None,
        notes=tuple(notes),
    )  # fmt: skip


def _usage(rows: Sequence[Row], counts: Sequence[str]) -> Usage:
    values: dict[str, float | None] = {item.name: None for item in fields(Usage)}
    values |= {name: sum(row[index + 2] for row in rows) for index, name in enumerate(counts)}
    values |= {"requests": len(rows), "errors": sum(bool(row[1]) for row in rows)}
    return Usage(**values)  # type: ignore[arg-type]  # by name, from the class's own fields


def _spread(rows: Sequence[Row], counts: Sequence[str]) -> Spread:
    known = {
        name: statistics.stdev(row[index + 2] for row in rows) if len(rows) > 1 else None
        for index, name in enumerate(counts)
    }
    return Spread(**{item.name: known.get(item.name) for item in fields(Spread)})


def _ranked(durations: Sequence[float]) -> tuple[Ranked, ...]:
    return tuple(ranked(q, durations) for q in QUANTILES) if durations else ()


def _latency(durations: Sequence[float]) -> Quantiles:
    count = len(durations)
    if not count:
        return quantiles(0, None, None)
    return quantiles(count, [durations[rank_of(q, count) - 1] for q in QUANTILES], durations[-1])


def _route(label: str, rows: Sequence[Row], service: str | None, counts: Sequence[str]) -> Route:
    durations, usage = sorted(row[0] for row in rows), _usage(rows, counts)
    method, _, path = label.partition(" ")
    per_request = {f"{name}_per_request": getattr(usage, name) / len(rows) for name in counts}
    values: dict[str, object] = {item.name: per_request.get(item.name) for item in fields(Route)}
    values |= {
        "service": service, "method": method if path else None, "label": label, "usage": usage,
        "route": None if path == NO_ROUTE else path or label, "spread": _spread(rows, counts),
        "latency": _latency(durations), "ranked": _ranked(durations), "first_byte": quantiles(0, None, None),
        "error_rate": usage.errors / usage.requests,
        "slow_requests": sum(value >= 2.0 for value in durations),
    }  # fmt: skip
    return Route(**values)  # type: ignore[arg-type]  # by name, from the class's own fields
