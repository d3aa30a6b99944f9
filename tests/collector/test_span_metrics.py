"""``span_metrics``: the official connector's series, and beside it where it is built."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from prometheus_client import parser

from taximeter_collector.config.loader import load
from taximeter_collector.errors import ConfigError
from tests.collector.support import Collector, collector, free_port, set_value, wait_for
from tests.official import official_collector

parse: Any = parser.text_string_to_metric_families
MS = 10**6
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def spans(first: int, count: int, *, tracestate: str = "", service: str = "shop") -> bytes:
    """Spans of three names, kinds and statuses, with durations from 1 ms up."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (("service.name", service), ("service.instance.id", "i-1"), ("region", "eu")):
        set_value(resource.resource.attributes.add(key=key).value, value)
    scope = resource.scope_spans.add()
    for number in range(first, first + count):
        span = scope.spans.add(
            trace_id=(number + 1).to_bytes(16), span_id=(number + 1).to_bytes(8), name=f"op-{number % 3}"
        )
        span.kind = number % 6  # type: ignore[assignment]
        span.status.code = number % 3  # type: ignore[assignment]
        span.trace_state = tracestate
        span.start_time_unix_nano = 10**18
        span.end_time_unix_nano = 10**18 + (number % 50) * 7 * MS + 500_000
        set_value(span.attributes.add(key="http.request.method").value, ("GET", "POST")[number % 2])
    return request.SerializeToString()


