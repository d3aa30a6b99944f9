"""The benchmark judges itself: a target that is missed is printed as missed."""

from __future__ import annotations

from benchmarks.agent.report import Reading, render

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
