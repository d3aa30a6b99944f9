"""``taximeter budget`` as a user runs it: exit codes and its four outputs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from taximeter_analysis import Report, render
from taximeter_cli.main import main
from tests.analysis.stores import Builder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def budget(capsys: pytest.CaptureFixture[str]) -> Run:
    """``taximeter budget ...`` in this process: exit code, standard output, standard error."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = main(["budget", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def saved(hotel_report: Report, tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(render.json(hotel_report), encoding="utf-8")
    return path


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "budget.yaml"
    path.write_text(f"version: 1\n{text}\n", encoding="utf-8")
    return path


def test_suggest_then_check_in_real_processes(hotel_path: Path, tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "taximeter_cli", "budget", *map(str, arguments)]
        return subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)

    done = run("suggest", "--store", hotel_path, "--output", "budget.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "written: budget.yaml\n", "")
    done = run("check", "--store", hotel_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"Budget kept: all \d+ limits hold\.\n", done.stdout)


def test_exit_codes(budget: Run, saved: Path, tmp_path: Path) -> None:
    def check(text: str, *more: str | Path) -> tuple[int, str]:
        code, _, err = budget("check", "--budget", written(tmp_path, text), "--report", saved, *more)
        return code, err

    assert check("defaults: {db_calls: 100}") == (0, "")
    assert check("defaults: {db_calls: 1}") == (1, "")
    assert check("defaults: {db_calls: 1, latency_p95: 10s}") == (1, "")  # broken outweighs unknown
    assert check("defaults: {latency_p95: 10s}") == (3, "")
    assert check("defaults: {latency_p95: 10s}", "--allow-no-data") == (0, "")
    code, err = check("defaults: {latency_p95: {max_increase: 10%}}")
    assert (code, "--baseline" in err) == (2, True)
    code, err = check("defaults: {db_call: 1}")
    assert (code, "did you mean `db_calls`?" in err) == (2, True)
    code, err = check("defaults: {db_calls: 100}", "--since", "1h")
    assert (code, "--since chooses from a store" in err) == (2, True)
    code, err = check("defaults: {db_calls: 100}", "--junit", tmp_path / "absent" / "x.xml")
    assert (code, "cannot be written" in err) == (1, True)
    assert budget("check", "--budget", tmp_path / "none.yaml")[0] == 2
    assert budget("check", "--nonsense")[0] == 2
    assert budget("check", "--budget", written(tmp_path, ""), "--store", tmp_path / "none")[0] == 2


def test_the_terminal_fits_100_columns_and_names_the_place(budget: Run, saved: Path, tmp_path: Path) -> None:
    text = "defaults: {db_calls: 3, latency_p95: 900ms}\nroutes: [{match: 'GET /nowhere', cost: 1}]"
    code, out, _ = budget("check", "--budget", written(tmp_path, text), "--report", saved)
    assert code == 1
    assert out.startswith("Budget broken: ")
    assert max(map(len, out.splitlines())) <= 100
    assert "BROKEN" in out
    assert "[defaults.db_calls]" in out
    assert "needs n = " in out


def test_json_junit_and_markdown_say_the_same(budget: Run, saved: Path, tmp_path: Path) -> None:
    text = "defaults: {db_calls: 3, latency_p95: 900ms}\nmoney: {per_day: 1}"
    paths = {name: tmp_path / name for name in ("json", "junit", "markdown")}
    options = [word for name, path in paths.items() for word in (f"--{name}", path)]
    code, out, _ = budget(
        "check", "--budget", written(tmp_path, text), "--report", saved, "--format", "json", *options
    )
    outcome = json.loads(out)
    assert (code, outcome["exit_code"], outcome["state"]) == (1, 1, "fail")
    assert json.loads(paths["json"].read_text()) == outcome
    states = [line["state"] for line in outcome["lines"]]

    suite = ElementTree.parse(paths["junit"]).getroot()
    assert suite.get("tests") == str(len(states))
    for attribute, tag, state in (
        ("failures", "failure", "fail"), ("errors", "error", "no_data"), ("skipped", "skipped", "skipped"),
    ):  # fmt: skip
        assert suite.get(attribute) == str(states.count(state)) == str(len(list(suite.iter(tag))))
        assert states.count(state) > 0

    summary = paths["markdown"].read_text()
    assert summary.startswith("### ❌ Budget broken")
    broken = summary.split("<details>")[0]
    assert broken.count("\n| `") == states.count("fail")
    assert f"<summary>Not enough data: {states.count('no_data')}</summary>" in summary


def test_strangers_route_names_stay_names(budget: Run, tmp_path: Path) -> None:
    build = Builder()
    build.request("/a|b`<script>\n# title\x1b[31m\x00", 0, 10, db_calls=3)
    store = build.write(tmp_path / "store")
    junit, markdown = tmp_path / "x.xml", tmp_path / "x.md"
    code, out, _ = budget(
        "check", "--budget", written(tmp_path, "defaults: {db_calls: 1}"), "--store", store,
        "--junit", junit, "--markdown", markdown,
    )  # fmt: skip
    assert code == 1
    assert "\x1b" not in out
    ElementTree.parse(junit)
    [row] = [line for line in markdown.read_text().splitlines() if line.startswith("| `")]
    assert row.count(" | ") == 6
    assert not [line for line in markdown.read_text().splitlines() if line.startswith("# title")]


def test_suggest_overwrites_nothing_unasked(budget: Run, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "budget.yaml"
    path.write_text("mine")
    code, _, err = budget("suggest", "--report", saved, "--output", path)
    assert (code, path.read_text()) == (2, "mine")
    assert "--force" in err
    assert budget("suggest", "--report", saved, "--output", path, "--force")[0] == 0
    assert path.read_text().startswith("# A first budget")
    assert budget("suggest", "--report", saved, "--headroom", "-1")[0] == 2
