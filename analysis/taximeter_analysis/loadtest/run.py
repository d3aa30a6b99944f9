"""Runs the blocks: A B, B A, A B, ..., each a Locust of its own against one side.

The order turns round with every pair, so that a machine that slowly warms or fills harms neither
side; neighbours are what ``taximeter compare --paired`` holds against each other.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taximeter_analysis.loadtest.blocks import Block, read_block

_RECORDER = (sys.executable, "-m", "taximeter_analysis.loadtest.recorder")
#: Every request that was sent is waited for this long at the end of a block: to leave out the slowest ones
#: would flatter a service that is out of breath.
_PATIENCE_S = 60
_GRACE_S = 180.0


class LoadFailed(Exception):
    """A block could not be run; the message has Locust's last words."""


@dataclass(frozen=True)
class Side:
    """Where one side's guests go, and what is run before each of its blocks (a deploy, a flag)."""

    name: str
    host: str
    before: str | None = None


@dataclass(frozen=True)
class Load:
    """How much load, and from where."""

    scenario: Path
    guests: int
    spawn_rate: float
    duration_s: float
    warmup_s: float
    processes: int = 1
    remote_workers: int = 0
    bind: str = "127.0.0.1"
    port: int | None = None


def order(sides: list[Side], blocks: int) -> Iterator[tuple[int, Side]]:
    """``A1 B1 B2 A2 A3 B3 ...``"""
    for number in range(1, blocks + 1):
        for side in sides if number % 2 else reversed(sides):
            yield number, side


def run_block(load: Load, side: Side, number: int, directory: Path) -> Block:
    """Run one block to its end.

    Raises:
        LoadFailed: the command before it failed, Locust did not start, or nothing was sent.
    """
    if side.before:
        done = subprocess.run(
            shlex.split(side.before), capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            raise LoadFailed(
                f"{side.before!r} ended with {done.returncode}: {_tail(done.stderr or done.stdout)}"
            )
    samples = directory / f"{side.name}-{number}.jsonl"
    samples.unlink(missing_ok=True)
    _locust([samples, *_options(load, side)], load.duration_s + _GRACE_S, number, side)
    if not samples.exists():
        raise LoadFailed(
            f"block {side.name}-{number}: Locust wrote nothing; is {load.scenario} a Locust file?"
        )
    block = read_block(samples, side.name, number, load.warmup_s)
    if not block.count:
        raise LoadFailed(f"block {side.name}-{number}: {_why_empty(load, block)}")
    return block


def _why_empty(load: Load, block: Block) -> str:
    if not block.warmed:
        return f"not one request was answered or refused; does {load.scenario} send any to --host?"
    return (
        f"no guest began a request after the warm-up of {load.warmup_s:g} s: {load.guests:,} guests, "
        f"{block.warmed:,} requests before, the longest took {block.longest_warmed_s:.1f} s. The service is "
        "slower than the block is long: give a longer --warmup and --duration, or fewer guests"
    )


def _options(load: Load, side: Side) -> list[str | Path]:
    options: list[str | Path] = [
        "-f", load.scenario, "--headless", "--only-summary", "--host", side.host, "--users", str(load.guests),
        "--spawn-rate", f"{load.spawn_rate:g}", "--run-time", f"{math.ceil(load.duration_s)}s",
        "--stop-timeout", str(_PATIENCE_S), "--exit-code-on-error", "0", "--loglevel", "WARNING",
    ]  # fmt: skip
    port = str(load.port or free_port())
    if load.remote_workers:
        options += ["--master", "--expect-workers", str(load.remote_workers)]
        options += ["--master-bind-host", load.bind, "--master-bind-port", port]
    elif load.processes > 1:
        options += ["--processes", str(load.processes), "--master-bind-host", "127.0.0.1"]
        options += ["--master-bind-port", port, "--master-port", port]
    return options


def run_worker(scenario: Path, master: str, port: int, processes: int) -> int:
    """Work for a master on another machine, block after block, until interrupted."""
    argv: list[str | Path] = [os.devnull, "-f", scenario, "--worker", "--master-host", master]
    argv += ["--master-port", str(port), "--loglevel", "WARNING"]
    argv += ["--processes", str(processes)] if processes > 1 else []
    while True:
        code = subprocess.run([*_RECORDER, *map(str, argv)], check=False).returncode
        if code:
            return code


def _locust(words: list[str | Path], seconds: float, number: int, side: Side) -> None:
    process = subprocess.Popen(
        [*_RECORDER, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"block {side.name}-{number}: Locust did not end within {seconds:.0f} s") from None
    finally:
        _end(process)
    if process.returncode:
        raise LoadFailed(
            f"block {side.name}-{number}: Locust ended with {process.returncode}: {_tail(output)}"
        )


def _end(process: subprocess.Popen[str]) -> None:
    """No worker outlives its block."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-6:]) or "(it said nothing)"


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
