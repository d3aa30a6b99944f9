"""Every query of every dashboard and rule, executed by a real Prometheus on the example under load.

First all is well: each query must have data, save those declared "empty when healthy" and those that
need a program that is not here. Then everything goes wrong at once: the declared ones must have data
too, and every alert's expression.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from examples.demo.stack import ROOT, Stack, python_module, running_stack
from taximeter_alerts.pipeline import AGENT_ERRORS, COLLECTOR_DOWN, TELEMETRY_ABSENT
from taximeter_alerts.profile import PROFILES
from taximeter_alerts.recording import records
from taximeter_alerts.rules import alerts_file, all_alerts, recording_file
from taximeter_alerts.thresholds import of_budget
from taximeter_analysis.budget.loader import parse_budget
from taximeter_cli.supervise import Spec, free_port, port_open
from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards.catalogue import dashboards
from tests.collector.prometheus_binary import require_prometheus
from tests.dashboards.exporters import exporters
from tests.dashboards.faults import BUDGET, LONG, Small, faults, load, version
from tests.dashboards.queries import Placed, every_query, filled
from tests.dashboards.standins import Health, metrics_page
from tests.e2e import harness

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]
COLLECTOR = Path(__file__).with_name("collector.yaml")
WINDOWS = {"__rate_interval": "15s", "__range": "10m", "ago": "8s", "before": "1.0.0", "after": "2.0.0"}
#: Rules and limits that a minute's run can reach; expressions are those of every profile and budget.
PROFILE = replace(PROFILES["demo"], day="1m", history="1m")
THRESHOLDS = replace(
    of_budget(parse_budget(BUDGET))[0], min_lookups=50, embedding_factor=1.1, embedding_delta=0.05
)
EVERY_ALERT = {alert.name for alert in all_alerts(THRESHOLDS, PROFILE)}
AWAY = {COLLECTOR_DOWN, TELEMETRY_ABSENT}  # what a collector that is away must bring, while it is
AFTERWARDS = {AGENT_ERRORS}  # what agents tell once it is back
STOOD_IN = {"tempo", "prometheus-pgbouncer-exporter"}


@dataclass(frozen=True)
class Running:
    """The example under load with everything that watches it."""

    stack: Stack
    prometheus: harness.Prometheus
    small: Small
    health: Health


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two versions of the example under load, Prometheus, and the exporters that are installed."""
    binary = require_prometheus()
    directory = tmp_path_factory.mktemp("dashboards")
    second, small, health = free_port(), Small(), Health()
    with (
        metrics_page(health.others) as others,
        metrics_page(health.many) as many,
        running_stack(
            scale="small",
            latency_scale=0.2,
            service_env=version("1.0.0"),
            collector_config=COLLECTOR,
            collector_env={"SECOND_PORT": str(second)},
        ) as stack,
    ):
        argv = python_module("tests.e2e.receiver", second, directory / "received.txt")
        stack.supervisor.start(Spec("second", argv, cwd=ROOT, healthy=port_open(second)))
        small.start(stack)
        jobs = {
            c.SCRAPE_JOB: [stack.ports.prometheus, many],
            c.COLLECTOR_JOB: [stack.ports.telemetry, small.telemetry],
            c.DATABASE_JOB: [others],
            **exporters(stack),
        }
        prometheus = harness.start_prometheus(
            stack.supervisor, binary, stack.directory / "prometheus", jobs, write_rules(stack.directory)
        )
        load(stack, 5)
        stack.start_service(version("2.0.0"))
        load(stack, LONG, wait=False)
        yield Running(stack, prometheus, small, health)
        for name in stack.supervisor.processes.keys() - {"postgres"}:  # under load they end slowly
            stack.supervisor.kill(name)


def write_rules(folder: Path) -> Path:
    """The rule files with short windows; the pattern that names them."""
    for name, text in (
        ("recording", recording_file(THRESHOLDS, PROFILE)),
        ("alerts", alerts_file(THRESHOLDS, PROFILE)),
    ):
        (folder / f"rules-{name}.yaml").write_text(text)
    return folder / "rules-*.yaml"


