"""The benchmark judges itself: a target that is missed is printed as missed. And a request stays cheap."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.agent.counted import count
from benchmarks.agent.report import Reading, render
from benchmarks.agent.variants import VARIANTS

ROUTES = {"json": 200.0}


def reading(cpu: float, latency: float) -> Reading:
    made = Reading(start_wall=[1.0], start_cpu=[1.0])
    made.cpu["json"] += [cpu, cpu]
    made.latencies["json"] += [latency] * 100
    made.exported["json"] += [1.0, 1.0]
    return made


def verdicts(ours: Reading) -> list[str]:
    readings = {"plain": reading(100, 0.002), "stock": reading(300, 0.1), "logfire": reading(170, 0.1)}
    text = render({**readings, "taximeter": ours}, ROUTES, 2)
    return [line.split("|")[-2].strip() for line in text.partition("Targets")[2].splitlines()[4:]]


def test_targets_are_judged_by_what_was_read() -> None:
    assert verdicts(reading(160, 0.0025)) == ["holds"] * 3
    assert verdicts(reading(190, 0.0025)) == ["holds", "**does not hold**", "holds"]
    assert verdicts(reading(201, 0.004)) == ["**does not hold**"] * 3


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="Python 3.12 tells of no bytecodes")
@pytest.mark.parametrize(("route", "most"), [("json", 3_500), ("model", 24_000)])
def test_a_request_takes_few_bytecodes(route: str, most: int, tmp_path: Path) -> None:
    """Of stock's some 13,000 and 62,000. The count is exact; Pythons differ by a few in a hundred."""
    (ours,) = (variant for variant in VARIANTS if variant.name == "taximeter")
    counted = count(ours, route, tmp_path)
    assert 0 < counted.bytecodes.total() <= most, counted.bytecodes.most_common(10)