def shown(port: int) -> Series:
    """The span metrics on a page: by name and labels, without what tells collectors apart."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found: Series = {}
    for family in parse(text):
        for sample in family.samples:
            if "span" in sample.name and not sample.name.endswith("_created"):
                labels = {k: v for k, v in sample.labels.items() if k != "collector_instance_id" and v}
                if "le" in labels:
                    labels["le"] = str(float(labels["le"]))
                found[sample.name, frozenset(labels.items())] = sample.value
    return found


def of(series: Series, name: str, **labels: str) -> float:
    return sum(v for (n, have), v in series.items() if n == name and labels.items() <= dict(have).items())


@contextmanager
def measuring(folder: Path, port: int, **values: Any) -> Iterator[Collector]:
    exporters = {"prometheus": {"endpoint": f"127.0.0.1:{port}"}}
    with collector(folder, exporters, {"metrics": ["prometheus"]}) as made:
        made.config["connectors"] = {"spanmetrics": {"metrics_flush_interval": "200ms", **values}}
        made.config["service"]["pipelines"] = {
            "traces": {"receivers": ["otlp"], "exporters": ["spanmetrics"]},
            "metrics": {"receivers": ["spanmetrics"], "exporters": ["prometheus"]},
        }
        yield made


CALLS, COUNT, SUM = (
    f"traces_span_metrics_{name}"
    for name in ("calls_total", "duration_milliseconds_count", "duration_milliseconds_sum")
)


def test_calls_and_durations_outlive_kills(tmp_path: Path) -> None:
    port = free_port()
    with measuring(tmp_path, port) as made:
        for round_ in range(3):
            made.start()
            assert made.post(spans(round_ * 60, 60)).status_code == 200
            made.kill()
        made.start()
        wait_for(lambda: of(shown(port), CALLS) == 180, "180 calls")
        series = shown(port)
        assert of(series, COUNT) == 180
        assert of(series, SUM) == pytest.approx(sum(n % 50 * 7 + 0.5 for n in range(180)))
        assert of(series, CALLS, span_name="op-1") == 60
        assert of(series, CALLS, status_code="STATUS_CODE_ERROR", job="shop", instance="i-1") == 60
        assert of(series, CALLS, span_kind="SPAN_KIND_SERVER") == 30
        bucket = "traces_span_metrics_duration_milliseconds_bucket"
        assert of(series, bucket, le="50.0") == sum(n % 50 * 7 + 0.5 <= 50 for n in range(180))
        # A quarter of spans kept upstream: each stands for four.
        assert made.post(spans(1000, 60, tracestate="ot=th:c")).status_code == 200
        wait_for(lambda: of(shown(port), CALLS) == 180 + 240, "the sampled ones")
        assert made.stop() == 0


def test_dimensions_units_and_a_bound_on_series(tmp_path: Path) -> None:
    port = free_port()
    values = {
        "namespace": "",
        "histogram": {"unit": "s", "explicit": {"buckets": ["10ms", "100ms"]}},
        "dimensions": [
            {"name": "http.request.method"},
            {"name": "region"},
            {"name": "team", "default": "web"},
            {"name": "absent"},
        ],
        "exclude_dimensions": ["span.name", "span.kind", "status.code"],
        "aggregation_cardinality_limit": 4,
    }
    with measuring(tmp_path, port, **values) as made:
        made.start()
        assert made.post(spans(0, 60)).status_code == 200
        page = f"http://127.0.0.1:{port}/metrics"
        wait_for(lambda: "calls_total" in httpx.get(page).text, "series")
        text = httpx.get(page).text
        line = next(x for x in text.splitlines() if x.startswith("calls_total") and "GET" in x)
        for label in ('region="eu"', 'team="web"', 'service_name="shop"'):
            assert label in line
        assert "span_name" not in text
        assert "absent" not in text
        assert 'duration_seconds_bucket{http_request_method="GET"' in text
        made.config["connectors"]["spanmetrics"]["exclude_dimensions"] = []
        made.stop()
        made.start()  # other dimensions: counting begins anew
        assert made.post(spans(100, 600)).status_code == 200
        wait_for(lambda: 'otel_metric_overflow="true"' in httpx.get(page).text, "the overflow series")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("histogram: {exponential: {}}", "the official collector has `exponential` here"),
        ("dimensions: [{default: x}]", "dimensions[0].name: is required"),
        ("dimensions: [{glob: x}]", "the official collector has `glob` here"),
        ("histogram: {explicit: {buckets: [1s, 10ms]}}", "is not a list of rising durations"),
        (
            "aggregation_temporality: AGGREGATION_TEMPORALITY_DELTA",
            "is not one of AGGREGATION_TEMPORALITY_CUM",
        ),
    ],
)
def test_what_it_has_not_is_refused(tmp_path: Path, values: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"connectors: {{spanmetrics: {{{values}}}}}")
    with pytest.raises(ConfigError) as caught:
        load([path], {})
    assert message in str(caught.value)


@contextmanager
def official(folder: Path, config: dict[str, Any]) -> Iterator[None]:
    binary = official_collector()
    (folder / "official.yaml").write_text(yaml.safe_dump(config))
    with (folder / "official.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "--config", str(folder / "official.yaml")], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_same_series_as_the_official_connector(tmp_path: Path) -> None:
    ours, theirs, otlp = free_port(), free_port(), free_port()
    with measuring(tmp_path, ours) as made:
        values = {"dimensions": [{"name": "http.request.method"}], "metrics_flush_interval": "200ms"}
        made.config["connectors"]["spanmetrics"] = values
        config = {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{otlp}"}}}},
            "exporters": {"prometheus": {"endpoint": f"127.0.0.1:{theirs}"}},
            "connectors": made.config["connectors"],
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": made.config["service"]["pipelines"],
            },
        }
        with official(tmp_path, config):
            made.start()
            headers = {"content-type": "application/x-protobuf"}

            def sent() -> bool:
                url = f"http://127.0.0.1:{otlp}/v1/traces"
                return httpx.post(url, content=spans(0, 300), headers=headers).status_code == 200

            wait_for(sent, "the official collector", 60)
            assert made.post(spans(0, 300)).status_code == 200
            wait_for(lambda: of(shown(ours), CALLS) == 300, "ours")
            wait_for(lambda: of(shown(theirs), CALLS) == 300, "theirs")
            wait_for(lambda: shown(ours) == pytest.approx(shown(theirs)), "the same series")
            assert len(shown(ours)) > 100
