"""The closed loop in small: advise on a real run, apply one fix, and find what was predicted."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from examples.demo.books import Row as BookRow
from examples.loop.fixes import FIXES, assign
from examples.loop.judge import Goal, Row, judge, summary
from examples.loop.measure import Load, Run, run
from examples.loop.pages import write_pages
from taximeter_analysis import open_store
from taximeter_analysis.advise import Advice, Estimate, advise

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
    assert [str(row) for each in (before, after) for row in each.books if not row.balanced] == []
    calls = next(row for row in judge(FLAG, by_flag[FLAG], before, after) if row.metric == "db_calls")
    assert calls.inside
    assert calls.measured == calls.predicted.value == before.total("db_calls") - after.total("db_calls")
    assert before.total("cost_usd") == pytest.approx(after.total("cost_usd"), rel=1e-4)  # the same guests


def test_errors_and_bounds_are_told_as_they_are() -> None:
    def row(measured: float, ceiling: bool = False) -> Row:
        return Row("fix.x", ("k",), 1, "db_calls", Estimate(100, 80, 110), measured, 500, ceiling)

    rows = [row(100), row(80), row(50), row(0, ceiling=True)]
    assert [each.inside for each in rows] == [True, True, False, False]
    assert [each.error for each in rows] == [0.0, 0.25, 1.0, None]
    found = summary(rows)
    assert (found["median_error"], found["inside"], found["expectations"]) == (0.25, 0.5, 3)


def test_the_plans_documents_are_written_from_the_figures(tmp_path: Path) -> None:
    run_ = Run(
        (), tmp_path, {"GET /a": {"requests": 10.0, "db_calls": 30.0}}, [0.1] * 10, [0.1] * 10, 1, 4, 0.5,
        [BookRow("requests", "spans", 10, 10, True)],
    )  # fmt: skip
    row = Row("fix.hotel_cache", ("steady_read",), 1, "db_calls", Estimate(100, 80, 110), 95, 500, False)
    goal = Goal("database queries", 100, 60, -0.3, "count")
    advice = Advice((), 10, 0, 60.0, {}, ())
    paths = write_pages(tmp_path / "docs", Load(), [row], [goal], runs={"baseline": run_}, advice=advice)
    assert sorted(path.name for path in paths) == [
        "AI_COST_OPTIMIZATION.md", "API_OPTIMIZATION.md", "COMPLETION_SUMMARY.md", "DATABASE_OPTIMIZATION.md",
        "MONITORING_GUIDE.md",
    ]  # fmt: skip
    texts = {path.stem: path.read_text() for path in paths}
    assert "| steady_read | database calls | 100 | 80 to 110 | 95 | yes |" in texts["DATABASE_OPTIMIZATION"]
    assert "| database queries | 100 | 60 | -40% | -30% | yes |" in texts["COMPLETION_SUMMARY"]
    assert "| baseline | 100 ms | 100 ms | 3.0 | 25% |" in texts["MONITORING_GUIDE"]


def test_every_fix_in_the_table_is_a_flag_of_the_service() -> None:
    from examples.hotel_chat.flags import FLAGS

    assert set(FIXES) <= set(FLAGS)
