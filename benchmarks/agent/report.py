"""What was read, as tables in Markdown."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field


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


def render(readings: Mapping[str, Reading], routes: Mapping[str, float], rounds: int) -> str:
    """Every figure of a run. Added: the median over rounds of this variant less plain, in that round."""
    plain = readings["plain"]
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
            added = [a - b for a, b in zip(reading.cpu[route], plain.cpu[route], strict=True)]
            cells.append("" if name == "plain" else f"{statistics.median(added):+,.0f}")
        lines += _row(cells)
    lines += ["", "Latency in milliseconds, from when the request should have left", ""]
    lines += _row(["", *(f"{route} p50" for route in routes), *(f"{route} p99" for route in routes)])
    lines += _row(["---"] + ["---:"] * (2 * len(routes)))
    for name, reading in readings.items():
        values = [_quantile(reading.latencies[route], q) * 1e3 for q in (0.5, 0.99) for route in routes]
        lines += _row([name, *(f"{value:.2f}" for value in values)])
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
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]
