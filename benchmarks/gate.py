"""Trials of the gate: unchanged and changed builds made from the recording, judged by the real check.

Beside it stand the two gates that teams write first: "P95 grew by more than 10 %", and a one-sided
Mann-Whitney test at 5 % on every route.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.recorded import COUNTS, Replay, latency_report, report_of, resample
from taximeter_analysis.budget import Budget
from taximeter_analysis.budget.check import check
from taximeter_analysis.budget.loader import parse_budget

Durations = Mapping[str, Sequence[float]]

NOT_SLOWER = parse_budget("version: 1\ndefaults: {latency_p95: {max_increase: 0}}")
SAME_COUNTS = parse_budget(
    "version: 1\ndefaults:\n" + "".join(f"  {name}: {{max_increase: 0}}\n" for name in COUNTS)
)


@dataclass
class Tally:
    """How many of the trials each gate failed."""

    trials: int = 0
    ours: int = 0
    no_data: int = 0
    needs: set[int] = field(default_factory=set)
    p95_rule: int = 0
    mann_whitney: int = 0


def latency_trials(
    source: Durations,
    *,
    trials: int,
    count: int,
    seed: object,
    slower: Sequence[str] = (),
    scale: float = 1.2,
    peers: bool = True,
) -> Tally:
    """Pairs of runs with ``count`` requests on every route; of ``slower``, one in turn is scaled."""
    dice, tally = random.Random(f"{seed}:{count}"), Tally()
    for trial in range(trials):
        hit = slower[trial % len(slower)] if slower else None
        before = {route: resample(found, count, dice) for route, found in source.items()}
        after = {
            route: resample(found, count, dice, scale if route == hit else 1.0)
            for route, found in source.items()
        }
        outcome = check(NOT_SLOWER, latency_report(after, "after"), latency_report(before, "before"))
        tally.trials += 1
        tally.ours += outcome.state == "fail"
        tally.no_data += outcome.state == "no_data"
        tally.needs |= {line.needs for line in outcome.of("no_data") if line.needs}
        if peers:
            rank = math.ceil(0.95 * count) - 1
            tally.p95_rule += any(after[name][rank] > 1.1 * before[name][rank] for name in source)
            tally.mann_whitney += any(slower_p(before[name], after[name]) < 0.05 for name in source)
    return tally


def slower_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Mann-Whitney's one-sided p that ``after`` is larger; normal approximation, ties by mid-ranks."""
    u, ties, low, high = 0.0, 0.0, 0, 0
    n, m, index = len(before), len(after), 0
    while index < m:
        value, start = after[index], index
        while index < m and after[index] == value:
            index += 1
        while low < n and before[low] < value:
            low += 1
        high = max(low, high)
        while high < n and before[high] == value:
            high += 1
        same = index - start
        u += same * (low + (high - low) / 2)
        size = same + high - low
        ties += size**3 - size
    whole = n + m
    spread = math.sqrt(n * m / 12 * (whole + 1 - ties / (whole * (whole - 1))))
    return 1.0 - z_cdf((u - n * m / 2) / spread) if spread else 1.0


def z_cdf(value: float) -> float:
    """The normal distribution."""
    return 0.5 * math.erfc(-value / math.sqrt(2))


#: What a change does to one request: db_calls, model_calls, embedding_calls, input and output tokens.
CHANGES: Mapping[str, Callable[[Sequence[float]], tuple[float, ...]]] = {
    "unchanged": lambda row: (0, 0, 0, 0, 0),
    "one added query": lambda row: (1, 0, 0, 0, 0),
    "one added embedding call": lambda row: (0, 0, 1, 0, 0),
    "+10 % tokens per request": lambda row: (0, 0, 0, 0.1 * row[5], 0.1 * row[6]),
}


def changed(replay: Replay, route: str, change: str) -> Replay:
    """The replay as it would be with the change in one route."""
    rows = [
        [*row[:2], *(value + more for value, more in zip(row[2:], CHANGES[change](row), strict=True))]
        for row in replay[route]
    ]
    return {**replay, route: rows}


def replay_trials(
    replays: Sequence[Replay], change: str, *, trials: int, seed: object, budget: Callable[[Replay], Budget]
) -> int:
    """Of so many pairs of real replays, the second changed in one route: how many the gate fails."""
    dice, failed = random.Random(f"{seed}:{change}"), 0
    for _ in range(trials):
        before, after = dice.sample(range(len(replays)), 2)
        eligible = [
            route
            for route, rows in replays[after].items()
            if "(no route)" not in route
            and (change != "+10 % tokens per request" or sum(row[5] for row in rows) > 0)
        ]
        found = changed(replays[after], dice.choice(eligible), change)
        judged = check(
            budget(replays[before]), report_of(found, "after"), report_of(replays[before], "before")
        )
        failed += judged.state == "fail"
    return failed
