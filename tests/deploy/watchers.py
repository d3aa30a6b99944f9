"""Prometheus servers and a Tempo for ``make prove-stack``: every way by which metrics can arrive, at once."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from examples.demo.stack import Stack
from examples.page.tempo import Tempo
from taximeter_cli.stack.addresses import Place
from taximeter_cli.supervise import Spec, StartFailed, Supervisor, free_port, http_healthy
from taximeter_collector.config.components import EXPORTERS
from taximeter_collector.prometheus import catalogue as c
from tests.e2e.harness import Prometheus
from tests.official import find

REMOTE_WRITE = "prometheus_remote_write"
SCRAPE, OTLP, WRITE = "scrape", "OTLP push", "remote write"


@dataclass
class Server:
    """One Prometheus, and how it gets the services' metrics."""

    binary: str
    way: str
    number: int
    port: int = field(default_factory=free_port)

    @property
    def name(self) -> str:
        return f"prometheus-{self.number}"

    @property
    def version(self) -> str:
        done = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"version (\d[\w.]*)", done.stdout + done.stderr)
        return found[1] if found else "3.x"  # one that was built from source says nothing

    @property
    def modern(self) -> bool:
        """Whether it is 3.x: 2.42 has no OTLP endpoint."""
        return not self.version.startswith("2.")

    @property
    def api(self) -> Prometheus:
        return Prometheus(f"http://127.0.0.1:{self.port}")

    def __str__(self) -> str:
        return f"Prometheus {self.version}, {self.way}"

    def start(self, supervisor: Supervisor, folder: Path, rules: Path, stack: Stack, tempo: Place) -> None:
        """Scrape what is scraped this way, and evaluate the rules."""
        jobs: list[dict[str, Any]] = [_job(c.COLLECTOR_JOB, stack.ports.telemetry), _job("tempo", tempo.port)]
        if self.way == SCRAPE:
            jobs.append({**_job(c.SCRAPE_JOB, stack.ports.prometheus), "honor_labels": True})
        config = {
            "global": {"scrape_interval": "4s", "scrape_timeout": "4s", "evaluation_interval": "2s"},
            "rule_files": [str(rules)],
            "scrape_configs": jobs,
        }
        place = folder / self.name
        place.mkdir()
        (place / "prometheus.yml").write_text(yaml.safe_dump(config))
        argv = [
            self.binary,
            f"--config.file={place / 'prometheus.yml'}",
            f"--storage.tsdb.path={place / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--enable-feature=exemplar-storage",
            "--web.enable-remote-write-receiver",
            *(["--web.enable-otlp-receiver"] if self.modern else []),
        ]
        check = http_healthy(f"http://127.0.0.1:{self.port}/-/ready")
        supervisor.start(Spec(self.name, argv, healthy=check))

    def exporter(self) -> dict[str, Any]:
        """The collector's exporter that brings the metrics here; empty where they are scraped."""
        url = f"http://127.0.0.1:{self.port}/api/v1"
        if self.way == OTLP:
            return {f"otlp_http/{self.name}": {"endpoint": f"{url}/otlp"}}
        if self.way == WRITE:
            return {f"{REMOTE_WRITE}/{self.name}": {"endpoint": f"{url}/write"}}
        return {}


def _job(name: str, port: int) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}


def servers() -> list[Server]:
    """Both versions, each by every way it has; remote write once our collector has that exporter."""
    old, new = shutil.which("prometheus"), find("prometheus3", variable="TAXIMETER_PROMETHEUS")
    if old is None or new is None:
        raise StartFailed(
            "two Prometheus are needed: Debian's 2.42 on PATH (apt-get install prometheus), and a 3.x: "
            "`make official-tools` builds one, or TAXIMETER_PROMETHEUS names one"
        )
    ways = [(old, SCRAPE), (new, SCRAPE), (new, OTLP)]
    if REMOTE_WRITE in EXPORTERS:
        ways += [(old, WRITE), (new, WRITE)]
    return [Server(binary, way, number) for number, (binary, way) in enumerate(ways, 1)]


def collector_config(found: list[Server], tempo: Tempo, base: Path, target: Path) -> None:
    """The demonstration's collector with an exporter for each server that is pushed to, and for Tempo."""
    config = yaml.safe_load(base.read_text())
    pipelines = config["service"]["pipelines"]
    for exporter in (server.exporter() for server in found):
        config["exporters"].update(exporter)
        pipelines["metrics"]["exporters"] += exporter
    tempo.fed_by(config)
    target.write_text(yaml.safe_dump(config, sort_keys=False))


def exemplars(server: Server, expression: str) -> list[str]:
    """Trace ids of an expression's exemplars, the oldest first."""
    found = sorted(server.api.exemplars(expression), key=lambda one: float(one["timestamp"]))
    return [one["labels"]["trace_id"] for one in found]
