"""What was read, as tables in Markdown, and whether it meets the targets."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OURS, STOCK, PLAIN = "taximeter", "stock", "plain"
#: Of what stock adds on every route, this much at most.
MOST_OF_STOCK = 0.5
#: Of the plain service's p99 on every route, this much at most.
MOST_OF_PLAIN_P99 = 1.5


@dataclass
class Reading:
    """What was seen of one variant."""

    cpu: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # us a request, by round
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # s
    exported: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # bytes, likewise
    start_wall: list[float] = field(default_factory=list)
    start_cpu: list[float] = field(default_factory=list)
    memory: float = 0.0  # MB, at the end


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def added(readings: Mapping[str, Reading], name: str, route: str) -> float:
    """The median over rounds of what ``name`` took more than plain, in that round."""
    pairs = zip(readings[name].cpu[route], readings[PLAIN].cpu[route], strict=True)
    return statistics.median(mine - plain for mine, plain in pairs)


def p99(reading: Reading, route: str) -> float:
    """Milliseconds."""
    return _quantile(reading.latencies[route], 0.99) * 1e3


def render(readings: Mapping[str, Reading], routes: Mapping[str, float], rounds: int) -> str:
    """Every figure of a run."""
    lines = [f"CPU microseconds per request, median of {rounds} rounds (lowest to highest)", ""]
    head = [f"{route} ({rate:g}/s)" for route, rate in routes.items()]
    lines += _row(["", *head, *(f"added, {route}" for route in routes)])
    lines += _row(["---"] + ["---:"] * (2 * len(routes)))
    for name, reading in readings.items():
        cells = [name]
        for route in routes:
            cpu = reading.cpu[route]
            cells.append(f"{statistics.median(cpu):,.0f} ({min(cpu):,.0f}-{max(cpu):,.0f})")
        for route in routes:
            cells.append("" if name == PLAIN else f"{added(readings, name, route):+,.0f}")
        lines += _row(cells)
    lines += ["", "Latency in milliseconds, from when the request should have left", ""]
    lines += _row(
        ["", *(f"{route} p50" for route in routes), *(f"{route} p99 (of plain)" for route in routes)]
    )
    lines += _row(["---"] + ["---:"] * (2 * len(routes)))
    for name, reading in readings.items():
        cells = [f"{_quantile(reading.latencies[route], 0.5) * 1e3:.2f}" for route in routes]
        for route in routes:
            mine = p99(reading, route)
            cells.append(f"{mine:.2f} ({mine / p99(readings[PLAIN], route):.2f})")
        lines += _row([name, *cells])
    lines += ["", "Bytes exported per request; memory; from the start to the first answer", ""]
    lines += _row(["", *(f"{route} bytes" for route in routes), "RSS MB", "start s", "start CPU s"])
    lines += _row(["---"] + ["---:"] * (len(routes) + 3))
    for name, reading in readings.items():
        lines += _row(
            [
                name,
                *(f"{statistics.median(reading.exported[route]):,.0f}" for route in routes),
                f"{reading.memory:.0f}",
                f"{statistics.median(reading.start_wall):.2f}",
                f"{statistics.median(reading.start_cpu):.2f}",
            ]
        )
    lines += ["", "Targets", ""]
    lines += _row(["", "route", "read", "target", ""])
    lines += _row(["---", "---", "---:", "---:", "---"])
    for verdict in _judged(readings, routes):
        lines += _row(verdict)
    return "\n".join(lines) + "\n"


def _judged(readings: Mapping[str, Reading], routes: Mapping[str, float]) -> Iterator[list[str]]:
    """One line for each target and route: what was read, what is wanted, and whether that holds."""
    if OURS not in readings:
        return
    others = [name for name in readings if name not in {OURS, STOCK, PLAIN}]
    for route in routes:
        mine = added(readings, OURS, route)
        if STOCK in readings:
            theirs = added(readings, STOCK, route)
            ratio = mine / theirs if theirs > 0 else float("inf")
            holds = _holds(ratio <= MOST_OF_STOCK)
            yield ["CPU added, of what stock adds", route, f"{ratio:.2f}", f"<= {MOST_OF_STOCK}", holds]
        for name in others:
            theirs = added(readings, name, route)
            limit = f"< {theirs:+,.0f} us"
            yield [f"CPU added, less than {name}", route, f"{mine:+,.0f} us", limit, _holds(mine < theirs)]
        of_plain = p99(readings[OURS], route) / p99(readings[PLAIN], route)
        limit = f"<= {MOST_OF_PLAIN_P99}"
        holds = _holds(of_plain <= MOST_OF_PLAIN_P99)
        yield ["p99, of plain", route, f"{of_plain:.2f}", limit, holds]


def _holds(whether: bool) -> str:
    return "holds" if whether else "**does not hold**"


def _row(cells: list[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]
