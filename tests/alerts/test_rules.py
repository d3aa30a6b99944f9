"""The rules, judged by Prometheus's and Alertmanager's own tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from taximeter_alerts.alertmanager import TEXT, TITLE
from taximeter_alerts.model import HEARTBEAT, PAGE, TICKET
from taximeter_alerts.profile import PROFILES
from taximeter_alerts.rules import all_alerts
from taximeter_alerts.thresholds import of_budget
from taximeter_analysis.budget.loader import parse_budget
from taximeter_cli.main import main
from taximeter_collector.prometheus import catalogue as c
from tests.alerts import cases
from tests.alerts.promtool import BUDGET, THRESHOLDS, Case, require_tool, run

ROOT = Path(__file__).parents[2]
RULES = ROOT / "alerts" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = all_alerts(THRESHOLDS)
DELIVERED = all_alerts()
pytestmark = pytest.mark.prometheus


def tool(folder: Path, *argv: str) -> str:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_is_silent() -> None:
    names = {alert.name for alert in ALERTS}
    fires = {case.alert for case in cases.ALL if case.fires}
    silent = {case.alert for case in cases.ALL if not case.fires}
    assert fires == names
    assert silent == names - {alert.name for alert in ALERTS if alert.severity == HEARTBEAT}


@pytest.mark.parametrize("attempt", range(int(os.environ.get("TAXIMETER_RULE_RUNS", "3"))))
def test_the_rules_fire_and_stay_silent(tmp_path: Path, attempt: int) -> None:
    assert run(cases.ALL, tmp_path) == ""


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    quiet = next(case for case in cases.ALL if not case.fires)
    wrong = Case(quiet.alert, quiet.why, quiet.series, quiet.at, 1, quiet.history)
    assert "exp" in run([wrong], tmp_path)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_tools_accept_what_is_rendered(tmp_path: Path, profile: str) -> None:
    secrets = {name: tmp_path / name for name in ("slack", "duty")}
    for path in secrets.values():
        path.write_text("https://hooks.invalid/x")
    words = ["alerts", "render", "--profile", profile, "--output", str(tmp_path), "--email-to", "a@b.invalid"]
    words += ["--slack-url-file", str(secrets["slack"]), "--pagerduty-key-file", str(secrets["duty"])]
    assert main([*words, "--heartbeat", "https://watcher.invalid/x"]) == 0
    promtool, amtool = (
        require_tool("promtool", "prometheus"),
        require_tool("amtool", "prometheus-alertmanager"),
    )
    text = tool(tmp_path, promtool, "check", "rules", "recording.yaml", "alerts.yaml")
    assert f"{len(DELIVERED)} rules found" in text
    assert "1 templates" in tool(tmp_path, amtool, "check-config", "alertmanager.yml")


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (f"severity={PAGE} alertname=TaximeterCostSpike", "pages"),
        (f"severity={TICKET} alertname=TaximeterAgentErrors", "tickets"),
        (f"severity={HEARTBEAT} alertname=TaximeterWatchdog", "heartbeat"),
        ("severity=unheard-of", "tickets"),
    ],
)
def test_alerts_go_where_they_belong(labels: str, receiver: str) -> None:
    amtool = require_tool("amtool", "prometheus-alertmanager")
    argv = [amtool, "config", "routes", "test", "--config.file=alertmanager.yml", *labels.split()]
    assert tool(RULES, *argv).splitlines()[0] == receiver


def test_a_team_may_have_a_webhook_of_its_own(tmp_path: Path) -> None:
    words = ["--team-webhook", "platform=https://platform.invalid/x", "--output", str(tmp_path)]
    assert main(["alerts", "render", *words]) == 0
    amtool = require_tool("amtool", "prometheus-alertmanager")
    argv = [amtool, "config", "routes", "test", "--config.file=alertmanager.yml"]
    for team, severity, receiver in (
        ("platform", PAGE, "pages-platform"),
        ("platform", TICKET, "tickets-platform"),
        ("service", PAGE, "pages"),
    ):
        assert tool(tmp_path, *argv, f"severity={severity}", f"team={team}").splitlines()[0] == receiver
    with pytest.raises(SystemExit):
        main(["alerts", "render", "--team-webhook", "nobody=https://x.invalid"])


@pytest.mark.parametrize(
    ("status", "severity", "title"),
    [
        ("firing", PAGE, "PAGE: rooms repeat statements (2 alerts)"),
        ("firing", TICKET, "Ticket: rooms repeat statements (2 alerts)"),
        ("resolved", PAGE, "Resolved: rooms repeat statements (2 alerts)"),
    ],
)
def test_every_channel_says_what_and_where(tmp_path: Path, status: str, severity: str, title: str) -> None:
    links = {name: f"https://x.invalid/{name}" for name in ("runbook_url", "dashboard_url", "traces_url")}
    alerts = [
        {"status": status, "annotations": {"summary": text, "description": "Why.", **links}}
        for text in ("rooms repeat statements", "so does chat")
    ]
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"status": status, "alerts": alerts, "commonLabels": {"severity": severity}}))
    amtool = require_tool("amtool", "prometheus-alertmanager")
    argv = [amtool, "template", "render", "--template.glob=taximeter.tmpl", f"--template.data={data}"]
    assert tool(RULES, *argv, f"--template.text={TITLE}").strip() == title
    text = tool(RULES, *argv, f"--template.text={TEXT}")
    for link in (*links.values(), "so does chat", "Why."):
        assert link in text


def test_the_committed_files_are_what_would_be_rendered() -> None:
    assert main(["alerts", "render", "--check", "--output", str(RULES)]) == 0


def test_drift_is_noticed(tmp_path: Path) -> None:
    assert main(["alerts", "render", "--output", str(tmp_path)]) == 0
    (tmp_path / "alerts.yaml").write_text("groups: []\n")
    assert main(["alerts", "render", "--check", "--output", str(tmp_path)]) == 1


def test_at_most_five_alerts_page() -> None:
    pages = [alert.name for alert in ALERTS if alert.severity == PAGE]
    assert len(pages) <= 5, pages


def test_names_are_unique_and_no_condition_stands_twice() -> None:
    for values in ([alert.name for alert in ALERTS], [alert.expr for alert in ALERTS]):
        assert [value for value, times in Counter(values).items() if times > 1] == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_says_what_it_must(alert: object) -> None:
    found = next(each for each in ALERTS if each is alert)
    assert found.summary
    assert found.description.endswith((".", "`"))
    assert re.fullmatch(r"\d+[smhd]", found.hold)
    assert found.severity in {PAGE, TICKET, HEARTBEAT}
    used = set(re.findall(r"\$labels\.(\w+)", found.summary + found.description + found.traces))
    assert set(found.by) <= used or not found.by
    page = (RUNBOOKS / f"{found.name}.md").read_text()
    assert page.startswith(f"# {found.name}\n")
    for heading in ("## What it means", "## What to do"):
        assert heading in page


def test_no_runbook_is_about_an_alert_that_is_gone() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {alert.name for alert in ALERTS}
    listed = re.findall(r"\[(\w+)\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text())
    assert [name for name, file in listed] == [file for name, file in listed]
    assert {name for name, _ in listed} == pages


def test_the_budget_sets_the_limits() -> None:
    text = """
