"""``taximeter verify`` on a real collector, Prometheus and Alertmanager: whole, and with planted breaks.

Tempo and Grafana are stand-ins (no real one can be had here): Tempo's is an OTLP receiver with the one
HTTP call that finds a trace, Grafana's is ``tests/dashboards/grafana_standin.py``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from examples.demo.stack import ROOT, python_module
from taximeter_cli.main import main
from taximeter_cli.stack import files
from taximeter_cli.stack.addresses import Addresses, Place
from taximeter_cli.stack.canary import Canary
from taximeter_cli.stack.steps import PARTS, Journey, Lost, Where
from taximeter_cli.supervise import Spec, Supervisor, free_port, http_healthy, port_open
from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.render import to_json
from tests.cli.tempo_standin import tempo_api
from tests.collector.prometheus_binary import require_prometheus
from tests.dashboards.grafana_standin import State, grafana

pytestmark = pytest.mark.prometheus
PATIENT, SOON = 60.0, 2.5
"""Seconds that a step may wait: one that is well, and the one that is broken."""


def place(port: int | None = None) -> Place:
    return Place("127.0.0.1", port or free_port())


@dataclass
class World:
    """A stack that works, of which a test breaks one thing."""

    supervisor: Supervisor
    folder: Path
    at: Addresses
    tempo_url: str
    grafana: State
    rules: Path

    def collector(self, **changed: Any) -> None:
        """Start it again, with other addresses than those that the rest expects."""
        config = self.folder / "collector.yaml"
        text = files.collector(replace(self.at, **changed), data=str(self.folder / "data"), tempo=True)
        config.write_text(text)
        argv = python_module("taximeter_cli", "collector", "run", "--config", config)
        check = http_healthy(f"{self.at.health.url}/")
        self.supervisor.start(Spec("collector", argv, cwd=ROOT, healthy=check))

    def prometheus(self, edit: Callable[[str], str] = lambda text: text, **changed: Any) -> None:
        config = self.folder / "prometheus.yml"
        at = replace(self.at, **changed)
        text = files.prometheus(
            at, rules=f"{self.rules}/*.yaml", tempo=False, alertmanager=True, interval="1s"
        )
        config.write_text(edit(text))
        argv = [
            require_prometheus(),
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address={self.at.prometheus.listen}",
            "--rules.alert.resend-delay=1s",
        ]
        check = http_healthy(f"{self.at.prometheus.url}/-/ready")
        self.supervisor.start(Spec("prometheus", argv, healthy=check))

    def alertmanager(self, **changed: Any) -> None:
        binary = shutil.which("prometheus-alertmanager") or "alertmanager"
        argv = [
            binary,
            f"--config.file={self.rules / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'alertmanager'}",
            f"--web.listen-address={replace(self.at, **changed).alertmanager.listen}",
            "--cluster.listen-address=",
        ]
        self.supervisor.start(Spec("alertmanager", argv), wait=False)

    def where(self, timeout: float) -> Where:
        return Where(
            self.at.otlp_http.url,
            self.at.prometheus.url,
            self.at.alertmanager.url,
            self.tempo_url,
            self.grafana.url,
            timeout=timeout,
        )

    def verify(self, *more: str, timeout: float = PATIENT) -> int:
        where = self.where(timeout)
        options = [word for name in ("collector", *PARTS) for word in (f"--{name}", getattr(where, name))]
        return main(["verify", *options, "--timeout", str(timeout), *more])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if shutil.which("prometheus-alertmanager") is None and shutil.which("alertmanager") is None:
        pytest.skip("no Alertmanager on PATH")
    require_prometheus()
    folder = tmp_path_factory.mktemp("verify")
    rules = folder / "rules"
    render = [sys.executable, "-m", "taximeter_cli", "alerts", "render", "--profile", "demo"]
    subprocess.run([*render, "--output", str(rules)], check=True, capture_output=True, cwd=ROOT)
    at = Addresses(*(place() for _ in range(10)))
    received = folder / "received.txt"
    with Supervisor(folder / "logs") as supervisor, grafana() as state, tempo_api(received) as tempo_url:
        argv = python_module("tests.e2e.receiver", at.tempo_otlp.port, received)
        supervisor.start(Spec("tempo", argv, cwd=ROOT, healthy=port_open(at.tempo_otlp.port)))
        made = World(supervisor, folder, at, tempo_url, state, rules)
        state.sources = {files.PROMETHEUS_UID: at.prometheus.url, files.TEMPO_UID: tempo_url}
        state.dashboards = {board.uid: to_json(board) for board in dashboards()}
        made.collector()
        made.alertmanager()
        made.prometheus()
        yield made


def test_it_goes_all_the_way(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.verify() == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert said.count("ok  ") == 15
    assert "The canary went all the way." in said


def test_what_is_left_out_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.verify("--without", "tempo,grafana") == 0
    said = capsys.readouterr().out
    assert "tempo: left out" in said and "grafana: left out" in said
    assert world.verify("--without", "tmpo") == 2


def test_what_is_lost_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with_another_uid = dict(world.grafana.sources)
    del world.grafana.sources[files.PROMETHEUS_UID]
    try:
        assert world.verify() == 1
    finally:
        world.grafana.sources.update(with_another_uid)
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("LOST  Grafana has the data sources: Grafana has no data source with the uid")
    assert said[-1].startswith("      Dashboards and links select it by that uid")


# --- the breaks: what is broken, how, the step that must be named, words of the reason, and the repair -----
Break = tuple[Callable[[World], None], str, str, Callable[[World], None]]


def stop(world: World, name: str) -> None:
    world.supervisor.stop(name)


def misaddress_alerts(world: World) -> None:
    """Alertmanager starts empty, and Prometheus sends to an address where nobody listens."""
    world.supervisor.stop("alertmanager")
    shutil.rmtree(world.folder / "alertmanager", ignore_errors=True)
    world.prometheus(alertmanager=place())
    world.alertmanager()


def forget(state: dict[str, Any], key: str) -> None:
    state.pop(key)


BREAKS: dict[str, Break] = {
    # First what needs no restart of Prometheus, which takes 5 s to find its targets again.
    "Alertmanager is down": (
        lambda w: stop(w, "alertmanager"),
        "Alertmanager answers",
        "does not answer",
        World.alertmanager,
    ),
    "the data source has another uid": (
        lambda w: forget(w.grafana.sources, files.PROMETHEUS_UID),
        "Grafana has the data sources",
        "no data source with the uid taximeter-prometheus",
        lambda w: w.grafana.sources.update({files.PROMETHEUS_UID: w.at.prometheus.url}),
    ),
    "the data source leads elsewhere": (
        lambda w: w.grafana.sources.update({files.PROMETHEUS_UID: "http://127.0.0.1:9"}),
        "Grafana reads the canary",
        "cannot query",
        lambda w: w.grafana.sources.update({files.PROMETHEUS_UID: w.at.prometheus.url}),
    ),
    "a dashboard is missing": (
        lambda w: forget(w.grafana.dashboards, "taximeter-money"),
        "Grafana has the dashboards",
        "taximeter-money",
        lambda w: w.grafana.dashboards.update(
            {"taximeter-money": to_json(next(b for b in dashboards() if b.name == "money"))}
        ),
    ),
    "the collector is down": (
        lambda w: stop(w, "collector"),
        "collector takes OTLP",
        "nothing takes OTLP",
        World.collector,
    ),
    "its Prometheus exporter listens elsewhere": (
        lambda w: w.collector(metrics=place()),
        "Prometheus scrapes the collector",
        "cannot scrape",
        World.collector,
    ),
    "its Tempo exporter is misaddressed": (
        lambda w: w.collector(tempo_otlp=place()),
        "Tempo has the canary's trace",
        "does not have the trace",
        World.collector,
    ),
    "Prometheus is down": (
        lambda w: stop(w, "prometheus"),
        "Prometheus answers",
        "does not answer",
        World.prometheus,
    ),
    "Prometheus does not scrape the services' metrics": (
        lambda w: w.prometheus(lambda text: text.replace("job_name: taximeter\n", "job_name: other\n")),
        "Prometheus has the scrape job",
        "no scrape job 'taximeter'",
        World.prometheus,
    ),
    "Prometheus scrapes the collector's own metrics instead": (
        lambda w: w.prometheus(metrics=w.at.own_metrics),
        "Prometheus has the canary",
        "not in what it got",
        World.prometheus,
    ),
    "honor_labels is missing": (
        lambda w: w.prometheus(lambda text: text.replace("honor_labels: true", "honor_labels: false")),
        "Prometheus has the scrape job",
        "honor_labels: true",
        World.prometheus,
    ),
    "the rule files are missing": (
        lambda w: w.prometheus(lambda text: text.replace("/rules/", "/nowhere/")),
        "Prometheus has the rules",
        "has not loaded",
        World.prometheus,
    ),
    "Prometheus knows no Alertmanager": (
        lambda w: w.prometheus(lambda text: text[: text.index("alerting:")]),
        "Prometheus has an Alertmanager",
        "knows no Alertmanager",
        World.prometheus,
    ),
    "Prometheus sends alerts to another address": (
        misaddress_alerts,
        "the watchdog alert arrives",
        "is not in",
        World.prometheus,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_is_found_and_named(world: World, name: str) -> None:
    """The steps before the break may take their time; the one that it breaks is given up soon."""
    plant, broken, words, repair = BREAKS[name]
    plant(world)
    journey = Journey(world.where(PATIENT), Canary())
    try:
        with pytest.raises(Lost, match=re.escape(words)):
            for step in journey.steps():
                journey.where = world.where(SOON if step.name == broken else PATIENT)
                step.find()
        assert step.name == broken
    finally:
        journey.close()
        repair(world)
