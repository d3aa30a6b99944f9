"""Metrics out: names, exactness across restarts, and a real Prometheus at the end of the line."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import parser as plain_parser
from prometheus_client.openmetrics import parser as open_parser

from taximeter_collector.prometheus.expose import render
from taximeter_collector.prometheus.names import label_name, metric_name
from taximeter_collector.prometheus.series import Series
from taximeter_collector.prometheus.state import Options, State
from tests.collector.prometheus_binary import prometheus
from tests.collector.support import Collector, collector, free_port, set_value, span_store, wait_for

# Untyped in prometheus_client.
parse_open: Any = open_parser.text_string_to_metric_families
parse_plain: Any = plain_parser.text_string_to_metric_families
SECOND = 10**9
SCRAPER = {
    "accept": "application/openmetrics-text; version=1.0.0",
    "x-prometheus-scrape-timeout-seconds": "1",
}


@pytest.mark.parametrize(
    ("name", "unit", "form", "expected"),
    [
        ("http.server.request.duration", "s", "histogram", "http_server_request_duration_seconds"),
        ("taximeter.cost_usd", "{USD}", "counter", "taximeter_cost_usd_total"),
        ("taximeter.request.db.calls", "{call}", "counter", "taximeter_request_db_calls_total"),
        ("system.memory.usage", "By", "gauge", "system_memory_usage_bytes"),
        ("system.network.io", "By", "counter", "system_network_io_bytes_total"),
        ("cpu.utilization", "1", "gauge", "cpu_utilization_ratio"),
        ("up.down", "1", "updown", "up_down"),
        ("requests.total", "1", "counter", "requests_total"),
        ("wait_seconds", "s", "gauge", "wait_seconds"),
        ("io", "By/s", "gauge", "io_bytes_per_second"),
        ("io", "{packet}/s", "gauge", "io_per_second"),
        ("2xx", "", "gauge", "_2xx"),
        ("a..b--c", "", "gauge", "a_b_c"),
        ("x", "foos", "gauge", "x_foos"),
        ("gen_ai.client.token.usage", "{token}", "histogram", "gen_ai_client_token_usage"),
    ],
)
def test_names(name: str, unit: str, form: str, expected: str) -> None:
    assert metric_name(name, unit, monotonic=form == "counter", gauge=form == "gauge") == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("http.route", "http_route"), ("2xx", "key_2xx"), ("_x", "key_x"), ("ü", "key_")]
)
def test_label_names(name: str, expected: str) -> None:
    assert label_name(name) == expected


def points(*, delta: bool = False, instance: str = "i-1", **metrics: Any) -> Any:
    """One request. A number is a counter ``name``; a list of numbers a histogram with bounds 1 and 2."""
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    about = {"service.name": "svc", "service.namespace": "ns", "service.instance.id": instance, "region": "x"}
    for key, value in about.items():
        set_value(resource.resource.attributes.add(key=key).value, value)
    scope = resource.scope_metrics.add()
    for name, value in metrics.items():
        metric = scope.metrics.add(name=name)
        temporality: Any = 1 if delta else 2
        if isinstance(value, list):
            metric.histogram.aggregation_temporality = temporality
            point: Any = metric.histogram.data_points.add(count=len(value), sum=sum(value))
            point.explicit_bounds.extend([1, 2])
            counts = [0, 0, 0]
            for v in value:
                counts[0 if v <= 1 else 1 if v <= 2 else 2] += 1
            point.bucket_counts.extend(counts)
        else:
            metric.sum.aggregation_temporality = temporality
            metric.sum.is_monotonic = True
            point = metric.sum.data_points.add(as_double=value)
        set_value(point.attributes.add(key="http.route").value, "/a")
        point.start_time_unix_nano = time.time_ns()
        point.time_unix_nano = time.time_ns()
    return request


def state(drops: list[tuple[str, str]] | None = None, **options: Any) -> State:
    def on_drop(name: str, reason: str) -> None:
        if drops is None:
            raise AssertionError((name, reason))
        drops.append((name, reason))

    return State(Options(**options), on_drop)


def samples(text: str) -> dict[str, float]:
    """Sample name with its ``le`` to value; the newest when there are two."""
    found = {}
    for family in parse_open(text):
        for sample in family.samples:
            le = f"{{{sample.labels['le']}}}" if "le" in sample.labels else ""
            found[sample.name + le] = sample.value
    return found


def shown(made: State, **options: Any) -> dict[str, float]:
    return samples(render(made, time.time_ns(), open_metrics=True, **options))


def test_cumulative_points_replace_and_replays_change_nothing() -> None:
    made = state()
    first, second = points(c=3, h=[0.5, 1.5]), points(c=5, h=[0.5, 1.5, 3])
    for request in (first, second, first, second, first):
        made.apply(request, time.time_ns())
    assert shown(made) == {
        "c_total": 5,
        "h_bucket{1.0}": 1,
        "h_bucket{2.0}": 2,
        "h_bucket{+Inf}": 3,
        "h_count": 3,
        "h_sum": 5,
        "target_info": 1,
    }


def test_a_point_from_the_future_does_not_outrank_all_that_follow() -> None:
    made = state()
    early, late = points(c=3), points(c=5)
    early.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].time_unix_nano += 10**18
    made.apply(early, time.time_ns() - 60 * 10**9)
    made.apply(late, time.time_ns())
    assert shown(made)["c_total"] == 5


def test_delta_points_are_added() -> None:
    made = state()
    for _ in range(3):
        made.apply(points(delta=True, c=2, h=[0.5, 3]), time.time_ns())
    found = shown(made)
    assert (found["c_total"], found["h_count"], found["h_sum"], found["h_bucket{1.0}"]) == (6, 6, 10.5, 3)


def test_identity_labels_and_target_info() -> None:
    made = state(namespace="n", const_labels=(("env", "test"),))
    made.apply(points(c=1), time.time_ns())
    text = render(made, time.time_ns(), open_metrics=True)
    assert 'n_c_total{env="test",http_route="/a",instance="i-1",job="ns/svc"} 1.0' in text
    assert 'target_info{instance="i-1",job="ns/svc",env="test",region="x"} 1' in text
    plain = {f.name: f for f in parse_plain(render(made, time.time_ns(), open_metrics=False))}
    assert plain["n_c"].type == "counter"
    assert plain["target_info"].type == "gauge"


def test_label_values_are_escaped() -> None:
    made = state()
    request = points(c=1)
    value = 'a"b\\c\nd'
    request.resource_metrics[0].scope_metrics[0].metrics[0].description = value
    point = request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
    point.attributes[0].value.string_value = value
    made.apply(request, time.time_ns())
    [family] = [f for f in parse_open(render(made, 1, open_metrics=True)) if f.name == "c"]
    assert (family.documentation, family.samples[0].labels["http_route"]) == (value, value)


def test_what_cannot_be_shown_is_told() -> None:
    drops: list[tuple[str, str]] = []
    made = state(drops)
    request = points(c=1)
    metric = request.resource_metrics[0].scope_metrics[0].metrics.add(name="e")
    metric.exponential_histogram.data_points.add()
    conflict = request.resource_metrics[0].scope_metrics[0].metrics.add(name="c_total")
    conflict.gauge.data_points.add(as_int=1)
    made.apply(request, time.time_ns())
    assert drops == [("e", "unspecified_temporality"), ("c_total", "type_conflict")]
    assert shown(made)["c_total"] == 1


def test_series_expire_and_a_return_is_no_birth() -> None:
    made = state(expiration_ns=60 * SECOND)
    begun = time.time_ns()
    made.apply(points(cost_usd=1), begun)
    made.expire(begun + 59 * SECOND)
    assert len(parsed_money(made)) == 2, "a 0 first"
    made.expire(begun + 61 * SECOND)
    assert shown(made) == {}
    made.apply(points(cost_usd=2), begun + 62 * SECOND)
    assert [value for value, _ in parsed_money(made)] == [2.0]


def parsed_money(made: State) -> list[tuple[float, Any]]:
    text = render(made, time.time_ns(), open_metrics=True, births=True)
    return [(s.value, s.timestamp) for f in parse_open(text) if f.name == "cost_usd" for s in f.samples]


def test_money_begins_at_0_once_and_is_exact_at_once() -> None:
    made = state()
    made.apply(points(cost_usd=0.1, other=5), time.time_ns())
    assert shown(made)["cost_usd_total"] == 0.1, "who is no Prometheus does not take the 0 away"
    (zero, born), (value, now) = parsed_money(made)
    assert (zero, value) == (0, 0.1)
    assert now > born
    assert [value for value, _ in parsed_money(made)] == [0.1]


def test_a_process_that_began_again_under_its_old_name_begins_at_0_again() -> None:
    """One failure before and one after are 1 and 1: without the 0 between them, the second is never seen."""
    made = state()

    def values() -> list[float]:
        text = render(made, time.time_ns(), open_metrics=True, births=True)
        return [s.value for f in parse_open(text) if f.name == "taximeter_agent_errors" for s in f.samples]

    first = points(taximeter_agent_errors=1, other=1)
    made.apply(first, time.time_ns())
    assert values() == [1]
    made.apply(again(first), time.time_ns())  # the same process: no restart
    assert values() == [1]
    made.apply(points(taximeter_agent_errors=1, other=1), time.time_ns())
    assert values() == [0, 1]
    assert values() == [1]
    made.apply(points(taximeter_agent_errors=0.5), time.time_ns())  # a fall says it by itself
    assert values() == [0.5]


def again(request: Any) -> Any:
    """The same, a moment later."""
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        metric.sum.data_points[0].time_unix_nano = time.time_ns()
    return request


def test_money_that_began_before_the_state_does_not_begin_at_0() -> None:
    request = points(cost_usd=100)
    made = state()  # created after the series began
    made.apply(request, time.time_ns())
    assert [value for value, _ in parsed_money(made)] == [100]


def test_a_series_survives_its_checkpoint() -> None:
    made = state()
    made.apply(points(c=0.1 + 0.2, h=[1, 5]), time.time_ns())
    for group in made.series.values():
        for series in group.values():
            assert Series.decode(series.encode()) == series


def provider(made: Collector, temporality: AggregationTemporality, interval_ms: int = 100) -> MeterProvider:
    exporter = OTLPMetricExporter(
        endpoint=made.url("/v1/metrics"), preferred_temporality={Counter: temporality, Histogram: temporality}
    )
    resource = Resource.create({"service.name": "hotel", "service.instance.id": str(temporality)})
    return MeterProvider([PeriodicExportingMetricReader(exporter, interval_ms)], resource=resource)


def test_scrape_and_kill_9(tmp_path: Path) -> None:
    """Counts stay exact through crashes, for cumulative and for delta senders alike."""
    port = free_port()
    exporters = {"prometheus": {"endpoint": f"127.0.0.1:{port}", "enable_open_metrics": True}}

    def scrape(accept: str = "application/openmetrics-text") -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"accept": accept})

    with collector(tmp_path, exporters, {"metrics": ["prometheus"]}) as made:
        made.start()
        meters = [provider(made, t, 60_000) for t in AggregationTemporality if t.value]
        counters = [m.get_meter("m").create_counter("calls", unit="{call}") for m in meters]
        expected = 0.0
        for round_ in range(3):
            for counter in counters:
                counter.add(round_ + 0.1, {"http.route": "/a"})
            expected += round_ + 0.1
            for meter in meters:
                assert meter.force_flush()
            if round_ == 1:
                wait_for(made.settled, "applied")
            made.kill()
            made.start()
        wait_for(made.settled, "applied")
        wait_for(lambda: scrape().status_code == 200, "caught up")
        for accept, parse in (("application/openmetrics-text", parse_open), ("text/plain", parse_plain)):
            response = scrape(accept)
            assert response.headers["content-type"].startswith(accept)
            values = [s.value for f in parse(response.text) if f.name == "calls" for s in f.samples]
            assert values == pytest.approx([expected, expected], rel=1e-12)
        for meter in meters:
            meter.shutdown()
        assert httpx.get(f"http://127.0.0.1:{port}/other").status_code == 404


@pytest.mark.prometheus
def test_a_real_prometheus_counts_money_and_exemplars(tmp_path: Path) -> None:
    port = free_port()
    exporters = {
        "prometheus": {"endpoint": f"127.0.0.1:{port}", "enable_open_metrics": True},
        "span_store": span_store(tmp_path),
    }
    pipelines = {"metrics": ["prometheus"], "traces": ["span_store"]}
    with (
        collector(tmp_path, exporters, pipelines) as made,
        prometheus(tmp_path / "prometheus", f"127.0.0.1:{port}", f"127.0.0.1:{made.ports['own']}") as server,
    ):
        made.start()
        resource = Resource.create({"service.name": "hotel", "service.instance.id": "1"})
        spans = TracerProvider(resource=resource)
        spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=made.url())))
        tracer = spans.get_tracer("test")
        metrics = provider(made, AggregationTemporality.CUMULATIVE)
        meter = metrics.get_meter("m")
        duration = meter.create_histogram("http.server.request.duration", unit="s")
        cost = meter.create_counter("taximeter.cost_usd", unit="{USD}")
        wait_for(lambda: server.value(f'up{{job="taximeter",instance=~".*{port}"}}') == 1, "a scrape")
        money = 0.0
        for number in range(40):
            with tracer.start_as_current_span("GET /chat"):
                duration.record(0.001 * number, {"http.route": "/chat"})
                cost.add(0.0125 + number / 1e6, {"http.route": "/chat"})
                money += 0.0125 + number / 1e6
            if number == 20:
                assert metrics.force_flush()
                made.kill()
                made.start()
        spans.shutdown()
        metrics.shutdown()
        wait_for(made.settled, "delivered")
        count = 'http_server_request_duration_seconds_count{job="hotel",http_route="/chat"}'
        wait_for(lambda: server.value(count) == 40, "the count")
        assert server.value('sum(taximeter_cost_usd_total{http_route="/chat"})') == pytest.approx(
            money, rel=1e-12
        )
        # The first value is part of the rise, since the series began at 0.
        history = server.get("query", query="taximeter_cost_usd_total[1m]")["result"][0]["values"]
        assert float(history[0][1]) == 0
        assert [float(v) for _, v in history] == sorted(float(v) for _, v in history), (
            "no reset by the restart"
        )
        now = time.time()
        found = server.get(
            "query_exemplars", query=count.replace("_count", "_bucket"), start=now - 60, end=now
        )
        traces = {e["labels"]["trace_id"] for series in found for e in series["exemplars"]}
        assert traces
        assert traces <= stored_traces(tmp_path / "store")
        wait_for(lambda: server.value("sum(otelcol_exporter_queue_size)") == 0, "a scrape of empty queues")


def stored_traces(store: Path) -> set[str]:
    import pyarrow.parquet as pq

    ids = set()
    for path in (store / "spans").glob("*.parquet"):
        table = pq.read_table(path, columns=["trace_hi", "trace_lo"]).to_pydict()
        ids |= {f"{hi:016x}{lo:016x}" for hi, lo in zip(table["trace_hi"], table["trace_lo"], strict=True)}
    return ids


def test_one_hostile_metric_does_not_take_down_the_page() -> None:
    """Each of these once made a Prometheus refuse the whole scrape, everybody's metrics included."""
    dropped: list[str] = []
    state = State(Options(), lambda name, reason: dropped.append(reason))
    request = points(good=5)
    resource = request.resource_metrics[0]
    set_value(resource.resource.attributes.add(key="job").value, "nightly")
    metrics = resource.scope_metrics[0].metrics
    metrics.add(name="温度").gauge.data_points.add(as_int=1)
    named = metrics.add(name="named").gauge.data_points.add(as_int=1)
    for key in ("__name__", "", "le", "quantile", "instance"):
        set_value(named.attributes.add(key=key).value, "x")
    buckets = metrics.add(name="latency").histogram
    buckets.aggregation_temporality = 2
    fine = buckets.data_points.add(explicit_bounds=[1, 2], bucket_counts=[1, 1, 1], count=3, sum=4)
    set_value(fine.attributes.add(key="le").value, "mine")
    buckets.data_points.add(explicit_bounds=[1], bucket_counts=[1, 1, 1, 1], count=4, sum=4)
    state.apply(request, time.time_ns())
    for open_metrics, parse in ((True, parse_open), (False, parse_plain)):
        text = render(state, time.time_ns(), open_metrics=open_metrics)
        found = {sample.name: sample.value for family in parse(text) for sample in family.samples}
        assert found["good_total"] == 5
        assert found["named"] == 1
        for line in text.splitlines():
            labels = re.findall(r'[{,]([a-zA-Z_][a-zA-Z0-9_]*)="', line)
            assert len(labels) == len(set(labels)), line
    assert sorted(dropped) == ["bucket_counts", "invalid_name"]


def test_a_clock_that_is_ahead_is_seen_for_five_minutes() -> None:
    state, now = State(Options(), lambda name, reason: None), time.time_ns()

    def send(job: str, ahead_s: float, received_ns: int) -> float:
        request = points(good=1)
        set_value(request.resource_metrics[0].resource.attributes[0].value, job)
        data = request.resource_metrics[0].scope_metrics[0].metrics[0].sum
        data.data_points[0].time_unix_nano = received_ns + int(ahead_s * 1e9)
        state.apply(request, received_ns)
        return state.lead.seconds(received_ns)

    assert send("honest", -0.1, now) == 0
    assert send("ahead", 3600, now) == pytest.approx(3600)
    assert send("honest", 0, now + 10**9) == pytest.approx(3600)
    assert state.lead.job == "ns/ahead"
    assert send("honest", 0, now + 301 * 10**9) == 0
