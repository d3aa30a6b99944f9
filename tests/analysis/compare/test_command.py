"""``taximeter compare`` as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from benchmarks.recorded import report_of
from taximeter_analysis import model_schema, render
from taximeter_analysis.readers.opened import report_from
from taximeter_analysis.sources import _split
from taximeter_cli.main import main
from tests.analysis.compare.test_compute import rows
from tests.analysis.recording import RUN
from tests.analysis.stores import Builder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = main(["compare", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    for side, scale, queries in (("A", 1.0, 4), ("B", 0.5, 2)):
        for number in range(1, 12):
            found = report_of({"GET /a|b": rows(200, number, scale=scale, queries=queries)})
            (tmp_path / f"{side}-{number}.json").write_text(render.json(found), encoding="utf-8")
    return tmp_path


def test_two_saved_reports(compare: Run, saved: Path) -> None:
    code, out, err = compare(saved / "A-1.json", saved / "B-1.json")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert "1 routes in both" in out
    assert "Database queries per request" in out
    assert "Routes that changed" in out


def test_json_is_of_its_schema_and_markdown_a_table(compare: Run, saved: Path) -> None:
    paths = [saved / "A-1.json", saved / "B-1.json"]
    code, out, _ = compare(
        *paths, "--format", "json", "--markdown", saved / "x.md", "--json", saved / "x.json"
    )
    assert code == 0
    assert json.loads((saved / "x.json").read_text()) == json.loads(out)
    jsonschema.validate(json.loads(out), json.loads(model_schema.COMPARE_COMMITTED.read_text()))
    text = (saved / "x.md").read_text()
    assert text.startswith("### 1 routes in both: ")
    assert len({row.count(" | ") for row in text.splitlines() if row.startswith("| `GET")}) == 1


def test_the_committed_schema_has_not_drifted() -> None:
    committed = model_schema.COMPARE_COMMITTED.read_text(encoding="utf-8")
    assert committed == model_schema.compare_text(), "run python -m taximeter_analysis.model_schema"


def test_runs_by_pattern_in_order_of_their_numbers(compare: Run, saved: Path) -> None:
    code, out, _ = compare(saved / "A-*.json", saved / "B-*.json", "--paired", "--format", "json")
    found = json.loads(out)
    assert (code, len(found["before"]), found["paired"]) == (0, 11, True)
    [p95] = [item for item in found["total"]["figures"] if item["name"] == "latency_p95"]
    assert (p95["verdict"], p95["count"], p95["counted"]) == ("better", 11, "runs")
    assert p95["change"] == pytest.approx(-0.5, abs=0.01)  # the same requests, half as long


def test_versions_and_blocks_of_a_store(compare: Run, tmp_path: Path) -> None:
    build = Builder()
    for number in range(600):
        version, took = ("1", 10) if number < 300 else ("2", 30)
        build.request("/a", number * 100, took + number % 7, version=version)
    store = build.write(tmp_path / "store")
    code, out, _ = compare(f"{store}@version=1", f"{store}@version=2", "--format", "json")
    figures = {item["name"]: item["verdict"] for item in json.loads(out)["total"]["figures"]}
    assert (code, figures["latency_p50"], figures["db_calls"]) == (0, "worse", "same")
    code, out, _ = compare(f"{store}@version=1", f"{store}@version=2", "--blocks", "6", "--format", "json")
    assert (code, len(json.loads(out)["before"])) == (0, 6)


def test_wrong_usage_is_one_line(compare: Run, saved: Path) -> None:
    for arguments, code, message in (
        (
            (saved / "none.json", saved / "A-1.json"),
            2,
            "no such file or directory; give a report.json, a span",
        ),
        ((saved / "C-*.json", saved / "A-1.json"), 2, "no such file; check the pattern"),
        ((saved / "A-*.json", saved / "B-1.json"), 2, "11 run(s) against 1"),
        ((saved / "A-1.json", saved / "B-1.json", "--blocks", "1"), 2, "no number of blocks"),
        ((saved / "A-1.json", saved / "B-1.json", "--json", saved / "no" / "x"), 1, "cannot be written"),
    ):
        found, _, err = compare(*arguments)
        assert (found, message in err) == (code, True), err


def test_a_side_may_be_a_file_of_spans(compare: Run, tmp_path: Path) -> None:
    """The same run as a file and as a saved report: not one figure differs. Tempo and Prometheus likewise."""
    source = f"file:{RUN / 'traces.otlp.gz'}"
    saved = tmp_path / "run.json"
    saved.write_text(render.json(report_from(source)), encoding="utf-8")
    code, out, err = compare(source, saved, "--format", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["before"] == [source]
    figures = [item for part in (found["total"], *found["routes"]) for item in part["figures"]]
    assert figures
    assert all(item["before"] == item["after"] for item in figures)
    code, _, err = compare(f"{source}@1h..", saved)
    assert (code, "nothing found" in err) == (2, True)


def test_an_address_may_have_an_at_sign_of_its_own() -> None:
    assert _split("tempo+http://user:pw@host:3200") == ("tempo+http://user:pw@host:3200", "")
    assert _split("tempo+http://user:pw@host:3200@1h..") == ("tempo+http://user:pw@host:3200", "1h..")
    assert _split("file:a@b.json@version=2") == ("file:a@b.json", "version=2")
