"""Processes start in order, fail with a reason, and never outlive their supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from taximeter_cli.supervise import Spec, StartFailed, Supervisor, free_port, port_open

SERVE = "import http.server,sys; http.server.HTTPServer(('127.0.0.1',int(sys.argv[1])),None).serve_forever()"
SLEEP = "import time; time.sleep(600)"


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def test_healthy_then_stopped_with_everything_it_started(tmp_path: Path) -> None:
    port = free_port()
    with Supervisor(tmp_path) as supervisor:
        process = supervisor.start(Spec("web", python(SERVE, str(port)), healthy=port_open(port)))
        assert port_open(port)()
    assert not alive(process.popen.pid)
    assert not port_open(port)()


def test_a_grandchild_dies_with_its_group(tmp_path: Path) -> None:
    code = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]);"
        "print(p.pid, flush=True); p.wait()"
    )
    with Supervisor(tmp_path) as supervisor:
        process = supervisor.start(Spec("parent", python(code)))
        while not process.tail():
            time.sleep(0.02)
        grandchild = int(process.tail())
        assert alive(grandchild)
    deadline = time.monotonic() + 10
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(grandchild)


def test_one_that_ends_at_start_is_named_with_its_log(tmp_path: Path) -> None:
    bad = Spec("broken", python("import sys; sys.exit('no such table')"), healthy=lambda: False)
    with (
        Supervisor(tmp_path) as supervisor,
        pytest.raises(StartFailed, match=r"broken ended with code 1") as caught,
    ):
        supervisor.start(bad)
    assert "no such table" in str(caught.value)


def test_one_that_never_gets_healthy_is_stopped(tmp_path: Path) -> None:
    slow = Spec("slow", python(SLEEP), healthy=lambda: False, start_timeout=0.3)
    with pytest.raises(StartFailed, match="slow was not healthy"), Supervisor(tmp_path) as supervisor:
        process = supervisor.start(slow, wait=False)
        process.wait_healthy()
    assert not alive(process.popen.pid)


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    with (
        Supervisor(tmp_path) as supervisor,
        pytest.raises(StartFailed, match="cannot start 'no-such-program'"),
    ):
        supervisor.start(Spec("ghost", ["no-such-program"]))


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up',flush=True); {SLEEP}"
    with Supervisor(tmp_path) as supervisor:
        process = supervisor.start(Spec("deaf", python(code), grace=0.2))
        while "up" not in process.tail():
            time.sleep(0.02)
        assert supervisor.stop("deaf") == -signal.SIGKILL


def test_ensure_running_names_the_dead(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        process = supervisor.start(Spec("short", python("print('goodbye')")))
        process.popen.wait()
        with pytest.raises(StartFailed, match=r"short ended with code 0:\ngoodbye"):
            supervisor.ensure_running()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_children_do_not_outlive_a_signalled_parent(tmp_path: Path, number: signal.Signals) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from taximeter_cli.supervise import Spec, Supervisor, terminate_as_interrupt
        with terminate_as_interrupt(), Supervisor(Path({str(tmp_path)!r})) as supervisor:
            process = supervisor.start(Spec("child", [sys.executable, "-c", {SLEEP!r}]))
            print(process.popen.pid, flush=True)
            time.sleep(600)
    """)
    with subprocess.Popen(python(script), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        os.kill(parent.pid, number)
        try:
            parent.wait(20)
        finally:
            parent.kill()  # or leaving the block would wait for it
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)
