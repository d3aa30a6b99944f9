"""``make demo`` as a user meets it: it ends well, and interrupted or broken it leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import processes_marked

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@contextmanager
def demo(tmp_path: Path, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The demo in a subprocess. At the end no process and no temporary file of it may be left."""
    name, value = "TAXIMETER_TEST_RUN", str(uuid.uuid4())
    argv = [sys.executable, "-m", "examples.demo", "--output", str(tmp_path / "out"), *words]
    # Not below pytest's own folder, which is closed to the user that PostgreSQL runs as under root.
    with tempfile.TemporaryDirectory(prefix="demo-test-") as temporary:
        Path(temporary).chmod(0o711)
        environment = {**os.environ, name: value, "TMPDIR": temporary, "COLUMNS": "120", **env}
        process = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()
        assert_nothing_left(Path(temporary), f"{name}={value}")


def assert_nothing_left(temporary: Path, marker: str) -> None:
    deadline = time.monotonic() + 10
    while (left := processes_marked(marker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
    assert list(temporary.iterdir()) == []


def test_it_ends_well_and_writes_its_files(tmp_path: Path) -> None:
    with demo(tmp_path, "--duration", "8", "--rate", "15") as process:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    assert "The books balance" in output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["books"]
    assert all(row["balanced"] for row in report["books"])
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.startswith("<!DOCTYPE html>") or html.startswith("<!doctype html>")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_any_moment_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    moment = random.SystemRandom().uniform(0.5, 18)
    print("interrupted after", moment)
    with demo(tmp_path, "--duration", "60") as process:
        time.sleep(moment)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130, output


def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "site"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'examples.hotel_chat' in sys.orig_argv:\n"
        "    raise SystemExit('the service is broken on purpose')\n"
    )
    with demo(tmp_path, PYTHONPATH=str(broken)) as process:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1, output
    assert "service ended with code 1" in output
    assert "the service is broken on purpose" in output
