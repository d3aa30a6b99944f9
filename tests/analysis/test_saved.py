"""Saved reports come back as they were written; what is none is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Report, render
from taximeter_analysis.saved import NotAReport, load_report
from taximeter_analysis.sources import read_runs
from tests.analysis.conftest import NOW
from tests.analysis.stores import EPOCH_NS, Builder

EPOCH = EPOCH_NS / 1e9


def test_a_report_comes_back_equal(hotel_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(render.json(hotel_report), encoding="utf-8")
    assert load_report(path) == hotel_report


def test_fields_of_others_are_ignored(hotel_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**hotel_report.to_dict(), "books": [1]}), encoding="utf-8")
    assert load_report(path) == hotel_report


def test_what_is_no_report_is_refused_with_the_remedy(hotel_report: Report, tmp_path: Path) -> None:
    good = hotel_report.to_dict()

    def refusal(document: Any) -> str:
        path = tmp_path / "wrong.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        with pytest.raises(NotAReport) as caught:
            load_report(path)
        return str(caught.value).removeprefix(f"{path}: ")

    assert refusal("{").startswith("is no JSON")
    assert refusal([]).startswith("schema_version is None, not 1")
    assert refusal({**good, "schema_version": 9}).startswith("schema_version is 9, not 1")
    assert refusal({**good, "totals": 3}).startswith("$.totals is not an object")
    assert refusal({**good, "store": 3}).startswith("$.store is 3, not a str")
    assert refusal({**good, "error_rate": True}).startswith("$.error_rate is True, not a float")
    assert "lacks ranked" in refusal({name: value for name, value in good.items() if name != "ranked"})
    with pytest.raises(NotAReport, match="cannot be read"):
        load_report(tmp_path / "absent.json")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 s of requests, one a second; version 1.1 from 50 s on."""
    build = Builder()
    for number in range(100):
        version = "1.0" if number < 50 else "1.1"
        build.request("/a", number * 1000, 10, version=version, tenant="t" if number < 10 else "u")
    return build.write(tmp_path_factory.mktemp("versions") / "store")


@pytest.mark.parametrize(
    ("choice", "requests"),
    [
        ("", [100]),
        ("@version=1.1", [50]),
        ("@tenant=t", [10]),
        ("@service=hotel", [100]),
        ("@2027-01-15T08:00:00Z..2027-01-15T08:00:30Z", [30]),
    ],
)
def test_a_part_of_a_store_is_named_after_an_at_sign(
    versions: Path, choice: str, requests: list[int]
) -> None:
    assert [run.totals.requests for run in read_runs(f"{versions}{choice}", NOW)] == requests


def test_several_runs_and_blocks_of_time(versions: Path, hotel_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(render.json(hotel_report), encoding="utf-8")
    assert [run.totals.requests for run in read_runs(f"{path},{versions}", NOW)] == [2000, 100]
    blocks = read_runs(str(versions), NOW, blocks=4)
    assert [run.totals.requests for run in blocks] == [25, 25, 25, 25]


def test_wrong_choices_say_what_to_write(versions: Path, hotel_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(render.json(hotel_report), encoding="utf-8")
    with pytest.raises(ValueError, match=r"write @SINCE\.\.UNTIL, or @version="):
        read_runs(f"{versions}@1.1", NOW)
    with pytest.raises(ValueError, match="a saved report has its window already"):
        read_runs(f"{path}@1h..", NOW)
