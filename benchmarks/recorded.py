"""The recorded requests of ``record_requests``, and reports made from any part of them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taximeter_analysis.assembled import assemble
from taximeter_analysis.model import Report

RECORDING = Path(__file__).with_name("requests.json")
COUNTS = ("db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens")

Rows = Sequence[Sequence[float]]  # of each request: duration in microseconds, failed, then COUNTS
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
    rows = {route: [[row[0] / 1e6, *row[1:]] for row in found] for route, found in replay.items()}
    return assemble(name, rows, service="hotel-chat", counts=COUNTS)


def latency_report(durations: Mapping[str, Sequence[float]], name: str) -> Report:
    """A report of durations alone."""
    return assemble(name, {route: [(value, 0) for value in found] for route, found in durations.items()})


def resample(source: Sequence[float], count: int, dice: random.Random, scale: float = 1.0) -> list[float]:
    """So many durations drawn from a recorded distribution, sorted."""
    drawn = sorted(dice.choices(source, k=count))
    return drawn if scale == 1.0 else [value * scale for value in drawn]
