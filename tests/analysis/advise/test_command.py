"""``taximeter advise`` at the command line: its outputs, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taximeter_cli.main import main
from tests.analysis.advise.plants import n_plus_one
from tests.analysis.stores import Builder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    build = Builder()
    n_plus_one(build)
    for span in build.spans:
        if span["name"] == "SELECT":
            span["db_statement"] += " -- \x1b[31m|`*"
    return build.write(tmp_path / "store")


def test_all_outputs_say_the_same(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.json", tmp_path / "a.md"]
    assert main(["advise", "--store", str(store), "--json", str(files[0]), "--markdown", str(files[1])]) == 0
    shown = capsys.readouterr().out
    document = json.loads(files[0].read_text())
    first = document["findings"][0]
    assert (document["kind"], first["kind"]) == ("taximeter.advice", "n_plus_one")
    assert first["savings"]["db_calls"] == {"value": 120, "low": 100, "high": 120}
    for text in (shown, files[1].read_text()):
        assert "N+1: 1 statement(s) sent once per row" in text
        assert "120 (100 to 120)" in text
        assert "\x1b" not in text


def test_wrong_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--store", str(tmp_path / "nothing")]) == 2
    assert "taximeter advise: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["advise", "--top", "0"])