def has_data(prometheus: harness.Prometheus, placed: Placed, *, positive: bool = False) -> bool:
    values = [sample.value for sample in prometheus.query(filled(placed.query.expr, WINDOWS))]
    return any(not math.isnan(value) and (value > 0 or not positive) for value in values)


def until_none(found: Callable[[], list[str]], seconds: float = 60) -> str:
    """What is still missing after the time that a loaded machine may take, one a line."""
    deadline = time.monotonic() + seconds
    while (left := found()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return "\n".join(left)


def missing(prometheus: harness.Prometheus, wanted: list[Placed], *, positive: bool = False) -> list[str]:
    """The queries without data, as executed."""
    return [
        f"{placed}: {filled(placed.query.expr, WINDOWS)}"
        for placed in wanted
        if not has_data(prometheus, placed, positive=positive)
    ]


def never_seen(prometheus: harness.Prometheus) -> list[str]:
    """Alerts whose expression has had no sample so far, and records without data."""
    seen = {sample.labels["alertname"] for sample in prometheus.query("last_over_time(ALERTS[15m])")}
    recorded = {rule.name for rule in records(THRESHOLDS, PROFILE)}
    return sorted(EVERY_ALERT - seen) + sorted(
        name for name in recorded if not prometheus.query(f"last_over_time({name}[15m])")
    )


def test_every_query_has_data_while_all_is_well(running: Running) -> None:
    present = running.stack.supervisor.processes.keys()
    healthy = [placed for placed in every_query() if not placed.query.empty_when_healthy]
    runnable = [placed for placed in healthy if not placed.query.needs or placed.query.needs in present]
    assert len(runnable) > 80
    assert until_none(lambda: missing(running.prometheus, runnable)) == ""


def test_every_rule_is_evaluated_and_records_what_it_should(running: Running) -> None:
    prometheus = running.prometheus
    wanted = [rule.name for rule in records(THRESHOLDS, PROFILE) if not rule.empty_when_healthy]
    assert until_none(lambda: [name for name in wanted if not prometheus.query(name)]) == ""
    answer = httpx.get(f"{prometheus.url}/api/v1/rules", trust_env=False, timeout=10).raise_for_status()
    rules = [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]
    assert len(rules) > 45
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def test_what_is_empty_when_healthy_has_data_when_it_is_not(running: Running) -> None:
    """Each query and each rule once, while everything is wrong.

    Queries that need a program that is neither here nor stood in for are all that is left out.
    """
    prometheus, stack = running.prometheus, running.stack
    queries = [
        placed
        for placed in every_query()
        if placed.query.needs in STOOD_IN or (placed.query.empty_when_healthy and not placed.query.needs)
    ]

    def left() -> list[str]:
        queries[:] = [placed for placed in queries if not has_data(prometheus, placed, positive=True)]
        return [f"{each}: {filled(each.query.expr, WINDOWS)}" for each in queries] + never_seen(prometheus)

    with faults(stack, running.small, running.health):
        until_none(lambda: [name for name in left() if name in EVERY_ALERT - AWAY - AFTERWARDS], seconds=90)
        stack.supervisor.stop("collector")
        until_none(lambda: [name for name in never_seen(prometheus) if name in AWAY], seconds=90)
        stack.start_collector()
        assert until_none(left, seconds=120) == ""


def test_choices_have_values_and_exemplars_lead_to_traces(
    running: Running,
) -> None:
    prometheus = running.prometheus
    choices = {variable for board in dashboards() for variable in board.variables if variable.metric}
    for choice in choices:
        query = {"match[]": choice.metric}
        answer = httpx.get(
            f"{prometheus.url}/api/v1/label/{choice.label}/values", params=query, trust_env=False
        )
        assert answer.raise_for_status().json()["data"], choice
    for board in dashboards():
        for panel in board.panels():
            for query_ in (query for query in panel.queries if query.exemplars):
                assert "_bucket" in query_.expr, panel.title
    exemplars = prometheus.exemplars(c.REQUESTS.bucket)
    assert exemplars
    assert all(len(exemplar["labels"]["trace_id"]) == 32 for exemplar in exemplars)
