"""The recorded requests of ``record_requests``, and reports made from any part of them.

A `Report` made here holds what the gate reads (requests, errors, counts, tokens, order statistics),
put together as `taximeter report` does from the same requests, without a store in between.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from taximeter_analysis import course
from taximeter_analysis.figures import quantiles as figure_quantiles
from taximeter_analysis.inference import quantiles
from taximeter_analysis.model import (
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

RECORDING = Path(__file__).with_name("requests.json")
COUNTS = ("db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens")

Rows = Sequence[Sequence[int]]  # of each request: duration in microseconds, failed, then COUNTS
Replay = Mapping[str, Rows]  # by route


@dataclass(frozen=True)
class Recording:
    """Seeded replays of the same requests, each on a stack of its own."""

    recorded: str
    machine: str
    replays: tuple[Replay, ...]

    def durations(self) -> dict[str, list[float]]:
        """Seconds of each route over all replays, routes with most requests first."""
        found: dict[str, list[float]] = {}
        for replay in self.replays:
            for route, rows in replay.items():
                found.setdefault(route, []).extend(row[0] / 1e6 for row in rows)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def recording(path: Path = RECORDING) -> Recording:
    """Read the committed recording."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Recording(data["recorded"], data["machine"], tuple(data["replays"]))


def report_of(replay: Replay, name: str = "replay") -> Report:
    """The report of these requests."""
    everything = [row for rows in replay.values() for row in rows]
    return _report(name, [_route(label, rows) for label, rows in replay.items()], everything)


def latency_report(durations: Mapping[str, Sequence[float]], name: str) -> Report:
    """A report of durations alone, each route's sorted; its totals are empty."""
    return _report(name, [_latency_route(label, found) for label, found in durations.items()], [])


def resample(source: Sequence[float], count: int, dice: random.Random, scale: float = 1.0) -> list[float]:
    """So many durations drawn from a recorded distribution, sorted."""
    drawn = sorted(dice.choices(source, k=count))
    return drawn if scale == 1.0 else [value * scale for value in drawn]


def _usage(rows: Rows) -> Usage:
    sums = {name: sum(row[index + 2] for row in rows) for index, name in enumerate(COUNTS)}
    unknown = {item.name: None for item in fields(Usage)}
    return Usage(**{**unknown, **sums, "requests": len(rows), "errors": sum(row[1] for row in rows)})


def _spread(rows: Rows) -> Spread:
    def deviation(index: int) -> float | None:
        return statistics.stdev(row[index] for row in rows) if len(rows) > 1 else None

    return Spread(**{name: deviation(index + 2) for index, name in enumerate(COUNTS)}, cost_usd=None)


def _ranked(durations: Sequence[float]) -> tuple[Ranked, ...]:
    return tuple(quantiles.ranked(q, durations) for q in QUANTILES) if durations else ()


def _route(label: str, rows: Rows) -> Route:
    return _any_route(label, sorted(row[0] / 1e6 for row in rows), _usage(rows), _spread(rows))


def _latency_route(label: str, durations: Sequence[float]) -> Route:
    return _any_route(label, durations, _usage([]), _spread([]))


def _any_route(label: str, durations: Sequence[float], usage: Usage, spread: Spread) -> Route:
    method, _, path = label.partition(" ")
    unknown = {item.name: None for item in fields(Route)}
    count = len(durations)
    values = [durations[quantiles.rank_of(q, count) - 1] for q in QUANTILES] if count else None
    latency = figure_quantiles(count, values, durations[-1] if count else None)
    known = {
        "service": "hotel-chat", "method": method, "route": None if path == "(no route)" else path,
        "label": label, "usage": usage, "spread": spread, "latency": latency, "ranked": _ranked(durations),
        "first_byte": figure_quantiles(0, None, None), "slow_requests": 0,
        "error_rate": usage.errors / usage.requests if usage.requests else 0.0,
    }  # fmt: skip
    return Route(**{**unknown, **known})  # type: ignore[arg-type]  # by name, from the class's own fields


def _report(name: str, routes: Iterable[Route], rows: Rows) -> Report:
    usage, spans = _usage(rows), SpanTotals(0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0.0)
    durations = sorted(row[0] / 1e6 for row in rows)
    return Report(
        generated_at=0.0, store=name, window=Window(None, None, 0.0, 100.0, 100.0), services=("hotel-chat",),
        service_filter=None, tenant_filter=None, version_filter=None, totals=usage,
        error_rate=usage.errors / usage.requests if usage.requests else None, requests_per_second=None,
        spread=_spread(rows), latency=figure_quantiles(0, None, None), ranked=_ranked(durations), split=None,
        totals_from_spans=spans, routes=tuple(routes), tenants=(), models=(), slow=Slow(2.0, 0, 0, (), ()),
        repeated=RepeatedStatements(2, 0, ()), projection=course.projection(usage, spans, 100.0),
        timeline=Timeline(1.0, ()), slowest=None, notes=(),
    )  # fmt: skip
