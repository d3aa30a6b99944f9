"""Starts, health-checks and stops a group of processes, for the demo, ``up`` and the tests.

Promises: processes start in order, each healthy before the next; a process that dies or stays
unhealthy raises :class:`StartFailed` with the end of its log; leaving the ``with`` block - by
success, error or Ctrl-C - stops all of them in reverse order, politely first (its stop signal,
then SIGKILL to its whole group after the grace time). On Linux a child also dies when this
process is killed outright, so nothing is left behind even by ``kill -9``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

_PR_SET_PDEATHSIG = 1
_LOG_TAIL_LINES = 20


class StartFailed(RuntimeError):
    """A process ended or stayed unhealthy; the message has its name, the reason and its log's end."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now. (Another process may take it before you do.)"""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def http_healthy(url: str) -> Callable[[], bool]:
    """A health check: true once ``url`` answers 200. Never goes through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def check() -> bool:
        try:
            with opener.open(url, timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return check


def port_open(port: int, host: str = "127.0.0.1") -> Callable[[], bool]:
    """A health check that sends no request: true once something listens on the port."""

    def check() -> bool:
        try:
            with socket.create_connection((host, port), timeout=1.0):
                return True
        except OSError:
            return False

    return check


@dataclass
class Spec:
    """What to start. ``env`` is added to this process's environment; None removes a variable."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str | None] = field(default_factory=dict)
    cwd: Path | None = None
    healthy: Callable[[], bool] | None = None
    start_timeout: float = 90.0  # a loaded machine; one that ended is told at once
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 15.0
    user: int | None = None
    """Run as this user id (and its group id); only root can."""


class Process:
    """One running process of a :class:`Supervisor`."""

    def __init__(self, spec: Spec, log: Path) -> None:
        self.spec = spec
        self.log = log
        environment = dict(os.environ)
        for key, value in spec.env.items():
            if value is None:
                environment.pop(key, None)
            else:
                environment[key] = value
        self._stream: IO[bytes] = log.open("ab")
        try:
            self.popen = subprocess.Popen(
                list(spec.argv),
                env=environment,
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=self._stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own group: Ctrl-C reaches us alone, we stop it in order
                preexec_fn=_die_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509
                user=spec.user,
                group=spec.user,
                extra_groups=[] if spec.user is not None else None,
            )
        except OSError as error:
            self._stream.close()
            raise StartFailed(f"{spec.name}: cannot start {spec.argv[0]!r}: {error.strerror}") from error

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def tail(self, lines: int = _LOG_TAIL_LINES) -> str:
        """The last lines of the process's output."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def wait_healthy(self) -> None:
        """Block until healthy; raise :class:`StartFailed` when it ends first or takes too long."""
        check = self.spec.healthy
        deadline = time.monotonic() + self.spec.start_timeout
        while True:
            if not self.running:
                code = self.popen.returncode
                raise StartFailed(f"{self.spec.name} ended with code {code} at start:\n{self.tail()}")
            if check is None or check():
                return
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.spec.name} was not healthy after {self.spec.start_timeout:.0f} s:\n{self.tail()}"
                )
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone (not to its group)."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def stop(self) -> int:
        """Stop it: its stop signal, then SIGKILL to the group after the grace time. Its exit code."""
        if self.running:
            self.signal(self.spec.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(self.spec.grace)
        self.kill()
        return self.popen.returncode

    def kill(self) -> None:
        """SIGKILL the whole group, and wait for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._stream.close()


class Supervisor:
    """A group of processes with one life. Use as a context manager.

    ``logs``: directory (made if absent) that gets one ``<name>.log`` per process.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self.processes: dict[str, Process] = {}

    def start(self, spec: Spec, *, wait: bool = True) -> Process:
        """Start a process and (by default) wait until it is healthy. Restarts one of the same name."""
        previous = self.processes.pop(spec.name, None)
        if previous is not None:
            previous.stop()
        process = Process(spec, self.logs / f"{spec.name}.log")
        self.processes[spec.name] = process
        if wait:
            process.wait_healthy()
        return process

    def stop(self, name: str) -> int:
        """Stop one process by name and return its exit code (negative: killed by that signal)."""
        return self.processes.pop(name).stop()

    def kill(self, name: str) -> None:
        """Kill one process at once, as ``kill -9`` would."""
        self.processes.pop(name).kill()

    def ensure_running(self) -> None:
        """Raise :class:`StartFailed` naming any process that has ended by itself."""
        for process in self.processes.values():
            if not process.running:
                code = process.popen.returncode
                raise StartFailed(f"{process.spec.name} ended with code {code}:\n{process.tail()}")

    def stop_all(self) -> None:
        """Stop everything, the last started first; every process is tried even if one resists."""
        with _signals_held():
            while self.processes:
                _, process = self.processes.popitem()
                with contextlib.suppress(OSError):
                    process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt here, so that ``with`` blocks clean up as for Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    # A second Ctrl-C in the middle of the clean-up would leave processes behind.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    except ValueError:  # not the main thread: no signal is delivered here anyway
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _die_with_parent() -> Callable[[], None]:
    # libc is loaded before the fork: between fork and exec only prctl itself may run.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    signals_reset = (signal.SIGINT, signal.SIGTERM)

    def set_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in signals_reset:
            signal.signal(number, signal.SIG_DFL)

    return set_signal
