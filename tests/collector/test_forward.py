"""OTLP out: to independent receivers, through outages, and past requests that nobody will ever take."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from taximeter_collector.export.dead_letters import read
from tests.collector.support import (
    GrpcBackend,
    HttpBackend,
    backend_exporter,
    collector,
    free_port,
    trace_request,
    wait_for,
)


def test_http_forwarding_retries_what_may_be_retried(tmp_path: Path) -> None:
    with HttpBackend() as backend:
        backend.statuses = [503, 429, 502]
        exporter = {
            "endpoint": f"http://127.0.0.1:{backend.port}",
            "headers": {"X-Scope": "tenant"},
            "retry_on_failure": {"initial_interval": "50ms"},
        }
        with collector(tmp_path, {"otlphttp/x": exporter}, {"traces": ["otlphttp/x"]}) as made:
            made.start()
            assert made.post(trace_request(0, 3)).status_code == 200
            wait_for(made.settled, "delivered")
            assert backend.received.span_names() == ["span-0", "span-1", "span-2"]
            assert backend.headers[0]["x-scope"] == "tenant"
            assert backend.headers[0]["content-encoding"] == "gzip"
            assert made.own("taximeter_collector_export_retries") == 3
            assert made.own("otelcol_exporter_sent_spans") == 3
            assert made.own("taximeter_collector_dead_letters") == 0


def test_a_dead_backend_holds_up_nobody_and_gets_all_when_it_is_back(tmp_path: Path) -> None:
    alive, dead = free_port(), free_port()
    exporters = {"otlp/alive": backend_exporter(alive), "otlp/dead": backend_exporter(dead)}
    with GrpcBackend(alive) as first, collector(tmp_path, exporters, {"traces": list(exporters)}) as made:
        made.start()
        for number in range(30):
            assert made.post(trace_request(number)).status_code == 200
        wait_for(lambda: made.own("otelcol_exporter_queue_size", exporter="otlp/alive") == 0, "the live one")
        assert sorted(first.received.span_names()) == sorted(f"span-{n}" for n in range(30))
        assert made.own("otelcol_exporter_queue_size", exporter="otlp/dead") == 30
        with GrpcBackend(dead) as second:
            wait_for(made.settled, "the one that was down")
            assert second.received.span_names() == [f"span-{n}" for n in range(30)]
            assert len(second.received.requests) < 30, "waiting requests are merged"


def test_only_the_poisoned_request_goes_to_the_dead_letters(tmp_path: Path) -> None:
    port = free_port()
    exporters = {"otlp": backend_exporter(port)}
    with collector(tmp_path, exporters, {"traces": ["otlp"]}) as made:
        made.start()
        bodies = [trace_request(number) for number in range(10)]
        for body in bodies:  # while the backend is down, so that they will be merged
            assert made.post(body).status_code == 200

        def answer(request: object) -> grpc.StatusCode | None:
            return grpc.StatusCode.INVALID_ARGUMENT if "span-4" in str(request) else None

        with GrpcBackend(port) as backend:
            backend.received.answer = answer
            wait_for(made.settled, "the others are delivered")
            assert sorted(backend.received.span_names()) == [f"span-{n}" for n in range(10) if n != 4]
        assert made.own("taximeter_collector_dead_letters") == 1
        assert made.own("otelcol_exporter_send_failed_spans") == 1
        assert made.own("otelcol_exporter_sent_spans") == 9
        [(header, payload)] = read(tmp_path / "data" / "dead-letters" / "traces+otlp.dead")
        assert payload == bodies[4]
        assert "INVALID_ARGUMENT" in header["reason"]


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_which_codes_are_retried(tmp_path: Path, code: grpc.StatusCode) -> None:
    port = free_port()
    with GrpcBackend(port) as backend, collector(
        tmp_path, {"otlp": backend_exporter(port)}, {"traces": ["otlp"]}
    ) as made:  # fmt: skip
        answers = [code]
        backend.received.answer = lambda request: answers.pop() if answers else None
        made.start()
        assert made.post(trace_request(0)).status_code == 200
        wait_for(made.settled, "settled")
        # Without RetryInfo, RESOURCE_EXHAUSTED is final.
        lost = 1 if code is grpc.StatusCode.RESOURCE_EXHAUSTED else 0
        assert made.own("taximeter_collector_dead_letters") == lost
        assert made.own("taximeter_collector_export_retries") == 1 - lost


def test_logs_are_forwarded_as_they_came(tmp_path: Path) -> None:
    port = free_port()
    request = logs_service_pb2.ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(trace_id=bytes(range(16)))
    record.body.string_value = "a line"
    with GrpcBackend(port) as backend, collector(
        tmp_path, {"otlp": backend_exporter(port)}, {"logs": ["otlp"]}
    ) as made:  # fmt: skip
        made.start()
        assert made.post(request.SerializeToString(), "/v1/logs").status_code == 200
        wait_for(made.settled, "delivered")
        assert backend.received.requests == [request]
        assert made.own("otelcol_exporter_sent_log_records") == 1
