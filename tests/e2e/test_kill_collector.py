"""``kill -9`` of the collector in the middle of the load, ten times: nothing lost, nothing twice."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from examples.demo import figures
from examples.demo.stack import running_stack
from taximeter_analysis import open_store
from tests.collector.prometheus_binary import require_prometheus
from tests.e2e import harness

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]
FORWARD = Path(__file__).with_name("collector-forward.yaml")
KILLS = 10


def test_killed_ten_times_the_books_still_balance(tmp_path: Path) -> None:
    binary = require_prometheus()
    seed = random.SystemRandom().randrange(1 << 30)
    print("seed of the moments:", seed)
    moments = random.Random(seed)
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
        guests = stack.start_guests(duration=600, rate=20, guests=50)
        killed = 0
        while killed < KILLS:
            time.sleep(moments.uniform(0.1, 2.0))
            stack.supervisor.kill("collector")
            stack.start_collector()
            killed += 1
        assert guests.running, "the load ended before the last kill"
        guests.signal(signal.SIGTERM)  # it finishes what is under way
        harness.finish(stack)
        prometheus.wait_scraped_after(time.time())
        ledger = harness.ledger_of(stack)

        for source, ours in harness.store_figures(stack).items():
            harness.assert_balanced(source, ours, ledger)
        everything = prometheus.query('{__name__=~"taximeter_.+|http_server_request_duration_seconds_count"}')
        harness.assert_balanced("promql", figures.from_metrics(everything), ledger)

        # At the destination every span has arrived; at-least-once may repeat what a kill interrupted.
        with open_store(stack.store) as store:
            stored = set(store.rows("SELECT trace_hi, trace_lo, span_id FROM spans"))
        received = receiver.spans()
        assert received.keys() == stored
