"""Slow requests, slow queries, N+1, the waterfall and the projection, on numbers made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Report, open_store, report
from tests.analysis.stores import Builder


def made(build: Builder, path: Path, **options: float) -> Report:
    with open_store(build.write(path / "store")) as store:
        return report(store, **options)  # type: ignore[arg-type]  # slow_s and top, by keyword


def test_slow_requests_are_listed_longest_first(tmp_path: Path) -> None:
    build = Builder()
    for took in (1999.999, 2000, 2500, 9000):
        row = build.request("/a", took, took, tenant="alpenhof", db_calls=1, model_calls=1, cost_usd=0.5)
        build.db(row, 0, 500, "SELECT 1")
        build.model(row, 600, 1000, cost=0.5)
    found = made(build, tmp_path, top=2)
    assert (found.slow.requests_total, found.routes[0].slow_requests) == (3, 3)
    assert [item.duration_s for item in found.slow.requests] == [9.0, 2.5]
    first = found.slow.requests[0]
    assert first.split is not None
    assert (first.split.db_s, first.split.model_s, first.split.other_s) == pytest.approx((0.5, 1.0, 7.5))
    assert (first.tenant, first.db_calls, first.model_calls, first.cost_usd) == ("alpenhof", 1, 1, 0.5)
    last = build.requests[-1]
    assert first.trace_id == f"{last['trace_hi']:016x}{last['trace_lo']:016x}"
    assert len(first.trace_id) == 32


def test_slow_queries_name_their_route(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 5000)
    build.db(row, 0, 1900, "SELECT fast")
    slow = build.db(row, 2000, 2100, "SELECT slow", db_rows=12)
    build.db(None, 0, 3000, "VACUUM")
    found = made(build, tmp_path).slow
    assert found.queries_total == 2
    assert [(item.statement, item.label, item.rows) for item in found.queries] == [
        ("VACUUM", None, None),
        ("SELECT slow", "GET /a", 12),
    ]
    assert found.queries[1].span_id == f"{slow['span_id']:016x}"
    assert found.queries[1].duration_s == 2.1


def test_the_slow_threshold_can_be_moved(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 100)
    build.db(row, 0, 60, "SELECT 1")
    found = made(build, tmp_path, slow_s=0.05).slow
    assert (found.threshold_s, found.requests_total, found.queries_total) == (0.05, 1, 1)


def test_n_plus_one_counts_repeats_within_one_request(tmp_path: Path) -> None:
    build = Builder()
    for repeats in (4, 5, 7, 20):
        row = build.request("/rooms", repeats * 1000, 500)
        for number in range(repeats):
            build.db(row, number * 10, 2, "SELECT * FROM photos WHERE room = %s")
        build.db(row, 400, 50, "SELECT * FROM rooms")
    worst = build.requests[-1]
    # Ten requests with one call each are ten calls, but no N+1.
    for number in range(10):
        build.db(build.request("/other", number, 5), 1, 1, "SELECT * FROM photos WHERE room = %s")
    found = made(build, tmp_path).repeated
    assert (found.min_repeats, found.total) == (5, 1)
    item = found.shown[0]
    assert (item.label, item.statement) == ("GET /rooms", "SELECT * FROM photos WHERE room = %s")
    assert (item.requests, item.repeats_median, item.repeats_max, item.calls) == (3, 7, 20, 32)
    assert item.total_time_s == pytest.approx(0.064)
    assert item.time_per_request_s == pytest.approx(0.064 / 3)
    assert item.trace_id == f"{worst['trace_hi']:016x}{worst['trace_lo']:016x}"


def test_n_plus_one_falls_back_to_the_summary_and_orders_by_time(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 500)
    for number in range(6):
        build.db(row, number, 1, "SELECT quick")
        build.db(row, 100 + number * 9, 8, "SELECT", db_statement=None, db_summary="SELECT guests")
    found = made(build, tmp_path, top=1).repeated
    assert found.total == 2
    assert [item.statement for item in found.shown] == ["SELECT guests"]


def test_waterfall_of_the_slowest_request(tmp_path: Path) -> None:
    build = Builder()
    build.request("/quick", 0, 5)
    row = build.request("/slow", 100, 1000)
    step = build.span(row, 10, 800, name="answer", kind="internal")
    build.model(row, 200, 500, parent_id=step["span_id"], status="error")
    build.db(row, 20, 100, "SELECT 1", parent_id=step["span_id"])
    build.span(row, 900, 50, name="notify")
    fall = made(build, tmp_path).slowest
    assert fall is not None
    assert (fall.label, fall.duration_s, fall.spans_total) == ("GET /slow", 1.0, 5)
    assert [(bar.name, bar.group, bar.depth, bar.error) for bar in fall.bars] == [
        ("GET /slow", "request", 0, False),
        ("answer", "other", 1, False),
        ("SELECT", "db", 2, False),
        ("chat gpt-5-mini", "model", 2, True),
        ("notify", "other", 1, False),
    ]
    assert [bar.offset_s for bar in fall.bars] == pytest.approx([0, 0.01, 0.02, 0.2, 0.9])
    assert fall.bars[2].detail == "SELECT 1"


def test_waterfall_survives_lost_and_circular_parents(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 100, parent_id=987654321)
    first = build.span(row, 1, 5, name="one")
    second = build.span(row, 2, 5, name="two", parent_id=first["span_id"])
    first["parent_id"] = second["span_id"]
    for number in range(300):
        build.span(row, 10 + number / 10, 1, name="many", parent_id=555_000_000 + number)
    fall = made(build, tmp_path).slowest
    assert fall is not None
    assert (fall.spans_total, len(fall.bars)) == (303, 200)


def spending(seconds: float, cost: float | None, **row: Any) -> Builder:
    build = Builder()
    build.request("/a", 0, 1, cost_usd=cost, **row)
    build.request("/a", seconds * 1000 - 1, 1, cost_usd=cost, **row)
    return build


def test_projection_is_cost_over_time_times_thirty_days(tmp_path: Path) -> None:
    found = made(spending(72, 0.25), tmp_path).projection
    assert found.monthly_usd == pytest.approx(0.5 / 72 * 2_592_000)
    assert found.reason is None
    assert "day and night" in found.caveats[0]
    assert "72 s were observed" in found.caveats[1]


def test_projection_refuses_too_short_a_window(tmp_path: Path) -> None:
    found = made(spending(12, 0.25), tmp_path).projection
    assert (found.monthly_usd, found.caveats) == (None, ())
    assert found.reason == "only 12.0 s were observed; at least 30 s are needed"


def test_projection_says_when_money_is_missing(tmp_path: Path) -> None:
    found = made(spending(90_000, 0.25, unpriced_calls=3), tmp_path)
    assert "6 call(s) have no price: the true figure is higher" in found.projection.caveats
    assert any("less than a week" in caveat for caveat in found.projection.caveats)
    assert any("6 model call(s) have no price" in note for note in found.notes)


def test_projection_of_unpriced_traffic_is_not_zero(tmp_path: Path) -> None:
    found = made(spending(90, None), tmp_path).projection
    assert (found.monthly_usd, found.reason) == (None, "no model call was priced in this window")
