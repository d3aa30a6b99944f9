"""Trace ids in the service's log lines, and its log records over OTLP to a real collector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import Start
from tests.agent.receiver import Receiver
from tests.collector.support import GrpcBackend, backend_exporter, collector, free_port, wait_for


def test_trace_ids_are_in_log_lines_when_asked_for(receiver: Receiver, start: Start) -> None:
    service = start("logging_app", OTEL_PYTHON_LOG_CORRELATION="true")
    service.get("/log/towels")
    service.get("/thread")
    service.stop()
    for route, text in (("/log/{word}", "the guest asked for towels"), ("/thread", "from a worker thread")):
        (span,) = receiver.servers(route)
        line = next(line for line in service.log().splitlines() if text in line)
        found = re.search(r"trace_id=(\w+) span_id=(\w+)", line)
        assert found is not None, line
        assert found.groups() == (span.trace_id, span.span_id)
    assert "Taximeter failed" not in service.log()


@pytest.fixture
def other() -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    yield made
    made.stop()


def test_log_lines_are_left_alone_otherwise(other: Receiver, start: Start) -> None:
    service = start("logging_app", OTEL_EXPORTER_OTLP_ENDPOINT=other.url)
    service.get("/log/towels")
    service.stop()
    assert "the guest asked for" not in service.log()  # nobody has configured logging
    assert other.servers("/log/{word}")


def test_log_records_reach_the_collector_and_go_on_with_their_trace_ids(tmp_path: Path, start: Start) -> None:
    port = free_port()
    exporter = {"otlp": backend_exporter(port)}
    with (
        GrpcBackend(port) as backend,
        collector(tmp_path, exporter, {"logs": ["otlp"], "traces": ["otlp"]}) as made,
    ):
        made.start()
        service = start(
            "logging_app",
            OTEL_EXPORTER_OTLP_ENDPOINT=made.url(""),
            OTEL_LOGS_EXPORTER="otlp",
            OTEL_METRICS_EXPORTER="none",
        )
        service.get("/log/towels")
        service.get("/fails")
        service.get("/event")
        service.stop()  # nothing is lost on SIGTERM
        wait_for(made.settled, "delivered")
        sent = backend.received.requests
        records = [
            record
            for request in sent
            for resource in getattr(request, "resource_logs", ())
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        [record] = [each for each in records if each.body.string_value == "the guest asked for towels"]
        spans = [
            span
            for request in sent
            for resource in getattr(request, "resource_spans", ())
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        assert (record.trace_id, record.span_id) in {(span.trace_id, span.span_id) for span in spans}
        assert record.severity_text == "INFO"
        assert "otelTraceID" not in {pair.key for pair in record.attributes}
        assert not [each for each in records if "Taximeter" in each.body.string_value]
        # What an exception says, a query string and a conversation stay at home; frames and names do not.
        assert "secret" not in "".join(map(str, sent))
        [failure] = [each for each in records if each.body.string_value == "could not save the guest"]
        told = {pair.key: pair.value for pair in failure.attributes}
        assert told["exception.type"].string_value == "ValueError"
        assert "in fails" in told["exception.stacktrace"].string_value
        assert told["room"].int_value == 7
        [event] = [each for each in records if each.event_name == "gen_ai.choice"]
        assert event.body.WhichOneof("value") is None
