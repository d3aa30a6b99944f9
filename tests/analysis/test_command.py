"""``taximeter report`` as a user runs it: a real process, its exit code, its two outputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Report, model_schema
from taximeter_cli.main import main
from tests.analysis.stores import Builder, hotel


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Here = Callable[..., Done]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    """The same command line within this process: quick, for what no process boundary can change."""

    def call(*arguments: str | Path) -> Done:
        try:
            code = main(["report", *map(str, arguments)])
        except SystemExit as stop:  # argparse's way out
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return Done(code, output.out, output.err)

    return call


def run(*arguments: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("COLUMNS", "NO_COLOR", "TAXIMETER_STORE")
    }
    return subprocess.run(
        [sys.executable, "-m", "taximeter_cli", "report", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment, **env},
        timeout=60,
        check=False,
    )


def test_terminal_report_fits_100_columns_into_a_pipe(hotel_path: Path) -> None:
    done = run("--store", hotel_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    for title in (
        "What stands out", "Routes: time", "Routes: models and money", "Slow requests", "Slow queries",
        "Worst N+1", "Cost by tenant", "Cost by model", "Totals", "Projected per month",
    ):  # fmt: skip
        assert title in done.stdout
    chat = [line for line in done.stdout.splitlines() if line.startswith("POST /hotels/{hotel}/chat ")]
    assert len(chat) == 2  # one line a table, never wrapped
    assert len(re.findall(r"\d (?:ms|s)\b", chat[0])) == 4  # P50, P95, its bounds, P99


def test_74_routes_stay_one_line_each(tmp_path: Path, here: Here) -> None:
    path = hotel(seed=3, requests=1500, routes=74).write(tmp_path / "store")
    done = here("--store", path, "--format", "json")
    routes = json.loads(done.stdout)["routes"]
    assert len(routes) >= 74
    done = here("--store", path)
    lines = done.stdout.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("Routes: time"))
    assert [line[:6] for line in lines[begin + 3 : begin + 3 + len(routes)]] == [
        route["label"][:6] for route in routes
    ]
    assert max(map(len, lines)) <= 100


def test_json_on_standard_output_is_the_documented_schema(hotel_path: Path, hotel_report: Report) -> None:
    done = run("--store", hotel_path, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert next(iter(found)) == "schema_version"
    assert found["schema_version"] == 1
    assert found["totals"]["requests"] == hotel_report.totals.requests
    assert problems(found, model_schema.schema(), model_schema.schema()) == []


def test_the_committed_schema_is_the_codes() -> None:
    assert model_schema.COMMITTED.read_text(encoding="utf-8") == model_schema.text(), (
        "run: python -m taximeter_analysis.model_schema"
    )


KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def problems(value: Any, rule: dict[str, Any], root: dict[str, Any], where: str = "$") -> list[str]:
    """A checker for the part of JSON Schema that ours uses."""
    if "$ref" in rule:
        rule = root["$defs"][rule["$ref"].rsplit("/", 1)[-1]]
    if "const" in rule:
        return [] if value == rule["const"] else [f"{where}: {value!r} is not {rule['const']!r}"]
    if "anyOf" in rule:
        tries = [problems(value, option, root, where) for option in rule["anyOf"]]
        return min(tries, key=len)
    names = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    if not any(isinstance(value, KINDS[name]) and (name == "boolean" or value is not True) for name in names):
        return [f"{where}: {value!r} is not {names}"]
    found = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += problems(item, rule["items"], root, f"{where}[{index}]")
    if isinstance(value, dict):
        found += [f"{where}: {name} is missing" for name in rule["required"] if name not in value]
        found += [f"{where}: {name} is not in the schema" for name in value if name not in rule["properties"]]
        for name, item in value.items():
            found += problems(item, rule["properties"].get(name, {"type": []}), root, f"{where}.{name}")
    return found


def test_files_are_written(hotel_path: Path, tmp_path: Path) -> None:
    done = run("--store", hotel_path, "--json", "r.json", "--html", "r.html", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("written: r.json, r.html")
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["totals"]["requests"] == 2000
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_store_may_come_from_the_environment(hotel_path: Path, tmp_path: Path) -> None:
    assert run(cwd=tmp_path, TAXIMETER_STORE=str(hotel_path)).returncode == 0
    done = run(cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "taximeter-data/store: no such directory" in done.stderr


def test_slow_and_filters_reach_the_report(hotel_path: Path, here: Here) -> None:
    done = here(
        "--store", hotel_path, "--slow", "500ms", "--tenant", "seeblick", "--top", "3", "--format", "json"
    )
    found = json.loads(done.stdout)
    assert found["slow"]["threshold_s"] == 0.5
    assert len(found["slow"]["requests"]) == 3 < found["slow"]["requests_total"]
    assert [item["tenant"] for item in found["tenants"]] == ["seeblick"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "--since: 'yesterday' is neither an instant nor a duration; write"),
        (["--since", "1h", "--until", "2h"], "the window is empty: since"),
        (["--slow", "fast"], "argument --slow: 'fast' is no duration; write"),
        (["--top", "0"], "argument --top: '0' is no number of rows"),
        (["--tenant", "nobody"], "choose one of its tenants: alpenhof, seeblick"),
        (["--service", "other"], "choose one of its services: hotel-chat"),
        (
            ["--until", "2020-01-01"],
            "nothing found (until 2020-01-01T00:00:00Z); the store holds 2027-01-15T08:00:00Z",
        ),
        (["--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_usage_errors_exit_2_with_value_place_and_remedy(
    hotel_path: Path, arguments: list[str], message: str, here: Here
) -> None:
    done = here("--store", hotel_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_written_exits_1(hotel_path: Path, tmp_path: Path, here: Here) -> None:
    done = here("--store", hotel_path, "--html", tmp_path / "no" / "report.html")
    assert done.returncode == 1
    assert "no/report.html: cannot be written (No such file or directory); give --html a file" in done.stderr


def test_help_explains_the_figures() -> None:
    done = run("--help", COLUMNS="100")
    assert done.returncode == 0
    for word in ("--store DIR", "--since", "--slow", "order statistics", "examples:", "exit code:"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_no_color_is_respected_and_colour_is_used_on_a_terminal(hotel_path: Path) -> None:
    assert "\x1b[" in run("--store", hotel_path, FORCE_COLOR="1", TERM="xterm-256color").stdout
    bare = run("--store", hotel_path, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert not re.search(r"\x1b\[(?:\d+;)*3\d", bare)  # bold may stay, colour may not


def test_hostile_names_cannot_drive_the_terminal(tmp_path: Path) -> None:
    build = Builder("svc\x1b]0;owned\x07")
    row = build.request("/[bold red]x[/]\x1b[2J\n/y", 0, 3000, tenant="[link=x]t\r")
    for _ in range(6):
        build.db(row, 1, 2500, "SELECT '\x1b[31m' -- [/nope]")
    done = run("--store", build.write(tmp_path / "store"))
    assert done.returncode == 0
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert "[bold red]x[/]" in done.stdout  # shown, not interpreted


def test_a_screen_lists_twenty_tenants_and_sums_up_the_rest(here: Here, tmp_path: Path) -> None:
    build = Builder()
    for number in range(23):
        cost = 1.0 if number < 20 else 0.5
        build.request("/a", number * 100, 50, tenant=f"tenant-{number:02d}", cost_usd=cost)
    done = here("--store", build.write(tmp_path / "store"))
    assert done.stdout.count("tenant-") == 20
    assert "3 more with $1.50 together (7.0%): in --csv, --html, --json" in done.stdout
