"""The benchmark's table: medians of the runs, ours and the official collector's, beside the targets."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from benchmarks.collector.peers import OFFICIAL, OURS

RESULT = Path("docs/results/collector-bench.md")


class Scenario(Protocol):
    """What the table needs of a scenario."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> float: ...
    @property
    def memory_target(self) -> float: ...


class Run(Protocol):
    """What the table needs of a run."""

    @property
    def per_cpu_s(self) -> float: ...
    @property
    def peak_mib(self) -> float: ...
    @property
    def traces(self) -> frozenset[bytes] | None: ...


def table(scenarios: Sequence[Scenario], results: Mapping[tuple[str, str], Sequence[Run]]) -> list[str]:
    """Markdown, one line a scenario."""
    lines = [
        "| | Taximeter, spans per CPU-s | official | ratio | target | peak MiB, Taximeter | official |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for scenario in scenarios:
        ours, theirs = results[scenario.name, OURS], results[scenario.name, OFFICIAL]
        speed = _median(ours, lambda r: r.per_cpu_s), _median(theirs, lambda r: r.per_cpu_s)
        memory = _median(ours, lambda r: r.peak_mib), _median(theirs, lambda r: r.peak_mib)
        ratio = speed[0] / speed[1]
        aims = [(f">= {scenario.target:g}x", ratio >= scenario.target)] if scenario.target else []
        if scenario.memory_target:
            share = memory[0] / memory[1]
            aims.append((f"memory <= {scenario.memory_target:g}", share <= scenario.memory_target))
        told = "; ".join(f"{aim}: {'reached' if met else 'not reached'}" for aim, met in aims) or "none"
        lines.append(
            f"| {scenario.name} | {speed[0]:,.0f} | {speed[1]:,.0f} | {ratio:.2f} | {told} "
            f"| {memory[0]:.0f} | {memory[1]:.0f} |"
        )
    return lines


def write(scenarios: Sequence[Scenario], results: Mapping[tuple[str, str], Sequence[Run]], load: str) -> None:
    """Print the table and keep it in docs/results."""
    rounds = len(results[scenarios[0].name, OURS])
    head = [
        "# make bench-collector",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, Debian 12, x86-64, 2 cores, Python {platform.python_version()};",
        f"medians of {rounds} interleaved rounds; load average {load}.",
        "",
        "One pinned core for the collector, the other for sender and sink. Ours writes its log to disk,",
        "synced as shipped; the official one keeps its queue in memory. CPU time is user and system of the",
        "whole process.",
        "",
    ]
    text = "\n".join([*head, *table(scenarios, results)]) + "\n"
    print(text)
    RESULT.write_text(text)


def _median(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(of(run) for run in runs)
