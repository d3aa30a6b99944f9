"""Every figure of a demo-like store against the same figure computed in plain Python."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Filters, Report, Store, open_store, report
from tests.analysis import oracle
from tests.analysis.stores import EPOCH_NS, Builder, hotel

USAGE = {
    "db_calls": "db_calls",
    "db_time_s": "db_duration_s",
    "model_calls": "model_calls",
    "model_attempts": "model_attempts",
    "embedding_calls": "embedding_calls",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cached_tokens",
    "cost_usd": "cost_usd",
    "unpriced_calls": "unpriced_calls",
    "cache_lookups": "cache_lookups",
    "cache_hits": "cache_hits",
    "embedding_inputs": "embedding_inputs",
    "embedding_duplicates": "embedding_duplicates",
}


def assert_usage(usage: Any, rows: oracle.Rows) -> None:
    assert usage.requests == len(rows)
    assert usage.errors == sum(oracle.failed(row) for row in rows)
    for name, column in USAGE.items():
        found, expected = getattr(usage, name), oracle.total(rows, column)
        if isinstance(expected, float):
            assert found == pytest.approx(expected, rel=1e-12, abs=0), name
        else:
            assert found == expected, name


def assert_quantiles(found: Any, values: list[float]) -> None:
    assert found.count == len(values)
    assert (found.p95_weak, found.p99_weak) == (len(values) < 59, len(values) < 299)
    if not values:
        assert found.p50 is found.p95 is found.p99 is found.max is None
        return
    assert found.p50 == pytest.approx(oracle.nearest_rank(values, 50), rel=1e-15)
    assert found.p95 == pytest.approx(oracle.nearest_rank(values, 95), rel=1e-15)
    assert found.p99 == pytest.approx(oracle.nearest_rank(values, 99), rel=1e-15)
    assert found.max == pytest.approx(max(values), rel=1e-15)


def test_totals(hotel_report: Report, hotel_rows: Builder) -> None:
    rows = hotel_rows.requests
    assert_usage(hotel_report.totals, rows)
    assert_quantiles(hotel_report.latency, [row["duration_ns"] / 1e9 for row in rows])
    assert hotel_report.error_rate == hotel_report.totals.errors / 2000
    first = min(row["start_ns"] for row in rows)
    last = max(row["start_ns"] + row["duration_ns"] for row in rows)
    assert hotel_report.window.observed_s == pytest.approx((last - first) / 1e9, rel=1e-12)
    assert hotel_report.requests_per_second == pytest.approx(2000 / ((last - first) / 1e9), rel=1e-12)
    assert hotel_report.services == ("hotel-chat",)


def test_the_spans_give_the_same_totals(hotel_report: Report, hotel_rows: Builder) -> None:
    spans, totals, counted = hotel_rows.spans, hotel_report.totals, hotel_report.totals_from_spans
    assert counted.requests == totals.requests == 2000
    assert counted.db_calls == totals.db_calls == sum(map(oracle.is_db, spans))
    assert counted.model_calls == totals.model_calls
    assert counted.embedding_calls == totals.embedding_calls
    assert counted.input_tokens == totals.input_tokens
    assert counted.output_tokens == totals.output_tokens
    assert counted.cached_tokens == totals.cached_tokens
    exact = math.fsum(span["cost_usd"] for span in spans if span.get("cost_usd") is not None)
    assert counted.cost_usd == pytest.approx(exact, rel=1e-12, abs=0)
    assert totals.cost_usd == pytest.approx(exact, rel=1e-12, abs=0)
    assert counted.outside_db_calls == counted.outside_model_calls == counted.outside_embedding_calls == 0


def test_routes(hotel_report: Report, hotel_rows: Builder) -> None:
    groups = oracle.group(hotel_rows.requests, "http_method", "http_route")
    assert {(route.method, route.route) for route in hotel_report.routes} == set(groups)
    time_used = []
    for route in hotel_report.routes:
        rows = groups[(route.method, route.route)]
        assert_usage(route.usage, rows)
        assert_quantiles(route.latency, [row["duration_ns"] / 1e9 for row in rows])
        assert_quantiles(route.first_byte, [row["first_byte_s"] for row in rows if row.get("first_byte_s")])
        size = len(rows)
        assert route.db_calls_per_request == sum(row["db_calls"] for row in rows) / size
        assert route.model_calls_per_request == sum(row["model_calls"] for row in rows) / size
        assert route.embedding_calls_per_request == sum(row["embedding_calls"] for row in rows) / size
        assert route.error_rate == sum(map(oracle.failed, rows)) / size
        assert route.streamed_share == sum(row["streamed"] for row in rows) / size
        assert route.slow_requests == sum(row["duration_ns"] >= 2e9 for row in rows)
        spent = math.fsum(row["cost_usd"] for row in rows)
        assert route.cost_per_request_usd == pytest.approx(spent / size, rel=1e-12)
        lookups = sum(row["cache_lookups"] for row in rows)
        hits = sum(row["cache_hits"] for row in rows)
        assert route.cache_hit_rate == (hits / lookups if lookups else None)
        assert route.label == f"{route.method} {route.route or '(no route)'}"
        time_used.append(sum(row["duration_ns"] for row in rows))
    assert time_used == sorted(time_used, reverse=True)


def test_time_split_by_route(hotel_report: Report, hotel_rows: Builder) -> None:
    by_trace = oracle.group(hotel_rows.spans, "trace_hi")
    groups = oracle.group(hotel_rows.requests, "http_method", "http_route")
    for route in hotel_report.routes:
        rows = groups[(route.method, route.route)]
        parts = [oracle.split(row, by_trace[(row["trace_hi"],)]) for row in rows]
        assert route.split is not None
        found = (route.split.db_s, route.split.model_s, route.split.http_s, route.split.other_s)
        assert found == pytest.approx(
            [math.fsum(part) for part in zip(*parts, strict=True)], rel=1e-9, abs=1e-9
        )
        whole = sum(row["duration_ns"] for row in rows) / 1e9
        assert sum(found) == pytest.approx(whole, rel=1e-9)
        assert route.db_time_share == pytest.approx(found[0] / whole, rel=1e-9)
        assert route.model_time_share == pytest.approx(found[1] / whole, rel=1e-9)


def test_tenants_and_models(hotel_report: Report, hotel_rows: Builder) -> None:
    groups = oracle.group(hotel_rows.requests, "tenant")
    assert {(item.tenant,) for item in hotel_report.tenants} == set(groups)
    for item in hotel_report.tenants:
        assert_usage(item.usage, groups[(item.tenant,)])
    calls = oracle.group(
        [span for span in hotel_rows.spans if oracle.is_ai(span)], "ai_response_model", "ai_operation"
    )
    assert {(item.model, item.operation) for item in hotel_report.models} == set(calls)
    for model in hotel_report.models:
        spans = calls[(model.model, model.operation)]
        assert model.calls == len(spans)
        assert model.input_tokens == sum(span["ai_input_tokens"] for span in spans)
        assert model.output_tokens == sum(span["ai_output_tokens"] for span in spans)
        assert model.cached_tokens == sum(span["ai_cache_read_tokens"] for span in spans)
        assert model.cost_usd == pytest.approx(math.fsum(span["cost_usd"] for span in spans), rel=1e-12)
        assert_quantiles(model.latency, [span["duration_ns"] / 1e9 for span in spans])
    spent = [item.usage.cost_usd or 0.0 for item in hotel_report.tenants]
    assert spent == sorted(spent, reverse=True)


def test_timeline_loses_nothing(hotel_report: Report, hotel_rows: Builder) -> None:
    line, rows = hotel_report.timeline, hotel_rows.requests
    first = min(row["start_ns"] for row in rows)
    assert 20 <= len(line.buckets) <= 61
    for index, bucket in enumerate(line.buckets):
        begin = first + int(index * line.step_s * 1e9)
        inside = [row for row in rows if begin <= row["start_ns"] < begin + line.step_s * 1e9]
        assert bucket.start == pytest.approx(begin / 1e9)
        assert bucket.requests == len(inside)
        assert bucket.errors == sum(map(oracle.failed, inside))
        assert bucket.cost_usd == pytest.approx(math.fsum(row["cost_usd"] for row in inside), rel=1e-12)
        if inside:
            assert bucket.p95 == pytest.approx(
                oracle.nearest_rank([row["duration_ns"] for row in inside], 95) / 1e9
            )
    assert sum(bucket.requests for bucket in line.buckets) == 2000


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 21, 58, 59, 99, 100, 101, 298, 299, 300, 1000])
def test_quantiles_are_order_statistics_at_any_size(count: int, tmp_path: Path) -> None:
    dice, build = random.Random(count), Builder()
    durations = [dice.randint(1, 10**9) for _ in range(count)]
    for index, duration in enumerate(durations):
        build.request("/a", index, duration / 1e6)
    with open_store(build.write(tmp_path / "store")) as store:
        assert_quantiles(report(store).latency, [value / 1e9 for value in durations])


def test_money_is_summed_without_drift(tmp_path: Path) -> None:
    build = Builder()
    amounts = [0.1] * 10_000 + [1e9, 1e-9]
    for index, amount in enumerate(amounts):
        row = build.request("/a", index, 1, cost_usd=amount)
        build.model(row, 0, 1, cost=amount)
    with open_store(build.write(tmp_path / "store", segments=4)) as store:
        found = report(store)
    assert found.totals.cost_usd == pytest.approx(math.fsum(amounts), rel=1e-12, abs=0)
    assert found.totals_from_spans.cost_usd == pytest.approx(math.fsum(amounts), rel=1e-12, abs=0)


def test_window_service_and_tenant_filters(hotel_store: Store, hotel_rows: Builder) -> None:
    since, until = EPOCH_NS / 1e9 + 20, EPOCH_NS / 1e9 + 40.5
    inside = [row for row in hotel_rows.requests if since * 1e9 <= row["start_ns"] < until * 1e9]
    found = report(hotel_store, Filters(since=since, until=until))
    assert_usage(found.totals, inside)
    # A request of the window brings all its calls, also those after its end; no other does.
    assert found.totals_from_spans.db_calls == found.totals.db_calls
    assert found.totals_from_spans.model_calls == found.totals.model_calls
    found = report(hotel_store, Filters(tenant="seeblick"))
    assert_usage(found.totals, [row for row in hotel_rows.requests if row["tenant"] == "seeblick"])
    assert found.totals_from_spans.db_calls == found.totals.db_calls
    assert [item.tenant for item in found.tenants] == ["seeblick"]


def test_two_services_are_kept_apart(tmp_path: Path) -> None:
    build = hotel(requests=40)
    other = Builder("billing")
    other._next = 10**6
    for index in range(7):
        other.request("/health", index, 3, http_method="GET")
    build.spans += other.spans
    build.requests += other.requests
    with open_store(build.write(tmp_path / "store")) as store:
        both, one = report(store), report(store, Filters(service="billing"))
    assert both.services == ("billing", "hotel-chat")
    assert both.totals.requests == 47
    health = {route.service: route.usage.requests for route in both.routes if route.route == "/health"}
    assert health["billing"] == 7
    assert one.services == ("billing",)
    assert one.totals.requests == 7
