"""Statements: loops, repeats, reads in turn and slow ones are found, their silent twins are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.advise.plants import HOTEL, RATE, ROOMS, found, n_plus_one, read, sequence
from tests.analysis.stores import Builder


def test_an_n_plus_one_is_found_with_its_place_and_saving(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build)
    (finding,) = found(build, tmp_path, "n_plus_one", "redundant")
    assert finding.kind == "n_plus_one"
    assert (finding.route, finding.code) == ("GET /rooms", "rooms.py:7 list_rooms")
    assert finding.statements == (RATE,)
    assert "an earlier statement" in finding.what
    calls = finding.savings["db_calls"]
    assert (calls.low, calls.value, calls.high) == (100, 120, 120)  # batched, or joined to the list
    assert finding.savings["duration_s"].holds(20 * 0.026)  # its six calls and what waited for each
    assert finding.tenants == pytest.approx({"a": 0.75, "b": 0.25})


def test_the_same_parameters_are_redundant_and_no_n_plus_one(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build, same=True)
    (finding,) = found(build, tmp_path, "n_plus_one", "redundant")
    assert (finding.kind, finding.savings["db_calls"].value) == ("redundant", 100)


@pytest.mark.parametrize("twin", [{"write": True}, {"wait": True}])
def test_writes_and_loops_that_wait_for_a_model_are_legitimate(tmp_path: Path, twin: dict[str, bool]) -> None:
    build = Builder()
    n_plus_one(build, **twin)
    assert not found(build, tmp_path, "n_plus_one", "redundant")


@pytest.mark.parametrize("values", [True, False])
def test_a_walk_by_keys_is_legitimate(tmp_path: Path, values: bool) -> None:
    """Told by single values where they are recorded, else by the agent from the second step on."""
    build = Builder()
    for number in range(10):
        request = build.request("/pages", number * 1000, 100)
        for page in range(8):
            key, following = f"c{number}-{page}", f"c{number}-{page + 1}"
            row: dict[str, Any] = {"given": (key,), "returned": (following,)}
            if not values:
                walks = {"taximeter.db.walks": "true"} if page > 1 else {}
                row = {"db_parameters": key, "attributes": walks}
            read(build, request, page * 10, 4, RATE, db_rows=1, **row)
    assert not found(build, tmp_path, "n_plus_one", "redundant")


def test_independent_reads_could_run_at_once(tmp_path: Path) -> None:
    build = Builder()
    sequence(build)
    (finding,) = found(build, tmp_path, "parallel")
    assert finding.statements == (ROOMS, RATE)
    assert finding.savings["duration_s"].value == pytest.approx(30 * 0.017)  # with the 2 ms between them
    assert finding.quantiles["p50"] == pytest.approx((0.060, 0.043))
    assert finding.quantiles["p95"] == pytest.approx((0.060, 0.043))


@pytest.mark.parametrize("twin", ["feed", "computed", "check", "transaction", "condition", "begun"])
def test_reads_that_need_an_answer_or_a_check_are_left_in_turn(tmp_path: Path, twin: str) -> None:
    build = Builder()
    sequence(build, **{twin: True})
    assert not found(build, tmp_path, "parallel")


@pytest.mark.parametrize(("took", "findings"), [(400, 1), (9, 0)])
def test_a_statement_far_slower_than_the_others(tmp_path: Path, took: float, findings: int) -> None:
    build = Builder()
    for number in range(20):
        build.db(build.request("/a", number * 1000, 10), 1, 3, HOTEL)
    for number in range(5):
        build.db(build.request("/report", number * 1000, took + 5), 1, took, "SELECT count(*) FROM nights")
    slow = found(build, tmp_path, "slow_statement")
    assert len(slow) == findings
    if slow:
        assert slow[0].savings["duration_s"].holds(5 * 0.397)
