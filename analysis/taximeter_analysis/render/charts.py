"""The geometry of the page's charts: values to positions, nothing about markup.

Charts by route are tables whose cells carry bars, so that every figure is text for a screen
reader, a copy and a printer; only the timeline is drawn as SVG. Positions are percent of a track.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taximeter_analysis.model import Timeline
from taximeter_analysis.render.units import clock, count, money, seconds

_LOG_TICKS_S = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where (percent, or pixels in the timeline) and what it says."""

    at: float
    text: str


class LogAxis:
    """Durations of very different size on one track: equal ratios are equal distances."""

    def __init__(self, values: Iterable[float]) -> None:
        positive = [value for value in values if value > 0]
        low, high = (min(positive), max(positive)) if positive else (1e-3, 1.0)
        self._low = max((tick for tick in _LOG_TICKS_S if tick <= low), default=low)
        # The axis ends a little beyond the data, so that the last mark has room; a decade at least.
        self._high = max(high * 1.15, self._low * 10)
        self.ticks = [
            Tick(self.at(tick), _axis(tick)) for tick in _LOG_TICKS_S if self._low <= tick <= self._high
        ]

    def at(self, value: float) -> float:
        """Percent of the track, 0 to 100."""
        if value <= self._low:
            return 0.0
        whole = math.log(self._high / self._low)
        return round(min(100.0, 100.0 * math.log(value / self._low) / whole), 3)


def _axis(value: float) -> str:
    text = seconds(value).replace(".00", "").replace(".0", "")
    return text.replace(" min 00 s", " min").replace(" h 00 min", " h")


def percent_of(value: float | None, whole: float | None) -> float:
    """``value`` as percent of ``whole``, 0 to 100; 0 when either is nothing."""
    if not value or not whole:
        return 0.0
    return round(min(100.0, max(0.0, 100.0 * value / whole)), 3)


def nice_top(value: float) -> float:
    """The next round number at or above ``value``: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


@dataclass(frozen=True)
class Column:
    """One step of a timeline panel: a column of stacked parts, each a (class, y, height)."""

    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    tip: str


@dataclass(frozen=True)
class Line:
    """A polyline's points, cut where there was nothing to measure."""

    name: str
    paths: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One chart over time."""

    title: str
    summary: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    y_ticks: tuple[Tick, ...]
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Times:
    """The timeline's panels, all over the same axis. Sizes are SVG user units."""

    width: float
    height: float
    left: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    panels: tuple[Panel, ...]


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 1180.0, 172.0, 64.0, 8.0, 12.0, 146.0


def times(timeline: Timeline, *, with_money: bool) -> Times | None:
    """Requests, latency and (where there is any) money over time; None when there is one step or none."""
    buckets = timeline.buckets
    if len(buckets) < 2:
        return None
    step = (_WIDTH - _LEFT - _RIGHT) / len(buckets)
    every = max(1, math.ceil(len(buckets) / 9))
    dated = buckets[-1].start - buckets[0].start >= 86400
    x_ticks = tuple(
        Tick(_LEFT + index * step, clock(buckets[index].start, date=dated))
        for index in range(0, len(buckets), every)
    )
    panels = [_requests(timeline, step), _latency(timeline, step)]
    if with_money:
        panels.append(_money(timeline, step))
    return Times(_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, x_ticks, tuple(panels))


def _y(value: float, top: float) -> float:
    return round(_BOTTOM - (value / top) * (_BOTTOM - _TOP), 2)


def _columns(
    timeline: Timeline,
    step: float,
    stacks: Sequence[Sequence[tuple[str, float]]],
    top: float,
    tips: Sequence[str],
) -> tuple[Column, ...]:
    found = []
    for index, stack in enumerate(stacks):
        parts, below = [], 0.0
        for name, value in stack:
            if value > 0:
                parts.append(
                    (name, _y(below + value, top), round(_y(below, top) - _y(below + value, top), 2))
                )
                below += value
        gap = min(2.0, step * 0.15)
        found.append(
            Column(round(_LEFT + index * step + gap / 2, 2), round(step - gap, 2), tuple(parts), tips[index])
        )
    return tuple(found)


def _every(step_s: float) -> str:
    return "second" if step_s == 1 else _axis(step_s)


def _requests(timeline: Timeline, step: float) -> Panel:
    buckets = timeline.buckets
    top = nice_top(max(bucket.requests for bucket in buckets))
    every = _every(timeline.step_s)
    tips = [
        f"{clock(bucket.start, date=False)}: {count(bucket.requests)} requests, {count(bucket.errors)} failed"
        for bucket in buckets
    ]
    stacks = [(("error", bucket.errors), ("ok", bucket.requests - bucket.errors)) for bucket in buckets]
    busiest = max(buckets, key=lambda bucket: bucket.requests)
    return Panel(
        f"Requests per {every}",
        f"at most {count(busiest.requests)}, at {clock(busiest.start, date=False)}",
        _columns(timeline, step, stacks, top, tips),
        (),
        tuple(
            Tick(_y(top * part, top), count(top * part))
            for part in (0, 0.5, 1)
            if top * part == int(top * part)
        ),
        (("ok", "answered"), ("error", "failed")),
    )


def _latency(timeline: Timeline, step: float) -> Panel:
    buckets = timeline.buckets
    highest = max(bucket.p95 or 0.0 for bucket in buckets)
    scale = 1.0 if highest >= 1 else 1e-3
    top = nice_top(highest / scale) * scale

    def line(name: str) -> Line:
        paths: list[str] = []
        points: list[str] = []
        dots: list[tuple[float, float]] = []
        for index, bucket in enumerate(buckets):
            value: float | None = getattr(bucket, name)
            if value is None:
                if points:
                    paths.append(" ".join(points))
                points = []
                continue
            x, y = round(_LEFT + (index + 0.5) * step, 2), _y(value, top)
            points.append(f"{x},{y}")
            dots.append((x, y))
        if points:
            paths.append(" ".join(points))
        return Line(name, tuple(paths), tuple(dots))

    tips = [
        f"{clock(bucket.start, date=False)}: P50 {seconds(bucket.p50)}, P95 {seconds(bucket.p95)}"
        for bucket in buckets
    ]
    blank = [((("hit", top),)) for _ in buckets]
    worst = max(buckets, key=lambda bucket: bucket.p95 or 0.0)
    return Panel(
        "Latency",
        f"P95 at most {seconds(worst.p95)}, at {clock(worst.start, date=False)}",
        _columns(timeline, step, blank, top, tips),
        (line("p95"), line("p50")),
        tuple(Tick(_y(top * part, top), _axis(top * part) if part else "0") for part in (0, 0.5, 1)),
        (("p50", "P50"), ("p95", "P95")),
    )


def _money(timeline: Timeline, step: float) -> Panel:
    buckets = timeline.buckets
    top = nice_top(max(bucket.cost_usd for bucket in buckets))
    every = _every(timeline.step_s)
    spent, tips = 0.0, []
    for bucket in buckets:
        spent += bucket.cost_usd
        tips.append(f"{clock(bucket.start, date=False)}: {money(bucket.cost_usd)}, so far {money(spent)}")
    return Panel(
        f"AI cost per {every}",
        f"{money(spent)} in all",
        _columns(timeline, step, [(("cost", bucket.cost_usd),) for bucket in buckets], top, tips),
        (),
        tuple(Tick(_y(top * part, top), money(top * part)) for part in (0, 0.5, 1)),
        (),
    )
