"""``taximeter up`` with the binaries of this machine, and ``taximeter verify`` through what it started."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from taximeter_cli import up
from taximeter_cli.main import main
from taximeter_cli.stack import programs
from taximeter_cli.stack.addresses import Addresses, Place
from taximeter_cli.supervise import free_port
from tests.collector.prometheus_binary import require_prometheus
from tests.e2e.harness import processes_marked


def test_what_is_missing_is_named_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["up", "--check", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for program in programs.PROGRAMS:
        assert f"missing  {program.name}: " in said
        assert program.how_to_get in said


def test_a_wrong_budget_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--folder", str(tmp_path), "--budget", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_a_port_in_use_is_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        whole = Addresses(*(Place("127.0.0.1", free_port()) for _ in range(10)))
        monkeypatch.setattr(up, "Addresses", lambda: replace(whole, metrics=Place("127.0.0.1", port)))
        assert main(["up", "--folder", str(tmp_path / "up")]) == 1
    assert f"in use already: collector's metrics {port}. " in capsys.readouterr().err
    assert not (tmp_path / "up").exists()


@pytest.mark.prometheus
def test_it_starts_what_is_here_and_stops_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_prometheus()
    marker = f"TAXIMETER_UP_TEST={tmp_path}"
    argv = [sys.executable, "-u", "-m", "taximeter_cli", "up", "--folder", str(tmp_path / "up")]
    log = tmp_path / "up.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*argv, "--free-ports", "--profile", "demo"],
            stdout=stream,
            stderr=stream,
            env={**os.environ, "TAXIMETER_UP_TEST": str(tmp_path)},
        )
        try:
            deadline = time.monotonic() + 120
            while "Ctrl-C" not in log.read_text():
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            said = log.read_text()
            started = re.findall(r"^up +(\w+): ", said, re.MULTILINE)
            absent = [program.name for program in programs.PROGRAMS if program.name not in started]
            assert all(f"missing  {name}: " in said for name in absent)
            (check,) = re.findall(r"^check +taximeter (verify .*)$", said, re.MULTILINE)
            assert main(check.split()) == 0, capsys.readouterr().out
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 0, log.read_text()
    assert processes_marked(marker) == []
    assert (tmp_path / "up" / "logs" / "collector.log").exists()
    assert (tmp_path / "up" / "dashboards" / "taximeter-overview.json").exists()
