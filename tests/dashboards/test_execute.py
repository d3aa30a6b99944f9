"""Every query of every dashboard, executed by a real Prometheus on the example under load.

First all is well: each query must have data, save those declared "empty when healthy" and those that
need a program that is not here. Then faults are injected, and the declared ones must have data too.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from examples.demo.stack import ROOT, Stack, python_module, running_stack
from taximeter_alerts.profile import PROFILES
from taximeter_alerts.recording import records
from taximeter_alerts.rules import alerts_file, recording_file
from taximeter_alerts.thresholds import Thresholds
from taximeter_cli.supervise import Spec, free_port, http_healthy, port_open
from taximeter_collector.prometheus.catalogue import REQUESTS
from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.database import EXPORTER
from tests.collector.prometheus_binary import require_prometheus
from tests.dashboards.queries import Placed, every_query, filled
from tests.e2e import harness

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]
COLLECTOR = Path(__file__).with_name("collector.yaml")
WINDOWS = {"__rate_interval": "15s", "__range": "10m", "ago": "8s", "before": "1.0.0", "after": "2.0.0"}
#: No fault from outside makes an agent fail inside: its hooks are tested where they are.
UNPROVOKED = "Failures inside agents"
LONG = 600.0  # of load, bounded; the stack's end ends it
QUICK = {"OTEL_METRIC_EXPORT_INTERVAL": "1000"}


def version(number: str, **more: str) -> dict[str, str | None]:
    return {**QUICK, "OTEL_RESOURCE_ATTRIBUTES": f"service.version={number}", **more}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, harness.Prometheus]]:
    """The example with two versions under load, Prometheus, and Postgres's exporter where there is one."""
    binary = require_prometheus()
    directory = tmp_path_factory.mktemp("dashboards")
    second = free_port()
    with running_stack(
        scale="small",
        latency_scale=0.2,
        service_env=version("1.0.0"),
        collector_config=COLLECTOR,
        collector_env={"SECOND_PORT": str(second)},
    ) as stack:
        argv = python_module("tests.e2e.receiver", second, directory / "received.txt")
        stack.supervisor.start(Spec("second", argv, cwd=ROOT, healthy=port_open(second)))
        jobs = {
            "taximeter": [stack.ports.prometheus],
            "taximeter-collector": [stack.ports.telemetry],
            **exporters(stack),
        }
        prometheus = harness.start_prometheus(
            stack.supervisor, binary, stack.directory / "prometheus", jobs, write_rules(stack.directory)
        )
        load(stack, 10)
        stack.start_service(version("2.0.0"))
        load(stack, LONG, wait=False)
        time.sleep(12)
        yield stack, prometheus


def without_tls(dsn: str) -> str:
    """Go's driver asks for TLS unless told otherwise."""
    if "://" not in dsn:
        return f"{dsn} sslmode=disable"
    return f"{dsn}{'&' if '?' in dsn else '?'}sslmode=disable"


def write_rules(folder: Path) -> Path:
    """The rule files with the demonstration's short windows; the pattern that names them."""
    for name, text in (
        ("recording", recording_file(profile=PROFILES["demo"])),
        ("alerts", alerts_file(profile=PROFILES["demo"])),
    ):
        (folder / f"rules-{name}.yaml").write_text(text)
    return folder / "rules-*.yaml"


def exporters(stack: Stack) -> dict[str, list[int]]:
    """Debian's exporters of the database and of its host: job to ports; those not installed are left out."""
    commands = {
        EXPORTER: {"DATA_SOURCE_NAME": without_tls(stack.postgres.dsn())},
        "prometheus-node-exporter": {},
    }
    found = {}
    for name, environment in commands.items():
        if (binary := shutil.which(name)) is not None:
            port = free_port()
            argv = [binary, f"--web.listen-address=127.0.0.1:{port}"]
            check = http_healthy(f"http://127.0.0.1:{port}/metrics")
            stack.supervisor.start(Spec(name, argv, env=environment, healthy=check))
            found[name] = [port]
    return found


def load(stack: Stack, seconds: float, *, wait: bool = True) -> None:
    process = stack.start_guests(duration=seconds, rate=25, guests=50)
    if wait:
        assert process.popen.wait(120) == 0, process.tail()


