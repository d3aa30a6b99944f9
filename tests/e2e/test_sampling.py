"""With one trace in a hundred exported, the metrics are still exact: they are not made from spans."""

from __future__ import annotations

import pytest

from examples.demo import books, figures
from examples.demo.stack import running_stack
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
