"""The documentation says what the code does: rendered tables, links and commands.

Every `taximeter ...` line in a code block must be one that the command line understands. A block that
is marked to be run (three backticks, ``sh run``) is run as it stands, in a folder with a store of the
demo's shape (an hour old, versions 1.4 and 1.5), reports saved from it, a budget, and a recorded run: its
``traces.otlp`` and what its provider ``exports``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from examples.provider import exports
from taximeter_cli import main as command_line
from tests.analysis import stores
from tests.analysis.recording import RUN

ROOT = Path(__file__).parents[1]
PAGES = sorted(p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


def test_rendered_tables_have_not_drifted() -> None:
    argv = [sys.executable, str(ROOT / "tools" / "render_docs.py"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def _code(text: str) -> Iterator[tuple[str, str]]:
    """Code blocks as (info string, body): fenced ones, and indented ones as ("", body)."""
    fenced = re.compile(r"^```([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    yield from ((found[1].strip(), found[2]) for found in fenced.finditer(text))
    yield "", "\n".join(line[4:] for line in fenced.sub("", text).splitlines() if line.startswith("    "))


def _commands() -> Iterator[tuple[str, str]]:
    """(page, command) for every `taximeter ...` line in a code block, its comment and pipes cut off."""
    for page in PAGES:
        for _, body in _code(page.read_text(encoding="utf-8")):
            for line in body.replace("\\\n", " ").splitlines():
                yield from ((page.name, command) for command in [_command(line)] if command)
    workflow = yaml.safe_load((ROOT / "docs" / "github-workflow.yml").read_text(encoding="utf-8"))
    for step in workflow["jobs"]["budget"]["steps"]:
        lines = step.get("run", "").splitlines()
        yield from (("github-workflow.yml", command) for line in lines if (command := _command(line)))


def _command(line: str) -> str | None:
    # "taximeter budget: ..." is an error as printed, no command.
    found = re.match(r"\s*(taximeter (?![a-z ]+: ).*)", re.split(r"\s+#|\s[|&>]|&$", line)[0])
    return found[1].strip() if found else None


@pytest.mark.parametrize(("page", "command"), sorted(set(_commands())))
def test_every_command_is_understood(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)[1:]
    parsed: list[argparse.Namespace] = []
    if words and words[0] in command_line.COMMANDS:
        module = command_line.load(words[0])

        def remember(args: argparse.Namespace) -> int:
            parsed.append(args)
            return 0

        monkeypatch.setattr(module, "main", remember)
        assert command_line.main(words) == 0, command
        assert parsed, f"{page}: {command}"
    else:
        with pytest.raises(SystemExit) as stop:  # --version, --help
            command_line.main(words)
        assert stop.value.code == 0, f"{page}: {command}"


RUNNABLE = [
    pytest.param(body, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (info, body) in enumerate(_code(page.read_text(encoding="utf-8")))
    if info.split()[1:2] == ["run"]
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has at hand: see the module's docstring."""
    place = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "EPOCH_NS", (int(time.time()) - 7000) * 1_000_000_000)
        for name, seed in (("store-main", 1), ("store-candidate", 2), ("taximeter-data/store", 3)):
            build = stores.hotel(seed, requests=2400, seconds=6900)
            for row in (*build.requests, *build.spans):
                row["version"] = "1.4" if row["start_ns"] % 2 else "1.5"
            build.write(place / name)
    (place / "traces.otlp").write_bytes(gzip.decompress((RUN / "traces.otlp.gz").read_bytes()))
    ledger = gzip.decompress((RUN / "provider.jsonl.gz").read_bytes()).splitlines()
    exports.write((json.loads(line) for line in ledger), place / "exports")
    run = "taximeter report --json {1} --store {0} >/dev/null"
    lines = [run.format("store-main", "before.json"), run.format("store-candidate", "after.json")]
    lines += ["cp before.json main.json", "cp after.json report.json"]
    lines += [
        "taximeter budget suggest --report report.json --output budget.yaml",
        "ln -s taximeter-data/store",
    ]
    _bash("\n".join(lines), place)
    return place


def _bash(script: str, place: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=place, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("script", RUNNABLE)
def test_what_is_marked_to_be_run_runs(script: str, folder: Path) -> None:
    assert _bash(script, folder)


@pytest.mark.parametrize("page", ["guide", "monitoring", "troubleshooting", "cost", "budget"])
def test_the_plans_phases_of_measuring_and_holding_are_run(page: str) -> None:
    assert [each.id for each in RUNNABLE if str(each.id).startswith(f"{page}.md")]


def test_every_anchor_leads_to_a_heading() -> None:
    wrong = []
    for page in PAGES:
        for target, anchor in re.findall(
            r"\]\((?!https?://)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")
        ):
            text = (page.parent / target if target else page).read_text(encoding="utf-8")
            words = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
            if anchor not in {re.sub(r"[^a-z0-9 _-]", "", word.lower()).replace(" ", "-") for word in words}:
                wrong.append(f"{page.name}: {target}#{anchor}")
    assert wrong == []
