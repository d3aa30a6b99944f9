"""Ours and the official collector as processes: one configuration file, one core, their CPU and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.official import find

OURS, OFFICIAL = "Taximeter", "official"
_TICK = os.sysconf("SC_CLK_TCK")


def official_binary() -> str | None:
    """The official collector: ``TAXIMETER_OTELCOL``, that of `make official-tools`, or one on the PATH."""
    return find("otelcol", "otelcol-contrib", variable="TAXIMETER_OTELCOL")


@dataclass
class Peer:
    """A running collector."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def cpu_s(self) -> float:
        """User and system time of the whole process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def peak_mib(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


def command(name: str, config: Path, data: Path) -> list[str]:
    """How each is started; ours keeps its log in ``data``, synced to disk as shipped."""
    if name == OURS:
        program = [sys.executable, "-m", "taximeter_collector"]
        return [*program, "run", "--config", str(config), "--data-dir", str(data)]
    binary = official_binary()
    assert binary is not None, "no official collector"
    return [binary, "--config", str(config)]


@contextmanager
def running(
    name: str, folder: Path, config: dict[str, Any], health_port: int, *, core: int | None = 0
) -> Iterator[Peer]:
    """A collector from its start to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder / "collector.yaml", folder / "collector.log"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*pinned, *command(name, path, folder / "data")], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_healthy(process, health_port, log)
        yield Peer(name, process, log)
        process.terminate()
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the collector ended ({process.returncode}): {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the collector is not ready after 60 s: {log.read_text()[-2000:]}")
