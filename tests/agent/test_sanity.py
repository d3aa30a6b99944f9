"""Absurd settings cost one clear line each, and never the telemetry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taximeter import sanity
from tests.agent.conftest import Start
from tests.agent.receiver import Receiver

ABSURD = {
    "TAXIMETER_LABEL_LIMIT": ("inf", "nan", "-1", "1e400", "many", "99999999999"),
    "TAXIMETER_FLUSH_TIMEOUT": ("inf", "nan", "-1", "soon"),
    "TAXIMETER_LOG_LEVEL": ("loud",),
    "TAXIMETER_CAPTURE_CONTENT": (),
    "OTEL_BSP_MAX_QUEUE_SIZE": ("abc", "0", "-5", "10000000000", "1.5"),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": ("abc", "0", "-5"),
    "OTEL_BSP_SCHEDULE_DELAY": ("abc", "0", "inf"),
    "OTEL_METRIC_EXPORT_INTERVAL": ("abc", "0", "-1", "inf", "nan"),
    "OTEL_EXPORTER_OTLP_TIMEOUT": ("never", "inf", "-1", "0"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("nonsense", "ftp://x", "http://", "http://[", "http://x:99999999"),
    "OTEL_EXPORTER_OTLP_COMPRESSION": ("zip",),
    "OTEL_TRACES_EXPORTER": ("carrier-pigeon", "otlp,pigeon"),
    "OTEL_METRICS_EXPORTER": ("carrier-pigeon",),
    "OTEL_TRACES_SAMPLER": ("sometimes",),
    "OTEL_METRICS_EXEMPLAR_FILTER": ("sometimes",),
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": ("-1", "abc"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ABSURD.items() for value in values]
)
def test_what_cannot_work_is_replaced_and_named(name: str, value: str) -> None:
    environ = {name: value}
    (problem,) = sanity.repair(environ)
    assert problem.startswith(name)
    assert "using" in problem
    assert environ.get(name) != value
    assert sanity.repair(environ) == []


def test_what_works_is_left_alone() -> None:
    environ = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_TRACES_EXPORTER": "otlp,console",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:hush@collector:4318/x",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5",
        "OTEL_RESOURCE_ATTRIBUTES": "",
        "TAXIMETER_LABEL_LIMIT": "0",
    }
    before = dict(environ)
    assert sanity.repair(environ) == []
    assert environ == before


def test_a_sampling_rate_is_a_probability_and_a_batch_fits_its_queue() -> None:
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "20%"}
    assert "is not a number from 0 to 1" in sanity.repair(environ)[0].replace("0.0", "0").replace("1.0", "1")
    environ = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "500", "OTEL_BSP_MAX_QUEUE_SIZE": "10"}
    assert "is more than" in sanity.repair(environ)[0]
    assert environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] == "10"


def test_an_address_that_is_wrong_is_not_shown() -> None:
    (problem,) = sanity.repair({"OTEL_EXPORTER_OTLP_ENDPOINT": "me:hush@collector"})
    assert "hush" not in problem


@pytest.fixture
def fresh() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


def test_all_of_them_at_once_cost_no_metric(fresh: Receiver, start: Start) -> None:
    absurd = {
        name: values[0]
        for name, values in ABSURD.items()
        if values and name not in {"OTEL_EXPORTER_OTLP_ENDPOINT", "TAXIMETER_LOG_LEVEL"}
    }
    more = {
        "OTEL_EXPORTER_OTLP_HEADERS": "=;,,nonsense",
        "OTEL_RESOURCE_ATTRIBUTES": "garbage,=,a=b=c",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "nothing,at,all",
        "TAXIMETER_PRICES_FILE": "/nowhere/at/all.json",
        "TAXIMETER_CAPTURE_CONTENT": "gossip",
    }
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url, **absurd, **more)
    assert [service.get(f"/plain/{name}").status_code for name in "abc"] == [200] * 3
    service.stop()
    assert fresh.count("http.server.request.duration") == 3
    assert len(fresh.servers()) == 3
    log = service.log()
    for name in absurd:
        told = [line for line in log.splitlines() if line.startswith(f"WARNING taximeter: {name}")]
        assert len(told) == 1, (name, log)
    assert "Traceback" not in log
