"""``taximeter discover`` from the command line: outputs, exit codes, what is walked, and the store."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from taximeter_analysis import model_schema
from taximeter_analysis.discover.walk import TooMany, walk
from taximeter_cli import main as command_line
from tests.analysis.stores import Builder

CODE = """\
from functools import lru_cache

@app.get("/rooms/{room}")
async def room(room: int):
    first = await conn.fetch("SELECT id FROM rooms")
    other = await conn.fetch("SELECT id FROM beds")
    return first, other  # TODO: cache these

@app.post("/bookings")
async def book():
    await conn.execute("INSERT INTO bookings VALUES (1)")
    await client.embeddings.create(input="x")
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    root = tmp_path / "service"
    (root / "app").mkdir(parents=True)
    (root / "app" / "main.py").write_text(CODE)
    return root


def run(*words: str | Path) -> int:
    return command_line.main(["discover", *map(str, words)])


def test_three_outputs(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(code, "--details", "--markdown", tmp_path / "d.md", "--json", tmp_path / "d.json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "2  API routes" in out
    assert "3  database calls" in out
    assert "GET /rooms/{room}" in out
    text = (tmp_path / "d.md").read_text()
    assert "API Routes:          2 endpoints" in text
    assert "Embedding Calls:     1 call\n" in text
    assert "1. `TODO: cache these` (`app/main.py:7`)" in text
    document = json.loads((tmp_path / "d.json").read_text())
    jsonschema.validate(document, json.loads(model_schema.DISCOVER_COMMITTED.read_text()))
    assert document["counts"] == {
        "route": 2, "database": 3, "embedding": 1, "model": 0, "cache": 1, "parallel": 0,
        "sequential": 1, "todo": 1,
    }  # fmt: skip


def test_the_committed_schema_has_not_drifted() -> None:
    committed = model_schema.DISCOVER_COMMITTED.read_text(encoding="utf-8")
    assert committed == model_schema.discover_text(), "run python -m taximeter_analysis.model_schema"


def test_what_traces_have_never_seen(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = Builder()
    request = build.request("/api/rooms/{room_id}", 0, 50)
    build.db(request, 1, 2, "SELECT id FROM rooms", code_path="/srv/service/app/main.py", code_line=5)
    build.write(tmp_path / "store")
    assert run(code, "--store", tmp_path / "store", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    seen = {
        (each["kind"], each["line"]): each["seen"] for file in found["files"] for each in file["sightings"]
    }
    assert seen["route", 3] == "yes"  # a prefix of another file is before it
    assert seen["route", 9] == "never"
    assert seen["database", 5] == "yes"
    assert seen["database", 6] == "never"
    assert seen["database", 11] == "never"
    assert seen["embedding", 12] == "never"  # the service records lines, and never this one
    assert seen["todo", 7] is None
    assert run(code, "--store", tmp_path / "store") == 0
    assert "POST /bookings" in capsys.readouterr().out.split("never seen", 1)[1]


def test_without_lines_of_code_a_call_without_a_table_is_unknown(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    request = build.request("/rooms/{room}", 0, 50)
    build.db(request, 1, 2, "SELECT id FROM rooms")
    build.write(tmp_path / "store")
    assert run(code, "--store", tmp_path / "store", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    seen = {
        (each["kind"], each["line"]): each["seen"] for file in found["files"] for each in file["sightings"]
    }
    assert (seen["database", 5], seen["database", 6], seen["embedding", 12]) == ("yes", "never", "unknown")
    assert "TAXIMETER_EVIDENCE_CODE" in found["notes"][0]


def test_wrong_usage_says_what_and_where(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nowhere") == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert run(code, "--store", tmp_path / "nowhere") == 2
    assert run(code, "--json", tmp_path / "no" / "d.json") == 1
    assert "name another file" in capsys.readouterr().err


def test_what_is_walked(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("")
    root = tmp_path / "root"
    for name in (
        *(
            "app/a.py",
            "app/b.tsx",
            "node_modules/x/i.js",
            ".git/h.py",
            "dist/c.js",
            "gen/d.py",
            "gen/keep.py",
        ),
        *("app/types.d.ts", "app/jquery.min.js", "tests/test_a.py", "app/a.test.ts", "notes.md"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / ".gitignore").write_text("gen/*\n!gen/keep.py\n")
    (root / "link").symlink_to(outside)
    (root / "link.py").symlink_to(outside / "secret.py")
    (root / "app" / "loop").symlink_to(root)
    found = walk(root)
    assert found.files == ["app/a.py", "app/b.tsx", "gen/keep.py"]
    assert found.tests == 2
    assert "tests/test_a.py" in walk(root, tests=True).files
    with pytest.raises(TooMany, match="more than 1 source files; name a folder further inside"):
        walk(root, limit=1)
