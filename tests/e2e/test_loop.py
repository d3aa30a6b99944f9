"""The closed loop in small: advise on a real run, apply one fix, and find what was predicted."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from examples.demo.books import Row as BookRow
from examples.hotel_chat.flags import FLAGS, SHARED
from examples.loop.effects import Effect
from examples.loop.fixes import FIXES, FURTHER, TRIAL, assign, unadvised, whole_plan
from examples.loop.goals import Goal, Texts, goals
from examples.loop.items import AREAS, ITEMS
from examples.loop.judge import Row, judge, summary, touching, without
from examples.loop.measure import Load, Run, Timed, names_of, run
from examples.loop.pages import write_pages
from examples.loop.result import Result
from taximeter_analysis import open_store
from taximeter_analysis.advise import Advice, Estimate, advise
from taximeter_analysis.advise.material import read

LOAD = Load(duration_s=6, rate=12, guests=20, latency_scale=0.1, distance_ms=1, scale="small")
FLAG = "fix.batch_reservations"


@pytest.mark.e2e
def test_a_predicted_saving_of_calls_is_what_the_fix_saves(tmp_path: Path) -> None:
    # Counts alone are judged, so that the two may run side by side.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(run, LOAD, flags, tmp_path / (flags or ("none",))[0]) for flags in ((), (FLAG,))]
        before, after = (each.result() for each in runs)
    with open_store(before.store) as store:
        by_flag, _ = assign(advise(store).findings)
        touched = touching(read(store), names_of(before.store))
    assert [str(row) for each in (before, after) for row in each.books if not row.balanced] == []
    calls = next(
        row for row in judge(FLAG, by_flag[FLAG], [before], after, touched) if row.metric == "db_calls"
    )
    assert calls.inside
    assert calls.measured == calls.predicted.value == before.total("db_calls") - after.total("db_calls")
    assert set(before.times) == set(after.times)  # each request has the same name in both
    listed = {name for name, each in before.times.items() if each.label == by_flag[FLAG][0].route}
    assert touched(by_flag[FLAG][0]) == listed
    assert before.total("cost_usd") == pytest.approx(after.total("cost_usd"), rel=1e-4)  # the same guests


def test_errors_and_bounds_are_told_as_they_are() -> None:
    def row(measured: float, ceiling: bool = False) -> Row:
        return Row("fix.x", ("k",), 1, "db_calls", Estimate(100, 80, 110), measured, 500, ceiling)

    rows = [row(100), row(80), row(50), row(0, ceiling=True)]
    assert [each.inside for each in rows] == [True, True, False, False]
    assert [each.error for each in rows] == [0.0, 0.25, 1.0, None]
    found = summary(rows)
    assert (found["median_error"], found["inside"], found["expectations"]) == (0.25, 0.5, 3)


def _run(order: int = 0, seconds: float = 0.1, **sums: float) -> Run:
    times = {f"g{n}-0": Timed("GET /a", seconds, seconds, seconds / 2, seconds / 4) for n in range(10)}
    books = [BookRow("requests", "spans", 10, 10, True)]
    return Run((), Path(), {"GET /a": {"requests": 10.0, **sums}}, times, 1, 4, 0.02, {}, books, order)


def test_a_slower_machine_is_told_from_a_fix_by_the_baselines_around_it() -> None:
    baselines = [_run(0, 0.1), _run(4, 0.2)]
    assert without(baselines, _run(1), lambda each: each.times["g1-0"].duration_s) == pytest.approx(0.125)
    assert without(baselines, _run(9), lambda each: each.times["g1-0"].duration_s) == pytest.approx(0.2)
    assert without(baselines[1:], _run(1), lambda each: each.times["g1-0"].duration_s) == pytest.approx(0.2)


def test_a_row_of_the_success_table_says_who_reached_it_and_how_far_it_could_go() -> None:
    before = _run(db_calls=100, embedding_calls=50, cost_usd=0.04, input_tokens=900)
    advised = _run(seconds=0.05, db_calls=60, embedding_calls=40, cost_usd=0.03, input_tokens=400)
    whole = _run(seconds=0.04, db_calls=50, embedding_calls=20, cost_usd=0.02, input_tokens=300)
    table = {each.what: each for each in goals(before, advised, whole, Texts(0.6, 60))}
    reached = {what: each.reached for what, each in table.items()}
    assert reached["P50 of all requests"] == reached["database queries"] == "advised"
    assert reached["embedding calls"] == reached["cost"] == "plan"
    assert reached["embedding cache hit rate"] == ""
    assert "reaches 60% at most" in table["embedding cache hit rate"].ceiling
    assert "models alone take 0.01 s" in table["P50 of all requests"].ceiling
    assert "24 texts come for the first time" in table["embedding calls"].ceiling
    assert "-52% at most" in table["embedding calls"].ceiling
    assert "cost 50% of the baseline's money" in table["cost"].ceiling


def test_the_plans_documents_are_written_from_the_figures(tmp_path: Path) -> None:
    row = Row("fix.hotel_cache", ("steady_read",), 1, "db_calls", Estimate(100, 80, 110), 95, 500, False)
    goal = Goal("database queries", 100, 60, 50, -0.3, "count", "as far as it goes")
    effect = Effect("fix.stats_query", "queries a request for statistics", "db_calls", 4, 2)
    advice = Advice((), 10, 0, 60.0, {}, ())
    runs = {"baseline": _run(db_calls=30)}
    result = Result([row], [goal], [effect], runs, advice, ("fix.routing",))
    paths = write_pages(tmp_path / "docs", Load(), result)
    assert sorted(path.name for path in paths) == [
        "AI_COST_OPTIMIZATION.md", "API_OPTIMIZATION.md", "COMPLETION_SUMMARY.md", "DATABASE_OPTIMIZATION.md",
        "MONITORING_GUIDE.md",
    ]  # fmt: skip
    texts = {path.stem: path.read_text() for path in paths}
    database, summed = texts["DATABASE_OPTIMIZATION"], texts["COMPLETION_SUMMARY"]
    assert "| steady_read (1) | database calls | 100 | 80 to 110 | 95 | yes |" in database
    assert "| queries a request for statistics | 4.0 | 2.0 | -50% |" in database
    assert "| database queries | 100 | 60 | -40% | 50 | -50% | -30% | yes | as far as it goes |" in summed
    assert "| baseline | 100 ms | 100 ms | 3.0 | 25% |" in texts["MONITORING_GUIDE"]
    assert "for want of time" in texts["AI_COST_OPTIMIZATION"].partition("## `fix.routing`")[2]
    for item in ITEMS:
        assert f"## `{item.flag}`" in texts[item.page]
        assert f"[{item.page}]({item.page}.md#{item.flag.replace('.', '')})" in summed


def test_every_task_of_the_plan_has_a_flag_and_every_flag_a_task() -> None:
    fixes = {name for name in FLAGS if name.startswith("fix.")}
    assert {item.flag for item in ITEMS} == fixes
    assert {item.page for item in ITEMS} == set(AREAS)
    assert set(FIXES) | set(FURTHER) <= fixes
    assert set(whole_plan(redis=True)) == fixes - {TRIAL}
    assert set(whole_plan(redis=False)) == fixes - {TRIAL} - SHARED
    assert TRIAL in unadvised({}, redis=False)
    assert not set(unadvised(FIXES, redis=True)) & set(FIXES)
