"""Exponential histograms of the official SDK: exact at every bound that is shown."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from taximeter_collector.prometheus.expose import render
from taximeter_collector.prometheus.series import Series
from tests.collector.test_prometheus import samples, state


class Sender:
    """A real SDK whose histogram is exponential."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self._reader = InMemoryMetricReader(preferred_temporality={Histogram: temporality})
        view = View(instrument_name="took", aggregation=ExponentialBucketHistogramAggregation())
        provider = MeterProvider([self._reader], views=[view], shutdown_on_exit=False)
        self._histogram = provider.get_meter("m").create_histogram("took", "s")
        self.values: list[float] = []

    def record(self, *values: float) -> None:
        for value in values:
            self._histogram.record(value)
            self.values.append(value)

    def request(self) -> Any:
        data = self._reader.get_metrics_data()
        assert data is not None
        return encode_metrics(data)


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
def test_counts_at_every_bound_are_exact(temporality: AggregationTemporality) -> None:
    rnd, sender, made = random.Random(4), Sender(temporality), state()
    bounds: set[str] = set()
    for spread in (0.1, 1.0, 3.0, 9.0):
        sender.record(*(rnd.lognormvariate(-2, spread) for _ in range(500)), 0.0)
        made.apply(sender.request(), time.time_ns())
        shown = samples(render(made, time.time_ns(), open_metrics=True))
        buckets = {k.split("{")[1][:-1]: v for k, v in shown.items() if k.startswith("took_seconds_bucket")}
        for edge, count in buckets.items():
            assert count == sum(value <= float(edge) * (1 + 1e-12) for value in sender.values), edge
        assert shown["took_seconds_count"] == len(sender.values)
        assert shown["took_seconds_sum"] == pytest.approx(sum(sender.values))
        series = next(iter(made.series["took_seconds"].values()))
        assert bounds <= set(buckets) or series.scale == 0, "bounds only grow while the sender is as fine"
        bounds = set(buckets)
        assert Series.decode(series.encode()) == series
    assert 20 < len(bounds) < 170


def test_a_reset_begins_anew() -> None:
    made = state()
    for count in (5, 2):
        sender = Sender(AggregationTemporality.CUMULATIVE)
        sender.record(*[1.5] * count)
        made.apply(sender.request(), time.time_ns())
        assert samples(render(made, time.time_ns(), open_metrics=True))["took_seconds_count"] == count


@pytest.mark.parametrize(
    ("scale", "offset", "counts"),
    [(99, 0, [1]), (-99, 0, [1]), (0, 2**31 - 1, [1]), (-10, -(2**31), [1]), (20, 2**31 - 1, [1])],
)
def test_senseless_numbers_are_dropped(scale: int, offset: int, counts: list[int]) -> None:
    drops: list[tuple[str, str]] = []
    made = state(drops)
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="x")
    metric.exponential_histogram.aggregation_temporality = 2  # type: ignore[assignment]
    point = metric.exponential_histogram.data_points.add(scale=scale, count=1, time_unix_nano=1)
    point.positive.offset = offset
    point.positive.bucket_counts.extend(counts)
    made.apply(request, time.time_ns())
    assert drops == [("x", "bucket_counts")]


def test_a_huge_range_costs_no_more_than_its_bounds() -> None:
    made = state()
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="x")
    metric.exponential_histogram.aggregation_temporality = 2  # type: ignore[assignment]
    point = metric.exponential_histogram.data_points.add(scale=5, count=100_000, time_unix_nano=1)
    point.positive.offset = -30_000
    point.positive.bucket_counts.extend([1] * 60_000)
    point.count = 60_000
    made.apply(request, time.time_ns())
    (series,) = made.series["x"].values()
    assert len(series.buckets) <= 162
    assert sum(series.buckets) == 60_000
