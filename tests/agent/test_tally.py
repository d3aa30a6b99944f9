"""Our own instruments: exact under threads, bounded, born at 0; the SDK's where a reader wants deltas."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from taximeter import bounds, guard, metering, metricexport, noted, retry, semconv


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> metering.MeterProvider:
    return metering.MeterProvider([reader], shutdown_on_exit=False)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    guard.reset()


def collected(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


def test_sums_are_exact_under_threads(reader: InMemoryMetricReader, provider: metering.MeterProvider) -> None:
    meter = provider.get_meter("t")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    times, threads = 5_000, 8

    def work() -> None:
        for number in range(times):
            counter.add(1, {"route": str(number % 3)})
            histogram.record(number % 7, {"route": "/"})

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    reader.collect()  # the zeros
    assert sum(point.value for point in collected(reader, "c")) == times * threads
    (point,) = collected(reader, "h")
    assert point.count == sum(point.bucket_counts) == times * threads
    assert point.sum == threads * sum(number % 7 for number in range(times))
    assert (point.min, point.max) == (0, 6)


def test_a_counter_is_born_at_zero_save_in_the_last_export(
    reader: InMemoryMetricReader, provider: metering.MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    money = provider.get_meter("t").create_counter(semconv.COST_USD, "{USD}")
    money.add(500.0, {"model": "a"})
    assert [point.value for point in collected(reader, semconv.COST_USD)] == [0.0]
    assert [point.value for point in collected(reader, semconv.COST_USD)] == [500.0]
    money.add(1.0, {"model": "b"})
    monkeypatch.setattr(retry, "hurrying", lambda: True)
    assert [point.value for point in collected(reader, semconv.COST_USD)] == [500.0, 1.0]


def test_bounds_are_upper_and_inclusive_and_two_seconds_is_one(
    reader: InMemoryMetricReader, provider: metering.MeterProvider
) -> None:
    meter = provider.get_meter("t")
    for name in bounds.BOUNDS:
        if name.endswith(".duration"):
            meter.create_histogram(name, "s").record(2.0)
            (point,) = collected(reader, name)
            assert 2.0 in point.explicit_bounds
            assert list(point.explicit_bounds) == sorted(point.explicit_bounds)
            assert point.bucket_counts[point.explicit_bounds.index(2.0)] == 1


def test_series_are_limited_and_totals_stay_right(
    reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch, lenient: None
) -> None:
    monkeypatch.setenv("TAXIMETER_SERIES_LIMIT", "3")
    provider = metering.MeterProvider([reader], shutdown_on_exit=False)
    histogram = provider.get_meter("t").create_histogram("h")
    for number in range(10):
        histogram.record(1, {"path": f"/{number}"})
        histogram.record(1, {"path": "/0"})
    points = {str(dict(point.attributes)): point.count for point in collected(reader, "h")}
    assert points == {
        "{'path': '/0'}": 11,
        "{'path': '/1'}": 1,
        "{'path': '/2'}": 1,
        "{'otel.metric.overflow': True}": 7,
    }
    assert guard.counts()["metrics.limit"] == 1  # said once


def test_equal_labels_are_one_series_in_any_order_and_as_lists(
    reader: InMemoryMetricReader, provider: metering.MeterProvider
) -> None:
    histogram = provider.get_meter("t").create_histogram("h")
    histogram.record(1, {"a": 1, "b": 2})
    histogram.record(1, {"b": 2, "a": 1})
    histogram.record(1, {"a": ["x", "y"]})
    histogram.record(1, {"a": ["x", "y"]})
    assert sorted(point.count for point in collected(reader, "h")) == [2, 2]


def test_an_exemplar_names_a_sampled_span_and_is_told_once(
    reader: InMemoryMetricReader, provider: metering.MeterProvider
) -> None:
    histogram = provider.get_meter("t").create_histogram("h")
    histogram.record(1)  # outside any span
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        histogram.record(2)
    (point,) = collected(reader, "h")
    assert [one.trace_id for one in point.exemplars] == [span.get_span_context().trace_id]
    (point,) = collected(reader, "h")
    assert point.exemplars == []


def test_nonsense_is_left_out(reader: InMemoryMetricReader, provider: metering.MeterProvider) -> None:
    meter = provider.get_meter("t")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    for amount in (-1, float("nan"), float("inf")):
        counter.add(amount)
        histogram.record(amount)
    assert collected(reader, "c") == [] and collected(reader, "h") == []


def test_one_name_is_one_instrument_within_its_scope(provider: metering.MeterProvider) -> None:
    first = provider.get_meter("t").create_counter("c")
    assert provider.get_meter("t").create_counter("c") is first
    assert provider.get_meter("u").create_counter("c") is not first


def test_a_reader_that_wants_deltas_gets_the_sdks_instruments() -> None:
    reader = InMemoryMetricReader(preferred_temporality={Histogram: AggregationTemporality.DELTA})
    histogram = metering.MeterProvider([reader], shutdown_on_exit=False).get_meter("t").create_histogram("h")
    for _ in range(2):
        histogram.record(1.0)
        assert [point.count for point in collected(reader, "h")] == [1]


def test_what_is_encoded_a_few_at_a_time_is_what_the_official_encoder_says(
    reader: InMemoryMetricReader, provider: metering.MeterProvider
) -> None:
    for scope in ("one", "two"):
        meter = provider.get_meter(scope, "1", "https://schema", {"of": "scope"})
        for number in range(40):
            meter.create_histogram("seconds", "s", "Time.").record(number / 7, {"n": number})
            meter.create_counter("calls").add(number, {"n": str(number)})
        meter.create_up_down_counter("open").add(-2)
        meter.create_observable_gauge("level", [lambda _: [Observation(1.5, {"a": ["b", "c"]})]])
    data = reader.get_metrics_data()
    assert data is not None
    assert ExportMetricsServiceRequest.FromString(metricexport.encode(data)) == encode_metrics(data)


def test_it_begins_anew(reader: InMemoryMetricReader, provider: metering.MeterProvider) -> None:
    """As a forked child does, in which another thread may have held the locks."""
    histogram = provider.get_meter("t").create_histogram("h")
    histogram.record(1)
    noted._lock.acquire()
    provider._tallies_lock.acquire()
    provider.renew()
    histogram.record(2)
    assert [(point.count, point.sum) for point in collected(reader, "h")] == [(1, 2)]