def has_data(prometheus: harness.Prometheus, placed: Placed, *, positive: bool = False) -> bool:
    values = [sample.value for sample in prometheus.query(filled(placed.query.expr, WINDOWS))]
    return any(not math.isnan(value) and (value > 0 or not positive) for value in values)


def missing(prometheus: harness.Prometheus, wanted: list[Placed], *, positive: bool = False) -> list[str]:
    """What has no data within the time that a loaded machine may take."""
    deadline = time.monotonic() + 60
    left = wanted
    while left := [placed for placed in left if not has_data(prometheus, placed, positive=positive)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return [f"{placed}: {filled(placed.query.expr, WINDOWS)}" for placed in left]


def test_every_query_has_data_while_all_is_well(running: tuple[Stack, harness.Prometheus]) -> None:
    stack, prometheus = running
    present = stack.supervisor.processes.keys()
    healthy = [placed for placed in every_query() if not placed.query.empty_when_healthy]
    runnable = [placed for placed in healthy if not placed.query.needs or placed.query.needs in present]
    assert len(runnable) > 80
    assert "\n".join(missing(prometheus, runnable)) == ""


def test_every_rule_is_evaluated_and_records_what_it_should(
    running: tuple[Stack, harness.Prometheus],
) -> None:
    _, prometheus = running
    wanted = {rule.name for rule in records(Thresholds(), PROFILES["demo"]) if not rule.empty_when_healthy}
    deadline = time.monotonic() + 60
    while wanted := {name for name in wanted if not prometheus.query(name)}:
        assert time.monotonic() < deadline, f"nothing recorded for {sorted(wanted)}"
        time.sleep(0.5)
    answer = httpx.get(f"{prometheus.url}/api/v1/rules", trust_env=False, timeout=10).raise_for_status()
    rules = [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]
    assert len(rules) > 45
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def test_what_is_empty_when_healthy_has_data_when_it_is_not(
    running: tuple[Stack, harness.Prometheus],
) -> None:
    stack, prometheus = running
    wanted = [placed for placed in every_query() if placed.query.empty_when_healthy]
    wanted = [placed for placed in wanted if not placed.query.needs and placed.panel.title != UNPROVOKED]
    with faults(stack):
        assert "\n".join(missing(prometheus, wanted, positive=True)) == ""


@contextlib.contextmanager
def faults(stack: Stack) -> Iterator[None]:
    """All at once: a collector that was away, unpriced calls, a bad sender, and a
    destination that is gone."""
    stack.start_service(version("2.0.1", OTEL_BSP_MAX_QUEUE_SIZE="64"))
    stack.supervisor.stop("collector")
    load(stack, 4)  # more spans than the agents' queue holds
    stack.start_collector()
    load(stack, LONG, wait=False)
    stack.supervisor.start(unpriced_calls(stack), wait=False)
    stack.supervisor.start(bad_sender(stack), wait=False)
    stack.supervisor.stop("second")
    yield


def unpriced_calls(stack: Stack) -> Spec:
    """A process under the agent whose streams report no usage, so that nothing can price them."""
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    environment: Mapping[str, str | None] = {
        **stack.provider_env,
        **QUICK,
        "OTEL_SERVICE_NAME": "batch",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.ports.otlp_http}",
    }
    argv = [instrument, *python_module("tests.dashboards.unpriced")]
    return Spec("unpriced", argv, env=environment, cwd=ROOT)


def bad_sender(stack: Stack) -> Spec:
    """Sends what is no OTLP, and the same request again and again."""
    url = f"http://127.0.0.1:{stack.ports.otlp_http}/v1/traces"
    argv = python_module("tests.dashboards.bad_sender", url)
    return Spec("bad-sender", argv, cwd=ROOT)


def test_choices_have_values_and_exemplars_lead_to_traces(
    running: tuple[Stack, harness.Prometheus],
) -> None:
    _, prometheus = running
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
    exemplars = prometheus.exemplars(REQUESTS.bucket)
    assert exemplars
    assert all(len(exemplar["labels"]["trace_id"]) == 32 for exemplar in exemplars)
