"""``taximeter store``: what it says, what it changes, what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from taximeter_cli.main import main
from taximeter_collector.store import upkeep
from tests.analysis.stores import Builder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    build = Builder("chat")
    for number in range(20):
        row = build.request("/a", number * 1000, 10, db_calls=1, tenant="north" if number % 2 else "south")
        build.db(row, 1, 1, "SELECT 1")
    return build.write_log(tmp_path / "store", cuts=4)


def test_info(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "info", "--check", "--store", str(path)]) == 0
    said = capsys.readouterr().out
    assert "spans     40 in 4 segment(s)" in said
    assert "requests  20 in 4 segment(s)" in said
    assert "20 not summed up yet" in said
    assert "service   chat -: 20 requests" in said
    assert "check     good: 0 spans" in said


def test_compact(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "compact", "--store", str(path)]) == 0
    assert "4 segment(s) of spans became 1, 0 expired" in capsys.readouterr().out
    assert main(["store", "info", "--check", "--store", str(path)]) == 0
    said = capsys.readouterr().out
    assert "40 in 1 segment(s)" in said
    assert "0 not summed up yet" in said
    assert "8 superseded file(s)" in said
    assert "check     good" in said


def test_compact_says_who_is_at_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with upkeep.lock(path):
        assert main(["store", "compact", "--store", str(path)]) == 1
    assert "another process is compacting it" in capsys.readouterr().err


def test_export(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def export(name: str, *words: str) -> Path:
        assert main(["store", "export", str(tmp_path / name), "--store", str(path), *words]) == 0
        return tmp_path / name

    with export("r.csv", "--table", "requests", "--tenant", "north").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["tenant"] for row in rows] == ["north"] * 10
    written = export("s.jsonl", "--since", "2027-01-15T08:00:10Z").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == 20
    assert len(lines[0]["trace_id"]) == 32
    assert pq.read_table(export("s.parquet", "--service", "chat")).num_rows == 40
    assert "40 spans" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["export", "x.xls"], 2, "no format ends in 'xls'; write .parquet, .csv or .jsonl"),
        (["export", "/nowhere/x.csv"], 1, "/nowhere/x.csv: cannot be written (no such directory)"),
        (["info", "--store", "nowhere"], 2, "nowhere: no such directory"),
        (["export", "x.csv", "--since", "soon"], 2, "'soon' is neither an instant nor a duration"),
    ],
)
def test_what_is_refused(
    path: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = [] if "--store" in words else ["--store", str(path)]
    assert main(["store", *words, *store]) == code
    assert message in capsys.readouterr().err


def test_a_size_is_read_with_its_unit(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["store", "compact", "--store", str(path), "--max-size", "5"])
    assert "'5' is no size; write 500MiB or 5GiB" in capsys.readouterr().err
