"""What silences what, in a real Alertmanager: its answer for each alert, and what a webhook gets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.page.monitoring import start_alertmanager
from examples.page.webhook import Webhook
from taximeter_alerts import pipeline
from taximeter_alerts.model import HEARTBEAT, PAGE, TICKET
from taximeter_alerts.rules import all_alerts
from taximeter_cli.main import main
from taximeter_cli.supervise import Supervisor
from taximeter_collector.prometheus import catalogue as c
from tests.alerts.promtool import require_tool

pytestmark = pytest.mark.prometheus
SEVERITY = {alert.name: alert.severity for alert in all_alerts()}
CHAT = {c.JOB: "chat"}
ROOMS = {**CHAT, c.ROUTE: "/rooms"}


class Alertmanager:
    """A running one with our configuration; alerts are sent to it as Prometheus would."""

    def __init__(self, port: int, webhook: Webhook) -> None:
        self.webhook = webhook
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v2", trust_env=False, timeout=30)

    def fire(self, *alerts: tuple[str, dict[str, str]]) -> None:
        for name, labels in alerts:
            found = {"alertname": name, "severity": SEVERITY.get(name, TICKET), **labels}
            annotations = {"summary": name}
            self.http.post("/alerts", json=[{"labels": found, "annotations": annotations}]).raise_for_status()

    def silenced(self) -> dict[str, bool]:
        """By alert and job: whether another alert inhibits it."""
        return {
            f"{one['labels']['alertname']} {one['labels'].get(c.JOB, '')}".strip(): bool(
                one["status"]["inhibitedBy"]
            )
            for one in self.http.get("/alerts").raise_for_status().json()
        }

    def wait(self, wanted: dict[str, bool]) -> None:
        deadline = time.monotonic() + 60
        while (found := self.silenced()) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    require_tool("prometheus-alertmanager", "prometheus-alertmanager")
    rules = tmp_path / "rules"
    with Webhook() as webhook, Supervisor(tmp_path / "logs") as supervisor:
        words = ["--profile", "demo", "--webhook", webhook.url, "--output", str(rules)]
        assert main(["alerts", "render", *words]) == 0
        made = Alertmanager(start_alertmanager(supervisor, rules, tmp_path / "data"), webhook)
        yield made
        made.http.close()


def test_a_collector_that_is_down_silences_all_but_itself_and_the_watchdog(
    alertmanager: Alertmanager,
) -> None:
    assert SEVERITY[pipeline.COLLECTOR_DOWN] == PAGE
    assert SEVERITY[pipeline.WATCHDOG] == HEARTBEAT
    alertmanager.fire((pipeline.COLLECTOR_DOWN, {c.JOB: c.SCRAPE_JOB}))
    alertmanager.wait({f"{pipeline.COLLECTOR_DOWN} {c.SCRAPE_JOB}": False})
    alertmanager.fire(
        (pipeline.WATCHDOG, {}),
        (pipeline.TELEMETRY_ABSENT, CHAT),
        ("TaximeterErrorBudgetBurn", CHAT),
        ("SomebodyElses", CHAT),
    )
    alertmanager.wait(
        {
            f"{pipeline.COLLECTOR_DOWN} {c.SCRAPE_JOB}": False,
            pipeline.WATCHDOG: False,
            f"{pipeline.TELEMETRY_ABSENT} chat": True,
            "TaximeterErrorBudgetBurn chat": True,
            "SomebodyElses chat": False,
        }
    )
    arrived = alertmanager.webhook.wait(lambda notice: notice.name == "SomebodyElses", 60)
    assert arrived is not None
    names = {notice.name for notice in alertmanager.webhook.notices}
    assert names == {pipeline.COLLECTOR_DOWN, "SomebodyElses"}


def test_a_cause_silences_its_consequence_of_the_same_service_and_route(alertmanager: Alertmanager) -> None:
    alertmanager.fire(("TaximeterErrorBudgetBurn", CHAT), ("TaximeterRepeatedStatements", ROOMS))
    alertmanager.wait({"TaximeterErrorBudgetBurn chat": False, "TaximeterRepeatedStatements chat": False})
    shop = {c.JOB: "shop", c.ROUTE: "/rooms"}
    alertmanager.fire(
        ("TaximeterErrorBudgetSlowBurn", CHAT),
        ("TaximeterErrorBudgetSlowBurn", {c.JOB: "shop"}),
        ("TaximeterLatencyBudgetSlowBurn", CHAT),
        ("TaximeterLatencyRegression", ROOMS),
        ("TaximeterDatabaseCallsRegression", shop),
    )
    alertmanager.wait(
        {
            "TaximeterErrorBudgetBurn chat": False,
            "TaximeterRepeatedStatements chat": False,
            "TaximeterErrorBudgetSlowBurn chat": True,
            "TaximeterErrorBudgetSlowBurn shop": False,
            "TaximeterLatencyBudgetSlowBurn chat": False,
            "TaximeterLatencyRegression chat": True,
            "TaximeterDatabaseCallsRegression shop": False,
        }
    )
