"""Verdicts of a comparison on runs whose truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from benchmarks.recorded import Replay, latency_report, report_of
from taximeter_analysis import Report
from taximeter_analysis.compare import Comparison, Figure, Target, compare
from taximeter_analysis.inference import shifts
from taximeter_analysis.inference.means import mean_of

Rows = list[list[int]]


def rows(count: int, seed: int, *, scale: float = 1.0, queries: int = 4, embed: float = 0.5) -> Rows:
    """Requests of lognormal durations with a fixed number of queries and some embedding calls."""
    dice = random.Random(seed)
    return [
        [
            round(1e5 * scale * dice.lognormvariate(0, 0.6)),
            0,
            queries,
            1,
            int(dice.random() < embed),
            1000,
            100,
        ]
        for _ in range(count)
    ]


def figure(found: Comparison, name: str, route: str | None = None) -> Figure:
    subject = found.total if route is None else next(item for item in found.routes if item.label == route)
    return next(item for item in subject.figures if item.name == name)


def target(found: Comparison, name: str) -> Target:
    return next(item for item in found.targets if item.name == name)


def both(before: Replay, after: Replay, **options: float) -> Comparison:
    return compare([report_of(before)], [report_of(after)], **options)  # type: ignore[arg-type]


def test_better_worse_same_and_not_enough() -> None:
    before = {
        "GET /a": rows(2000, 1),
        "GET /b": rows(2000, 2),
        "GET /c": rows(50, 3),
        "GET /d": rows(9000, 4),
    }
    after = {
        "GET /a": rows(2000, 5, scale=0.6, queries=2),
        "GET /b": rows(2000, 6, scale=1.5, queries=5),
        "GET /c": rows(50, 7),
        "GET /d": rows(9000, 8),
    }
    found = both(before, after)
    assert [figure(found, "latency_p95", f"GET /{name}").verdict for name in "abcd"] == [
        "better", "worse", "not enough data", "same",
    ]  # fmt: skip
    assert [figure(found, "db_calls", f"GET /{name}").verdict for name in "abc"] == [
        "better",
        "worse",
        "same",
    ]
    few = figure(found, "latency_p95", "GET /c")
    assert (few.count, few.counted, few.needs) == (50, "requests", 59)
    better = figure(found, "latency_p95", "GET /a")
    assert better.low is not None
    assert better.high is not None
    assert better.change == pytest.approx(-0.4, abs=0.1)
    assert better.low < -0.4 < better.high


def test_unchanged_builds_of_many_routes_are_rarely_called_changed() -> None:
    dice, called = random.Random(9), 0
    for _ in range(40):
        sides = [
            {f"GET /{n}": sorted(dice.lognormvariate(0, 0.8) for _ in range(150)) for n in range(15)}
            for _ in range(2)
        ]
        found = compare(*([latency_report(side, "x")] for side in sides))
        called += any(item.verdict in ("worse", "better") for route in found.routes for item in route.figures)
    assert called <= 6  # 5 % of 40, and the chance of more


def test_the_plans_targets_are_reached_not_reached_or_not_certain() -> None:
    before = {"GET /a": rows(1000, 1)}
    reached = both(before, {"GET /a": rows(1000, 2, scale=0.5, queries=2, embed=0.1)})
    assert {item.name: item.met for item in reached.targets} == {
        "latency_p50": "reached",
        "latency_p95": "reached",
        "db_calls": "reached",
        "embedding_calls": "reached",
        "cache_hit_rate": "not certain",  # nobody looked anything up
        "cost": "not certain",  # nothing was priced
        "tokens": "not reached",
    }
    close = both(before, {"GET /a": rows(1000, 2, scale=0.6)})
    assert target(close, "latency_p50").met == "not certain"
    assert [item.target for item in reached.targets] == [-0.4, -0.35, -0.3, -0.5, 0.8, -0.5, -0.25]


@pytest.mark.parametrize(("hits", "met"), [(900, "reached"), (700, "not reached"), (805, "not certain")])
def test_the_hit_rate_is_held_against_80_percent(hits: int, met: str) -> None:
    bare = report_of({"GET /a": rows(1000, 1)})
    found = replace(bare, totals=replace(bare.totals, cache_lookups=1000, cache_hits=hits))
    assert target(compare([bare], [found]), "cache_hit_rate").met == met


def drifting(side: float, seed: int, count: int = 6) -> list[Report]:
    """Interleaved blocks: each minute the machine is faster or slower for both sides alike."""
    minutes = random.Random(1)
    return [
        report_of({"GET /a": rows(200, seed + n, scale=side * math.exp(minutes.gauss(0, 0.4)))})
        for n in range(count)
    ]


def test_blocks_are_the_unit_and_pairs_take_out_the_machines_minutes() -> None:
    before, after = drifting(1.0, 100), drifting(1.3, 200)
    apart, paired = compare(before, after), compare(before, after, paired=True)
    loose, tight = figure(apart, "latency_p95"), figure(paired, "latency_p95")
    assert (loose.verdict, tight.verdict) == ("not enough data", "worse")
    assert (loose.count, loose.counted) == (6, "runs")
    assert tight.low is not None
    assert tight.high is not None
    assert tight.low < 0.3 < tight.high


def test_runs_must_match() -> None:
    one = report_of({"GET /a": rows(10, 1)})
    with pytest.raises(ValueError, match=r"1 run\(s\) against 2"):
        compare([one], [one, one])
    with pytest.raises(ValueError, match=r"0 run\(s\) against 1"):
        compare([], [one])
    with pytest.raises(ValueError, match="run by run, and there are 3 and 2"):
        compare([one] * 3, [one] * 2, paired=True)


def test_new_and_vanished_routes_and_another_mix_are_told() -> None:
    found = both(
        {"GET /a": rows(100, 1), "GET /b": rows(100, 2)}, {"GET /a": rows(100, 3), "GET /c": rows(9, 4)}
    )
    assert (found.only_before, found.only_after) == (("GET /b",), ("GET /c",))
    assert [note[:22] for note in found.notes] == ["50% of the requests we"]


def test_errors_are_compared_exactly() -> None:
    found = shifts.of_failures([(0, 500)], [(9, 500)])
    assert isinstance(found, shifts.Shift)
    assert found.p_not_higher == pytest.approx(0.5**9)
    assert shifts.of_failures([(0, 50)], [(0, 50)]) == shifts.Shift(
        0, 0, None, None, 1.0, 1.0, None, 50, "requests"
    )
    # one bad minute is no property of the build
    outage = shifts.of_failures([(0, 100)] * 6, [(9, 100), *[(0, 100)] * 5])
    assert isinstance(outage, shifts.Shift)
    assert outage.p_not_higher > 0.1


def coverage(bound: Callable[[Sequence[float], Sequence[float]], bool]) -> float:
    dice, right, times = random.Random(4), 0, 400
    for _ in range(times):
        right += bound(*([dice.gauss(10, 1) for _ in range(6)] for _ in range(2)))
    return right / times


def test_bounds_over_six_runs_hold_as_often_as_they_say() -> None:
    def holds(before: Sequence[float], after: Sequence[float]) -> bool:
        found = shifts.of_means([mean_of([x, x]) for x in before], [mean_of([x, x]) for x in after])
        assert isinstance(found, shifts.Shift)
        assert found.high is not None
        return found.high >= 1.0

    assert 0.92 <= coverage(holds) <= 0.98
