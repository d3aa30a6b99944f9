"""Several reports a side: latency is judged by run, counts over all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter_analysis import Report, render
from taximeter_analysis.assembled import assemble
from taximeter_analysis.budget.check import check
from taximeter_analysis.budget.loader import parse_budget
from taximeter_analysis.budget.model import Budget
from taximeter_analysis.budget.result import Line
from taximeter_cli.main import main
from tests.analysis.budget.test_check import durations, judged

BUDGET = "version: 1\ndefaults: {latency_p95: {max_increase: 0}}"
NOT_SLOWER = parse_budget(BUDGET)


def line_of(
    budget: Budget, found: list[Report], before: list[Report] | None = None, *, paired: bool = False
) -> Line:
    [line] = check(budget, found, before, paired=paired).lines
    return line


def run(took_ms: list[float], db_calls: int = 0) -> Report:
    """A report of requests of so many milliseconds."""
    rows = [(took / 1000, 0, db_calls) for took in took_ms]
    return assemble("run", {"GET /a": rows}, service="hotel", counts=("db_calls",), until=60.0)


def side(seed: int, factors: list[float]) -> list[Report]:
    """One run a factor, all of its requests that much slower."""
    return [run(durations(80, seed + turn, factor)) for turn, factor in enumerate(factors)]


def test_a_change_that_every_run_shows_is_broken_and_one_slow_run_is_not() -> None:
    before = side(10, [1.0] * 5)
    slower = line_of(NOT_SLOWER, side(20, [1.6] * 5), before)
    assert (slower.state, slower.count, slower.counted) == ("fail", 5, "runs")
    assert slower.baseline is not None
    assert slower.low is not None
    assert slower.low > 1
    # Over all requests this would be beyond chance; it is one minute of one run.
    outlier = line_of(NOT_SLOWER, side(30, [1.0, 1.0, 1.0, 1.0, 3.0]), before)
    assert outlier.state == "pass"


def test_interleaved_runs_are_held_against_their_neighbours() -> None:
    """What the machine did in that minute happened to both."""
    minutes = [1.0, 3.0, 1.2, 2.5, 0.8, 2.0]
    before = side(10, minutes)
    after = side(10, [1.3 * minute for minute in minutes])
    assert line_of(NOT_SLOWER, after, before).state == "pass"
    assert line_of(NOT_SLOWER, after, before, paired=True).state == "fail"
    allowed = parse_budget("version: 1\ndefaults: {latency_p95: {max_increase: 50%}}")
    assert line_of(allowed, after, before, paired=True).state == "pass"


def test_an_absolute_limit_by_run() -> None:
    runs = side(10, [1.0] * 5)
    assert line_of(parse_budget("version: 1\ndefaults: {latency_p95: 100ms}"), runs).state == "fail"
    kept = line_of(parse_budget("version: 1\ndefaults: {latency_p95: 1s}"), runs)
    assert (kept.state, kept.counted) == ("pass", "runs")
    few = [run(durations(5, seed)) for seed in range(3)]
    assert line_of(parse_budget("version: 1\ndefaults: {latency_p95: 1s}"), few).needs == 20


def test_counts_and_failures_are_those_of_all_runs() -> None:
    runs = [run([10] * 10, db_calls=calls) for calls in (2, 4)]
    over = line_of(parse_budget("version: 1\ndefaults: {db_calls: 2.9}"), runs)
    assert (over.state, over.measured, over.count) == ("fail", 3.0, 20)


def test_one_report_is_judged_as_ever() -> None:
    one = run(durations(300))
    limits = "defaults: {latency_p95: 170ms, db_calls: 1}"
    assert check(parse_budget(f"version: 1\n{limits}"), [one]) == judged(one, limits)


def test_the_command_takes_patterns_and_says_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, factor in (("A", 1.0), ("B", 1.6)):
        for number, each in enumerate(side(10, [factor] * 4), start=1):
            Path(f"{name}-{number}.json").write_text(render.json(each), encoding="utf-8")
    Path("budget.yaml").write_text(BUDGET, encoding="utf-8")
    sides = ["--report", "B-*.json", "--baseline", "A-*.json"]
    assert main(["budget", "check", *sides, "--paired"]) == 1
    assert "beyond the limit, not by chance" in " ".join(capsys.readouterr().out.split())
    assert main(["budget", "check", "--report", "B-*.json", "--baseline", "A-1.json"]) == 2
    assert "1 run(s) as baseline against 4" in capsys.readouterr().err
    assert (
        main(["budget", "check", "--report", "B-*.json", "--baseline", "A-1.json,A-2.json", "--paired"]) == 2
    )
    assert "--paired goes run by run" in capsys.readouterr().err
    assert main(["budget", "suggest", "--report", "B-*.json"]) == 2
    assert "from one report" in capsys.readouterr().err
