"""The programs of the stack on this machine: where each is found, how to get it, how to start it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taximeter_cli.stack.addresses import Addresses
from taximeter_cli.supervise import Spec, http_healthy


@dataclass(frozen=True)
class Program:
    """One program. ``binaries``: names under which it is installed, first found wins."""

    name: str
    binaries: tuple[str, ...]
    how_to_get: str
    without: str
    """What is missing while it does not run."""
    spec: Callable[[str, Addresses, Path], Spec] = field(repr=False)

    def find(self, path: str | None = None) -> str | None:
        """Its binary on PATH, or None."""
        for name in self.binaries:
            if found := shutil.which(name, path=path):
                return found
        return None


def collector(addresses: Addresses, folder: Path) -> Spec:
    """Our own collector, with this interpreter."""
    argv = [sys.executable, "-m", "taximeter_cli", "collector", "run"]
    argv += ["--config", str(folder / "collector.yaml")]
    return Spec("collector", argv, healthy=http_healthy(f"{addresses.health.url}/"))


def _prometheus(binary: str, a: Addresses, folder: Path) -> Spec:
    argv = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={a.prometheus.listen}",
        "--enable-feature=exemplar-storage",
        "--rules.alert.resend-delay=5s",  # the first alerts come before it knows its Alertmanager
        "--web.enable-remote-write-receiver",
    ]
    return Spec("prometheus", argv, healthy=http_healthy(f"{a.prometheus.url}/-/ready"))


def _alertmanager(binary: str, a: Addresses, folder: Path) -> Spec:
    argv = [
        binary,
        f"--config.file={folder / 'rules' / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={a.alertmanager.listen}",
        "--cluster.listen-address=",
    ]
    return Spec("alertmanager", argv, healthy=http_healthy(f"{a.alertmanager.url}/-/ready"))


def _tempo(binary: str, a: Addresses, folder: Path) -> Spec:
    argv = [binary, f"-config.file={folder / 'tempo.yaml'}"]
    return Spec("tempo", argv, healthy=http_healthy(f"{a.tempo.url}/ready"), start_timeout=90)


def _grafana(binary: str, a: Addresses, folder: Path) -> Spec:
    home = next((path for path in (Path("/usr/share/grafana"),) if path.is_dir()), None)
    argv = [binary, *(["server"] if Path(binary).name == "grafana" else [])]
    argv += [f"--homepath={home}"] if home else []
    environment: Mapping[str, str] = {
        "GF_SERVER_HTTP_ADDR": a.grafana.bind,
        "GF_SERVER_HTTP_PORT": str(a.grafana.port),
        "GF_PATHS_DATA": str(folder / "grafana"),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        # On loopback, for whoever sits at this machine; looking only.
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_SECURITY_ADMIN_PASSWORD": os.urandom(16).hex(),
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
    check = http_healthy(f"{a.grafana.url}/api/health")
    return Spec("grafana", argv, env=environment, healthy=check, start_timeout=90)


PROGRAMS = (
    Program(
        "alertmanager",
        ("alertmanager", "prometheus-alertmanager"),
        "apt-get install prometheus-alertmanager, or https://prometheus.io/download/",
        "no alert reaches anybody",
        _alertmanager,
    ),
    Program(
        "prometheus",
        ("prometheus",),
        "apt-get install prometheus, or https://prometheus.io/download/",
        "no dashboard has data and no rule is evaluated",
        _prometheus,
    ),
    Program(
        "tempo",
        ("tempo",),
        "https://grafana.com/docs/tempo/latest/set-up-for-tracing/ (a binary; 3.0 or later)",
        "traces are kept in the span store only, and links to them lead nowhere",
        _tempo,
    ),
    Program(
        "grafana",
        ("grafana", "grafana-server"),
        "https://grafana.com/grafana/download (deb, rpm or a binary)",
        "the dashboards have nothing to show them; Prometheus's own pages work",
        _grafana,
    ),
)
