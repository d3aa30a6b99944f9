"""Which calls belong to which request, and what is known of requests without our agent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Report, open_store, render, report
from tests.analysis.stores import Builder


def made(build: Builder, path: Path) -> Report:
    with open_store(build.write(path / "store")) as store:
        assert store.check().ok
        return report(store)


@pytest.mark.parametrize(
    "word", ["BEGIN", "COMMIT", "rollback", "  SAVEPOINT a", "RELEASE a", "START TRANSACTION"]
)
def test_transaction_control_is_no_database_call(word: str, tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 10, db_calls=1)
    build.db(row, 1, 1, word)
    build.db(row, 2, 1, "SELECT beginning FROM commits")
    found = made(build, tmp_path)
    assert found.totals_from_spans.db_calls == 1
    assert found.split is not None
    assert found.split.db_s == pytest.approx(0.001)


def test_only_client_spans_are_database_calls(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 10)
    build.db(row, 1, 1, "SELECT 1", kind="internal")
    build.db(row, 1, 1, "SELECT 1")
    assert made(build, tmp_path).totals_from_spans.db_calls == 1


@pytest.mark.parametrize("system", ["redis", "memcached"])
def test_a_question_to_a_cache_is_no_database_call(system: str, tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 10, db_calls=1)
    build.db(row, 1, 1, "GET embedding:?", db_system=system)
    build.db(row, 2, 1, "SELECT 1")
    assert made(build, tmp_path).totals_from_spans.db_calls == 1


def test_agent_spans_that_wrap_model_calls_do_not_count_twice(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 100, model_calls=1, cost_usd=0.5)
    build.model(row, 0, 90, operation="invoke_agent")
    build.model(row, 5, 50, cost=0.5)
    found = made(build, tmp_path)
    assert (found.totals_from_spans.model_calls, found.totals_from_spans.cost_usd) == (1, 0.5)
    assert [model.calls for model in found.models] == [1]


def test_calls_outside_of_requests_are_counted_apart(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 40_000, db_calls=1, model_calls=1, cost_usd=0.25)
    build.db(row, 1, 1, "SELECT 1")
    build.model(row, 3, 5, cost=0.25)
    build.db(None, 100, 1, "CREATE TABLE t ()")
    build.model(None, 200, 5, cost=0.5)
    build.model(None, 200, 5, cost=0.125, operation="embeddings")
    found = made(build, tmp_path)
    assert (found.totals.db_calls, found.totals.model_calls, found.totals.cost_usd) == (1, 1, 0.25)
    counted = found.totals_from_spans
    assert (counted.db_calls, counted.outside_db_calls) == (2, 1)
    assert (counted.model_calls, counted.outside_model_calls) == (2, 1)
    assert (counted.embedding_calls, counted.outside_embedding_calls) == (1, 1)
    assert (counted.cost_usd, counted.outside_cost_usd) == (0.875, 0.625)
    # The month pays for both.
    assert found.projection.monthly_usd == pytest.approx(0.875 / 40 * 30 * 86400)


def test_a_service_that_calls_itself_keeps_its_requests_apart(tmp_path: Path) -> None:
    """Outer and inner request share trace and service: the nearest server span above owns a call."""
    build = Builder()
    outer = build.request("/outer", 0, 100, db_calls=1)
    build.db(outer, 1, 1, "SELECT 1")
    hop = build.span(outer, 10, 50, name="GET")
    trace = {"trace_hi": outer["trace_hi"], "trace_lo": outer["trace_lo"]}
    inner = build.request("/inner", 12, 40, db_calls=6, parent_id=hop["span_id"], **trace)
    step = build.span(inner, 1, 30, name="step", kind="internal")
    for number in range(6):
        build.db(inner, 2 + number, 0.5, "SELECT 2", parent_id=step["span_id"])
    found = made(build, tmp_path)
    assert [(item.label, item.calls) for item in found.repeated.shown] == [("GET /inner", 6)]
    split = {route.route: route.split for route in found.routes}
    assert split["/outer"] is not None and split["/inner"] is not None
    assert split["/outer"].db_s == pytest.approx(0.001)
    assert split["/inner"].db_s == pytest.approx(0.003)


def test_requests_of_a_reused_trace_id_keep_their_own_calls(tmp_path: Path) -> None:
    build = Builder()
    first = build.request("/a", 0, 10, db_calls=1)
    second = build.request("/b", 20, 10, trace_hi=first["trace_hi"], trace_lo=first["trace_lo"], db_calls=2)
    build.db(first, 1, 1, "SELECT 1")
    build.db(second, 1, 1, "SELECT 1")
    build.db(second, 3, 1, "SELECT 1")
    split = {route.route: route.split for route in made(build, tmp_path).routes}
    assert split["/a"] is not None and split["/b"] is not None
    assert (split["/a"].db_s, split["/b"].db_s) == pytest.approx((0.001, 0.002))


def test_parallel_calls_count_once_in_the_split(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 100, db_calls=4, db_duration_s=0.155)
    build.db(row, 0, 40, "SELECT 1")
    build.db(row, 10, 40, "SELECT 2")  # overlaps the first: together 0..50
    build.db(row, 20, 5, "SELECT 3")  # inside both
    build.model(row, 30, 30)  # 30..60: model time, though the database is busy until 50
    build.db(row, 90, 70, "SELECT 4")  # runs on after the request's end: 90..100 count
    found = made(build, tmp_path)
    assert found.split is not None
    assert (found.split.db_s, found.split.model_s, found.split.other_s) == pytest.approx((0.04, 0.03, 0.03))
    assert found.totals.db_time_s == pytest.approx(0.155)


def test_without_our_agent_the_spans_tell_what_they_can(tmp_path: Path) -> None:
    build = Builder("plain")
    first = build.request("/a", 0, 10, agent=False)
    build.request("/a", 20, 10, agent=False)
    build.db(first, 1, 2, "SELECT 1")
    build.db(first, 4, 2, "SELECT 1")
    found = made(build, tmp_path)
    usage = found.routes[0].usage
    assert usage.db_calls == 2
    assert usage.db_time_s == pytest.approx(0.004)
    assert found.routes[0].db_calls_per_request == 1
    # It traces no model calls and has no account: not known, which is not 0.
    assert usage.model_calls is usage.embedding_calls is usage.input_tokens is usage.cost_usd is None
    assert usage.model_attempts is usage.cache_lookups is None
    assert found.routes[0].cache_hit_rate is found.routes[0].streamed_share is None
    assert found.routes[0].model_time_share is None
    assert found.routes[0].first_byte.count == 0
    assert found.projection.monthly_usd is None
    assert any("2 of 2 requests carry no account" in note for note in found.notes)


def test_without_our_agent_model_calls_are_priced_from_their_spans(tmp_path: Path) -> None:
    build = Builder("plain")
    first = build.request("/a", 0, 50, agent=False)
    build.model(first, 1, 20, tokens=(100, 10, 30), cost=0.5)
    build.model(first, 25, 5, tokens=(7, 0, 0), cost=0.25, operation="embeddings")
    second = build.request("/b", 60, 50, agent=False)
    build.model(second, 1, 20, tokens=(5, 5, 0))  # no price: its money is not known
    build.request("/c", 120, 50, agent=False)
    usage = {route.route: route.usage for route in made(build, tmp_path).routes}
    first_usage = usage["/a"]
    assert (first_usage.model_calls, first_usage.embedding_calls, first_usage.cost_usd) == (1, 1, 0.75)
    assert (first_usage.input_tokens, first_usage.output_tokens, first_usage.cached_tokens) == (107, 10, 30)
    assert (usage["/b"].cost_usd, usage["/b"].unpriced_calls) == (None, 1)
    assert (usage["/c"].cost_usd, usage["/c"].model_calls, usage["/c"].db_calls) == (0, 0, None)


def test_nothing_traced_but_requests(tmp_path: Path) -> None:
    build = Builder(None)
    build.request(None, 0, 5, agent=False, http_method=None, http_status=None, error=True)
    found = made(build, tmp_path)
    assert found.services == ()
    assert found.split is found.routes[0].split is None
    assert found.totals.db_calls is None
    assert (found.totals.errors, found.routes[0].label) == (1, "(no route)")
    assert found.requests_per_second is None


def test_calls_without_any_request(tmp_path: Path) -> None:
    build = Builder("worker")
    build.model(None, 0, 20_000, cost=0.5)
    build.model(None, 30_000, 10_000, cost=0.5)
    found = made(build, tmp_path)
    assert (found.totals.requests, found.routes, found.slowest, found.timeline.buckets) == (0, (), None, ())
    assert (found.error_rate, found.latency.p50) == (None, None)
    assert found.totals_from_spans.outside_model_calls == 2
    assert found.projection.monthly_usd == pytest.approx(1 / 40 * 30 * 86400)
    assert any("no HTTP request" in note for note in found.notes)


def test_a_failed_call_costs_nothing_and_is_not_unpriced(tmp_path: Path) -> None:
    build = Builder("plain")
    row = build.request("/a", 0, 50, agent=False)
    build.model(row, 1, 20, status="error", error_type="RateLimitError")
    found = made(build, tmp_path)
    assert (found.totals.cost_usd, found.totals.unpriced_calls) == (0, 0)
    assert (found.models[0].errors, found.models[0].unpriced_calls) == (1, 0)


def test_absurd_numbers_of_one_sender_spoil_nothing_else(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 100, cost_usd=0.5, input_tokens=10, db_calls=1, model_calls=1)
    build.db(row, 1, 10, "SELECT 1")
    build.model(row, 20, 50, tokens=(10, 0, 0), cost=0.5)
    for number in range(2):
        nonsense: dict[str, Any] = {
            "cost_usd": float("nan"),
            "first_byte_s": float("inf"),
            "db_duration_s": float("nan"),
        }
        bad = build.request("/bad", 1000 + number, 1, input_tokens=2**63 - 1, model_calls=2**62, **nonsense)
        build.model(bad, 0, 1, tokens=(2**63 - 1, 0, 0), cost=float("inf"))
        build.db(bad, 0, 1, "SELECT 1", duration_ns=2**63 - 1)
        build.requests[-1]["duration_ns"] = -5
    build.spans[-1]["start_ns"] = 2**63 - 1
    with open_store(build.write(tmp_path / "store")) as store:
        found = report(store)
    routes = {route.route: route for route in found.routes}
    assert (routes["/a"].usage.cost_usd, routes["/a"].usage.db_calls) == (0.5, 1)
    assert routes["/bad"].usage.cost_usd is None
    assert found.totals.input_tokens == 2 * (2**63 - 1) + 10
    assert found.totals.cost_usd == 0.5
    assert found.totals_from_spans.cost_usd == 0.5
    assert "NaN" not in render.json(found)
    assert not re.search(r"\b(nan|inf)\b", render.html(found), re.IGNORECASE)
