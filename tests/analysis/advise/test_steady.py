"""Steady reads and responses: what never changes is found once, what is written or changes is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter_analysis.advise.output import as_markdown
from tests.analysis.advise.plants import HOTEL, RATE, advice, found, n_plus_one, read, steady
from tests.analysis.stores import Builder


def test_a_response_that_never_changes_could_be_remembered(tmp_path: Path) -> None:
    build = Builder()
    steady(build)
    (finding,) = found(build, tmp_path, "steady_response", "steady_read")
    assert finding.kind == "steady_response"  # one finding, not one more for its only statement
    assert finding.savings["db_calls"].value == 57  # 60 within a minute, 3 different


@pytest.mark.parametrize("twin", [{"written": True}, {"changing": True}])
def test_what_is_written_or_changes_is_not_to_be_remembered(tmp_path: Path, twin: dict[str, bool]) -> None:
    build = Builder()
    steady(build, **twin)
    assert not found(build, tmp_path, "steady_response", "steady_read")


def test_what_runs_beside_another_call_saves_its_calls_and_no_time(tmp_path: Path) -> None:
    build = Builder()
    for number in range(60):
        request = build.request("/hotel", number * 500, 60)
        key = f"s{number % 3}"
        read(build, request, 1, 8, HOTEL, given=(key,), returned=(f"a{number % 3}",), db_rows=1)
        read(build, request, 1, 50, RATE, given=(key,), returned=(f"r{number}",), db_rows=1)
    (finding,) = found(build, tmp_path, "steady_read")
    assert finding.savings["db_calls"].value == 57
    assert finding.savings["duration_s"].value == 0


def test_small_steady_reads_are_one_finding_together(tmp_path: Path) -> None:
    """Three statements, each too little by itself."""
    build = Builder()
    for number in range(600):
        request = build.request("/stay", number * 50, 100)
        read(build, request, 1, 8, RATE, given=(f"g{number}",), returned=(f"r{number}",), db_rows=1)
        for table in range(3 if number % 25 == 0 else 0):
            statement = f"SELECT * FROM static{table} WHERE id = %s"
            read(build, request, 10 + 10 * table, 8, statement, given=("s",), returned=("a",), db_rows=1)
    (finding,) = found(build, tmp_path, "steady_read")
    assert len(finding.statements) == 3
    assert finding.savings["db_calls"].value == 3 * 23


def test_the_statement_of_a_loop_is_no_steady_read_as_well(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build)
    assert [each.kind for each in advice(build, tmp_path).findings if RATE in each.statements] == [
        "n_plus_one"
    ]


@pytest.mark.parametrize(("share", "said"), [(0.3, True), (0.004, False)])
def test_what_saves_too_little_is_left_out_and_counted(tmp_path: Path, share: float, said: bool) -> None:
    """A read that never changes, beside many that do."""
    build = Builder()
    for number in range(1000):
        request = build.request("/stay", number * 50, 100)
        if number < share * 1000 or number < 40:
            read(build, request, 1, 8, HOTEL, given=(f"s{number % 3}",), returned=("a",), db_rows=1)
        read(build, request, 10, 80, RATE, given=(f"g{number}",), returned=(f"r{number}",), db_rows=1)
    result = advice(build, tmp_path)
    assert [each.kind for each in result.findings] == ["steady_read"] * said
    assert [each.kind for each in result.small] == ["steady_read"] * (not said)
    assert ("in the JSON alone" in as_markdown(result)) is not said
