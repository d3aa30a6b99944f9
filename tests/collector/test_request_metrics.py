"""Metrics by route of services without the agent: the agent's names, counted once whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics import parser as open_parser

from taximeter_collector.connect.counted import OVERFLOW, Counted, Instrument
from taximeter_collector.process import raw
from tests.collector.support import Collector, collector, free_port, wait_for
from tests.collector.test_request_account import CHAT, CLIENT, EMBED, PG, SERVER, trace

parse: Any = open_parser.text_string_to_metric_families
SPANS = (
    (0, SERVER, "GET", {"http.route": "/r", "http.request.method": "GET", "http.response.status_code": 200}),
    (1, CLIENT, "q", PG),
    (1, CLIENT, "q", PG),
    (1, CLIENT, "chat", CHAT),
    (1, CLIENT, "embeddings", EMBED),
)


@contextmanager
def counting(folder: Path) -> Iterator[Collector]:
    port = free_port()
    exporters = {"prometheus": {"endpoint": f"127.0.0.1:{port}", "enable_open_metrics": True}}
    with collector(folder, exporters, {"metrics": ["prometheus"]}) as made:
        made.ports["prometheus"] = port
        made.config["processors"] = {"request_account": {"wait_after_root": "200ms", "wait": "3s"}}
        made.config["connectors"] = {"request_metrics": {"metrics_flush_interval": "100ms"}}
        pipelines = made.config["service"]["pipelines"]
        pipelines["metrics"]["receivers"].append("request_metrics")
        pipelines["traces"] = {
            "receivers": ["otlp"],
            "processors": ["request_account"],
            "exporters": ["request_metrics"],
        }
        yield made


def shown(made: Collector) -> dict[str, float]:
    """Every sample of /metrics by its name, summed; labels are checked apart."""
    answer = httpx.get(
        f"http://127.0.0.1:{made.ports['prometheus']}/metrics",
        headers={"accept": "application/openmetrics-text"},
    )
    assert answer.status_code == 200
    found: dict[str, float] = {}
    for family in parse(answer.text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def send(made: Collector, number: int, **more: Any) -> None:
    """One trace, its spans one by one, the root last."""
    for part in reversed(list(raw.spans(trace(*SPANS, number=number, **more).SerializeToString()))):
        assert made.post(raw.join([part])).status_code == 200


def test_the_same_figures_through_kills_and_repetitions(tmp_path: Path) -> None:
    with counting(tmp_path) as made:
        for round_ in range(4):
            made.start()
            for number in range(round_ * 10 + 1, round_ * 10 + 11):
                send(made, number)
                if number % 3 == 0:
                    send(made, number)  # a sender that got no answer sends again: whole requests
            if round_ < 3:
                made.kill()
        send(made, 100, distro="taximeter")  # counts itself
        server = list(raw.spans(trace(*SPANS, number=7).SerializeToString()))[:1]
        # The same span in another request, long decided: neither a request nor an account more.
        assert made.post(raw.join(server * 2)).status_code == 200

        def counted() -> bool:
            return made.settled() and shown(made).get("http_server_request_duration_seconds_count") == 40

        wait_for(counted, "40 requests", 40)
        for _ in range(2):
            found = shown(made)
            assert found["http_server_request_duration_seconds_count"] == 40
            assert found["http_server_request_duration_seconds_sum"] == 40
            assert found["taximeter_request_db_calls_sum"] == 80
            assert found["taximeter_request_db_calls_count"] == 40
            assert found["taximeter_request_db_duration_seconds_total"] == 80
            assert found["taximeter_request_db_repeated_total"] == 40
            assert found["taximeter_request_model_calls_total"] == 40
            assert found["taximeter_request_embedding_calls_total"] == 40
            assert found["taximeter_request_tokens_input_total"] == 40 * 107
            assert found["taximeter_request_tokens_output_total"] == 40 * 10
            assert found["taximeter_request_cost_sum"] == pytest.approx(40 * 0.75)
            assert found["taximeter_cost_usd_total"] == pytest.approx(40 * 0.75)
            text = httpx.get(f"http://127.0.0.1:{made.ports['prometheus']}/metrics").text
            money = [line for line in text.splitlines() if line.startswith("taximeter_cost_usd_total{")]
            assert len(money) == 2, money
            for label in ('job="node"', 'http_route="/r"', 'gen_ai_provider_name="openai"'):
                assert all(label in line for line in money)
            assert 'http_response_status_code="200"' in text
            assert made.stop() == 0
            made.start()
            wait_for(lambda: shown(made), "the page after a restart")
        assert made.stop() == 0


def test_strangers_cannot_choose_how_many_series_there_are() -> None:
    calls = Instrument("calls", "{call}", "")
    counted = Counted("s", [calls], series_limit=3, resource_limit=2)
    for number in range(10):
        counted.add(b"", "calls", (("route", f"/{number}"),), 1, now_ns=number)
    values = {key.attributes: cell.total for key, cell in counted}
    assert len(values) == 4
    assert values[OVERFLOW] == 7
    for number in range(5):
        counted.add(bytes([10, number]), "calls", (), 1, now_ns=number)
    assert {key.resource for key, _ in counted} == {bytes([10, 3]), bytes([10, 4])}
    assert len(counted.forgotten) == 4


def test_fractions_of_sampled_spans_do_not_add_up_to_errors() -> None:
    seconds = Instrument("seconds", "s", "", (1.0,))
    counted = Counted("s", [seconds], series_limit=0, resource_limit=9)
    for number in range(100):
        counted.add(b"", "seconds", (), 0.5, now_ns=number, weight=2.5)
    told = counted.request(counted.due(200, 60, 0), 200)
    point = told.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0]
    assert (point.count, list(point.bucket_counts), point.sum) == (250, [250, 0], 125.0)
