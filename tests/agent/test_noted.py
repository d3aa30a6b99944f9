"""Measurements that wait: each is booked once, whatever other threads or a signal do meanwhile."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taximeter import export, guard, metering, noted, redact, tally


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader: InMemoryMetricReader) -> Iterator[Any]:
    noted.renew()
    provider = metering.MeterProvider([reader], shutdown_on_exit=False)
    yield provider.get_meter("t")
    noted.renew()
    guard.reset()


def points(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]


def test_labels_are_those_of_the_call(reader: InMemoryMetricReader, meter: Any) -> None:
    labels: dict[str, Any] = {"a": 1, "b": ["x"]}
    histogram = meter.create_histogram("h")
    histogram.record(1, labels)
    labels["a"] = 2
    labels["b"].append("y")
    histogram.record(1, labels)
    histogram.record(1, noted.Labels({"b": ("x", "y"), "a": 2}))
    found = [(dict(point.attributes), point.count) for point in points(reader)]
    assert found == [({"a": 1, "b": ("x",)}, 1), ({"a": 2, "b": ("x", "y")}, 2)]


def test_one_that_cannot_be_booked_costs_no_other(
    reader: InMemoryMetricReader, meter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXIMETER_STRICT", "")
    histogram = meter.create_histogram("h")
    for amount in (1, "many", 2, None, 4):
        histogram.record(amount)
    histogram.record(8, {"a": {"of": "no use"}})  # a mapping cannot be told apart
    assert [(point.count, point.sum) for point in points(reader)] == [(3, 7)]
    assert guard.counts()["metrics.book"] == 3


def test_what_waits_is_let_go_by_the_garbage_collector(meter: Any) -> None:
    meter.create_histogram("h").record(0.5, {"route": "/", "status": 200})
    gc.collect(0)  # the labels
    gc.collect(1)  # what holds them
    assert not any(map(gc.is_tracked, noted.waiting))


def test_few_wait_and_many_never(reader: InMemoryMetricReader, meter: Any) -> None:
    counter = meter.create_counter("c")
    for _ in range(noted.FEW - 1):
        counter.add(1)
    assert len(noted.waiting) == noted.FEW - 1
    counter.add(1)
    assert 0 < len(noted.waiting) < noted.FEW
    with noted.booked(final=False):  # a long collection: who measures does not wait for it, up to a bound
        threads = [threading.Thread(target=lambda: [counter.add(1) for _ in range(10_000)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.5)
        assert noted.MOST <= len(noted.waiting) <= noted.MOST + len(threads)
    for thread in threads:
        thread.join()
    reader.collect()  # the zeros
    assert [point.value for point in points(reader)] == [noted.FEW + 20_000]


def test_the_thread_that_exports_spans_books_what_waits(meter: Any) -> None:
    counter = meter.create_counter("c")
    for _ in range(1000):
        counter.add(1)
    export.GuardedExporter(InMemorySpanExporter(), redact.Redactor()).export(())
    assert not noted.waiting
    assert [series.total for series in counter._series.values()] == [1000]


def test_the_last_export_does_not_wait_for_who_waits_for_it(
    meter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal's handler runs where a thread books, and waits for the thread that exports."""
    monkeypatch.setattr(noted, "_PATIENCE", 0.01)
    counter = meter.create_counter("c")
    counter.add(1)
    with noted._lock:
        thread = threading.Thread(target=lambda: noted.booked(final=True).__enter__())
        thread.start()
        thread.join(5)
        assert not noted.waiting
    counter.add(1)
    with noted.booked(final=False):
        assert [series.total for series in counter._series.values()] == [2]


def test_a_measurement_taken_in_the_midst_of_booking_waits(
    meter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a finalizer may take one, in the very thread that books."""
    monkeypatch.setattr(noted, "MOST", 1)
    counter = meter.create_counter("c")
    book = tally.TallyCounter.book

    def booked(self: Any, key: noted.Key, amount: Any, *exemplar: int) -> None:
        book(self, key, amount, *exemplar)
        if amount == 1:
            monkeypatch.setattr(noted, "FEW", 1)
            self.add(100)

    monkeypatch.setattr(tally.TallyCounter, "book", booked)
    counter.add(1)
    monkeypatch.setattr(noted, "FEW", 2)
    counter.add(2)
    with noted.booked(final=False):
        assert [series.total for series in counter._series.values()] == [103]


@pytest.mark.parametrize("how", ["settle", "booked"])
def test_a_finalizer_that_measures_where_all_is_booked_waits_for_nobody(
    meter: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(noted, "MOST", 1)
    monkeypatch.setattr(noted, "FEW", 1)
    counter = meter.create_counter("c")
    book = tally.TallyCounter.book

    def booked(self: Any, key: noted.Key, amount: Any, *exemplar: int) -> None:
        book(self, key, amount, *exemplar)
        if amount == 1:
            self.add(100)

    monkeypatch.setattr(tally.TallyCounter, "book", booked)
    noted.waiting.append((counter._number, (), 1, 0, 0, 0))

    def run() -> None:
        if how == "settle":
            noted.settle()
        else:
            with noted.booked(final=True):
                pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    with noted.booked(final=False):
        assert [series.total for series in counter._series.values()] == [101]


def test_an_instrument_that_is_gone_is_not_booked(meter: Any) -> None:
    counter = tally.TallyCounter("gone")
    counter.add(1)
    del counter
    gc.collect()
    with noted.booked(final=False):
        assert not noted.waiting


def test_a_series_begins_where_all_before_it_was_booked(reader: InMemoryMetricReader, meter: Any) -> None:
    counter = meter.create_counter("c")
    counter.add(1, {"a": 1})
    (first,) = points(reader)
    counter.add(1, {"a": 2})
    second = points(reader)[1]
    assert first.start_time_unix_nano <= first.time_unix_nano <= second.start_time_unix_nano
    assert second.start_time_unix_nano <= second.time_unix_nano
