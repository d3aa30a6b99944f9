"""What one block of load came to, and whether it measured the service or the load generator."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from taximeter_analysis.assembled import assemble
from taximeter_analysis.model import Report

#: A process that spends more of a core in a quarter of its seconds is itself what is measured.
MOST_OF_A_CORE = 0.85
#: So is one whose event loop wakes this much too late in a quarter of them.
LATEST_S = 0.1
_OFTEN = 0.25


@dataclass(frozen=True)
class Block:
    """One stretch of load against one side. Instants are Unix seconds."""

    side: str
    number: int
    since: float
    until: float
    requests: dict[str, list[tuple[float, int]]] = field(repr=False)
    cores: tuple[float, ...] = ()
    late_s: tuple[float, ...] = ()
    warmed: int = 0  # requests that began within the warm-up, and are left out
    longest_warmed_s: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.side}-{self.number}"

    @property
    def count(self) -> int:
        return sum(map(len, self.requests.values()))

    @property
    def own_limit(self) -> str | None:
        """Why the load generator itself was the limit; None: it was not."""
        for values, most, text in (
            (self.cores, MOST_OF_A_CORE, "its busiest process used {:.0%} of a core"),
            (self.late_s, LATEST_S, "its timers woke {:.2f} s late"),
        ):
            over = [value for value in values if value > most]
            if values and len(over) >= _OFTEN * len(values):
                return text.format(statistics.median(over))
        return None

    def report(self, service: str) -> Report:
        """The block as a report: durations and failures as its guests saw them."""
        limit = self.own_limit
        notes = ["durations are the load generator's, network included"]
        if limit:
            notes.append(f"the load generator was the limit ({limit}): these are its own durations")
        rows = dict(sorted(self.requests.items()))
        return assemble(self.name, rows, service=service, since=self.since, until=self.until, notes=notes)


def read_block(path: Path, side: str, number: int, warmup_s: float) -> Block:
    """Read a recorder's file; the first ``warmup_s`` seconds of requests are left out."""
    requests: dict[str, list[tuple[float, int]]] = {}
    own: list[tuple[float, float]] = []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answers = [line[1:] for line in lines if line[0] == "request"]
    begin = min((start for start, *_ in answers), default=0.0) + warmup_s
    ends, warming = [begin], [0.0]
    for start, label, seconds, failed in answers:
        if start < begin:
            warming.append(seconds)
        else:
            requests.setdefault(label, []).append((seconds, failed))
            ends.append(start + seconds)
    own = [
        (cores, late) for kind, when, _, cores, late in lines if kind == "own" and begin <= when <= max(ends)
    ]
    return Block(
        side, number, begin, max(ends), requests,
        tuple(cores for cores, _ in own), tuple(late for _, late in own), len(warming) - 1, max(warming),
    )  # fmt: skip
