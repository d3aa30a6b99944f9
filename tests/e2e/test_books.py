"""The main job on real parts: store, real Prometheus and a second receiver against the ledgers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from examples.demo import books, figures, ledgers
from examples.demo.stack import running_stack
from taximeter import semconv
from taximeter_analysis import open_store
from tests.collector.prometheus_binary import require_prometheus
from tests.e2e import harness

pytestmark = pytest.mark.e2e
FORWARD = Path(__file__).with_name("collector-forward.yaml")


@pytest.mark.prometheus
def test_store_prometheus_and_second_receiver_equal_the_ledgers(tmp_path: Path) -> None:
    binary = require_prometheus()
    with (
        harness.otlp_receiver(tmp_path) as receiver,
        running_stack(
            scale="small",
            latency_scale=0.2,
            collector_config=FORWARD,
            collector_env={"SECOND_PORT": str(receiver.port)},
        ) as stack,
    ):
        prometheus = harness.start_prometheus(
            stack.supervisor, binary, stack.directory / "prometheus", [stack.ports.prometheus]
        )
        stack.start_guests(duration=15, rate=20, guests=50)
        harness.finish(stack)
        prometheus.wait_scraped_after(time.time())
        ledger = harness.ledger_of(stack)

        for source, ours in harness.store_figures(stack).items():
            harness.assert_balanced(source, ours, ledger)
        everything = prometheus.query('{__name__=~"taximeter_.+|http_server_request_duration_seconds_count"}')
        harness.assert_balanced("promql", figures.from_metrics(everything), ledger)

        # The same by route, as a dashboard would ask for it.
        route = figures.prometheus_name(semconv.HTTP_ROUTE)
        counts = prometheus.query(f"sum by ({route}) (http_server_request_duration_seconds_count)")
        assert {s.labels.get(route, ""): s.value for s in counts} == ledger.requests_by_route
        money = prometheus.query(f"sum by ({route}) (taximeter_cost_usd_total) > 0")
        assert {s.labels.get(route, ""): s.value for s in money} == pytest.approx(
            ledger.cost_by_route, rel=1e-9
        )

        # Latency lies inside the client's, request by request.
        guests = ledgers.read_guests(stack.guests_log)
        with open_store(stack.store) as store:
            durations = figures.server_durations(store)
            stored = set(store.rows("SELECT trace_hi, trace_lo, span_id FROM spans"))
        latency = books.latency(guests, durations)
        assert [str(row) for row in books.latency_row(latency, len(guests)) if not row.balanced] == []

        # Exemplars lead to traces that are in the store.
        exemplars = prometheus.exemplars("http_server_request_duration_seconds_bucket")
        assert exemplars
        assert {exemplar["labels"]["trace_id"] for exemplar in exemplars} <= durations.keys()

        # The second receiver has every span of the store, and each once.
        received = receiver.spans()
        assert received.keys() == stored
        assert set(received.values()) == {1}
