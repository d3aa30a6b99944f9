"""With one trace in a hundred exported, the metrics are still exact: they are not made from spans."""

from __future__ import annotations

import pytest

from examples.demo import books, figures, ledgers
from examples.demo.stack import SERVICE_ROLE, running_stack
from taximeter import semconv
from taximeter_analysis import open_store
from tests.e2e import harness

pytestmark = pytest.mark.e2e


def test_metrics_equal_the_ledgers_at_one_percent_sampling() -> None:
    sampling = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    with running_stack(scale="small", latency_scale=0.2, service_env=sampling) as stack:
        # No traceparent from the guests, so that the service's own sampler decides.
        stack.start_guests(duration=12, rate=20, guests=50, extra=["--no-traceparent"])
        harness.finish(stack)
        ledger = harness.ledger_of(stack)
        metrics = figures.from_metrics(figures.parse_exposition(stack.scrape()))
        wrong = [str(row) for row in books.compare("metrics", metrics, ledger) if not row.balanced]
        assert not wrong, "\n".join(wrong)
        assert ledger.cost_by_route
        spans = list((stack.store / "spans").glob("*.parquet")) if stack.store.exists() else []
        if spans:
            with open_store(stack.store) as store:
                traces = store.rows("SELECT count(DISTINCT (trace_hi, trace_lo)) FROM spans")[0][0]
            assert traces < ledger.requests / 10


def test_queries_by_route_equal_postgres_at_one_percent_sampling() -> None:
    """One route after the other, with Postgres's own count read and reset in between: a ledger by route."""
    sampling = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    ledger: dict[str, float] = {}
    with running_stack(scale="small", latency_scale=0.05, service_env=sampling) as stack:
        hotel = harness.client.get(f"{stack.service_url}/hotels").json()[0]["slug"]
        for route in ("", "/rooms", "/faq", "/reservations", "/availability", "/policies"):
            stack.reset_ledgers()
            for _ in range(10):
                answer = harness.client.get(f"{stack.service_url}/hotels/{hotel}{route}")
                assert answer.status_code < 500
            ledger["/hotels/{hotel}" + route] = ledgers.read_postgres(stack.postgres.dsn(), SERVICE_ROLE)
        assert stack.supervisor.stop("service") in {0, -15}
        stack.drain()
        samples = figures.parse_exposition(stack.scrape())
        name = figures.prometheus_name(semconv.REQUEST_DB_CALLS) + "_sum"
        counted = {s.labels.get("http_route", ""): s.value for s in samples if s.name == name}
    assert min(ledger.values()) > 0
    assert {route: counted[route] for route in ledger} == ledger