version: 1
defaults: {latency_p95: 800ms, error_rate: 2%}
money: {per_day: 240}
caches: [{match: "emb*", hit_rate: 60%}, {match: "*", hit_rate: 90%}]
"""
    thresholds, notes = of_budget(parse_budget(text))
    assert (thresholds.slow_seconds, thresholds.latency_objective) == (1.0, 0.95)
    assert notes == ["latency_p95: 0.8 s is no bound of the histogram; 1 s is used"]
    assert thresholds.availability_objective == 0.98
    assert thresholds.cost_delta_usd_per_hour == pytest.approx(4.8)
    assert [(match.selector, match.limit) for match in thresholds.caches] == [
        (f'{{{c.CACHE}=~"emb.*"}}', 0.6),
        (f'{{{c.CACHE}!="", {c.CACHE}!~"emb.*"}}', 0.9),
    ]
    missing = {alert.name for alert in DELIVERED} - {alert.name for alert in all_alerts(thresholds)}
    assert missing == {"TaximeterMonthlyCostForecast", "TaximeterTenantCostAboveBudget"}


def test_a_route_has_the_limit_of_its_first_entry() -> None:
    first, second = THRESHOLDS.routes["db_calls"]
    assert (first.limit, second.limit) == (9, 4)
    assert second.selector == f'{{{c.ROUTE}=~"/rooms.*", {c.ROUTE}!~"/rooms/\\\\{{room\\\\}}"}}'
    for route, limit in (("/rooms/{room}", 9), ("/rooms", 4), ("/rooms/{room}/rates", 4)):
        found = BUDGET.limit_for(None, "GET", route, "db_calls")
        assert found is not None
        assert found.max == limit


def test_a_limit_of_one_service_is_that_service_s_alone(tmp_path: Path) -> None:
    budget = tmp_path / "budget.yaml"
    budget.write_text(
        "version: 1\ndefaults: {db_calls: 6, latency_p95: 1s}\n"
        "routes: [{match: '/rooms*', service: chat, db_calls: 2, latency_p95: 300ms}]\n"
    )
    words = ["--budget", str(budget), "--output", str(tmp_path)]
    assert main(["alerts", "render", *words]) == 0
    assert main(["dashboards", "render", *words]) == 0
    wanted = f'{c.JOB}=~"(.*/)?(chat)"'
    rules = (tmp_path / "alerts.yaml").read_text()
    assert f'{{{wanted}, {c.ROUTE}=~"/rooms.*"}}[30m]) > 2,' in rules
    assert f'{{{wanted}, {c.ROUTE}!="", {c.ROUTE}!~"/rooms.*"}}[30m]) > 6,' in rules
    assert f'{{{wanted.replace("=~", "!~")}, {c.ROUTE}!=""}}[30m]) > 6,' in rules
    overview = (tmp_path / "taximeter-overview.json").read_text()
    assert json.dumps(wanted)[1:-1] in overview


def test_a_limit_beyond_the_histogram_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = tmp_path / "budget.yaml"
    budget.write_text("version: 1\ndefaults: {latency_p99: 60s}\n")
    assert main(["alerts", "render", "--budget", str(budget), "--output", str(tmp_path / "out")]) == 2
    assert "latency_p99: 60 s is more than the histogram's last bound, 10 s" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
