"""A real Prometheus and a real Alertmanager beside the example's stack, on loopback."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from taximeter_cli.supervise import Spec, StartFailed, Supervisor, free_port, http_healthy
from taximeter_collector.prometheus import catalogue as c

ALERTMANAGERS = ("prometheus-alertmanager", "alertmanager")
_http = httpx.Client(trust_env=False, timeout=10)


def binary(*names: str) -> str:
    """The first of these programs that is on PATH, or `StartFailed` with how to get one."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise StartFailed(f"no `{names[0]}` on PATH (Debian: apt-get install {names[0]})")


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **params: str | float) -> Any:
        """One call of the HTTP API, e.g. ``get("query", query="up")``; its ``data``."""
        answer = _http.get(f"{self.url}/api/v1/{path}", params=params)
        return answer.raise_for_status().json()["data"]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {
            alert["labels"]["alertname"]
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing"
        }


def start_alertmanager(supervisor: Supervisor, rules: Path, directory: Path) -> int:
    """Start it on the rendered configuration; its port. Alone: a cluster delays the first page."""
    port = free_port()
    argv = [
        binary(*ALERTMANAGERS),
        f"--config.file={rules / 'alertmanager.yml'}",
        f"--storage.path={directory}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    check = http_healthy(f"http://127.0.0.1:{port}/-/ready")
    supervisor.start(Spec("alertmanager", argv, healthy=check))
    return port


def start_prometheus(
    supervisor: Supervisor,
    rules: Path,
    directory: Path,
    *,
    metrics: int,
    telemetry: int,
    alertmanager: int,
    port: int,
) -> Prometheus:
    """Scrape the collector's two endpoints (ports) every second, and evaluate the rendered rules."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules / "recording.yaml"), str(rules / "alerts.yaml")],
        "scrape_configs": [
            {"job_name": c.SCRAPE_JOB, "honor_labels": True, "static_configs": [_target(metrics)]},
            {"job_name": c.COLLECTOR_JOB, "static_configs": [_target(telemetry)]},
        ],
        "alerting": {"alertmanagers": [{"static_configs": [_target(alertmanager)]}]},
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = [
        binary("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--rules.alert.resend-delay=1s",
        "--web.enable-remote-write-receiver",
    ]
    url = f"http://127.0.0.1:{port}"
    supervisor.start(Spec("prometheus", argv, healthy=http_healthy(f"{url}/-/ready")))
    return Prometheus(url)


def _target(port: int) -> dict[str, list[str]]:
    return {"targets": [f"127.0.0.1:{port}"]}
