"""The light ASGI layer beside the official middleware: the same service, the same spans and metrics."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpHistogram, NoOpUpDownCounter
from opentelemetry.sdk.trace import SpanProcessor, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taximeter import asgi, spans
from tests.agent.conftest import Start
from tests.agent.receiver import Receiver

PATHS = (
    *("/plain/a?q=1", "/nothing/here", "/api/rooms/7", "/v1/shared/3", "/v2/shared/3", "/files/a/b.txt"),
    *("/early", "/boom", "/teapot", "/empty", "/async-stream", "/late-boom", "/static/none.css"),
)
METRICS = ("http.server.request.duration", "http.server.request.body.size", "http.server.active_requests")


def seen(receiver: Receiver, start: Start, **environment: str) -> dict[str, Any]:
    """Everything about each request, times and ids aside."""
    receiver.spans.clear()
    receiver._series.clear()
    service = start("varied", TAXIMETER_CAPTURE_CONTENT="urls,clients", **environment)
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    for path in PATHS:
        try:
            service.get(path, traceparent=trace, baggage="a=b", **{"user-agent": "Googlebot/2.1"})
        except Exception as error:  # a stream that breaks
            assert "late-boom" in path, error
    service.post("/plain/a", b"12345")
    service.stop()
    assert "Taximeter failed" not in service.log()
    port = str(service.port)

    def told(attributes: dict[str, Any]) -> dict[str, Any]:
        return {
            key: str(value).replace(port, "PORT")
            for key, value in attributes.items()
            if key not in {"client.port", "taximeter.request.first_byte"}
        }

    spans = sorted(
        (span.name, span.kind, span.status, span.trace_id == "ab" * 16, sorted(told(span.attributes).items()))
        for span in receiver.spans
        if span.kind == 2
    )
    metrics = sorted(
        (point.name, point.unit, point.count, sorted(told(point.attributes).items()))
        for name in METRICS
        for point in receiver.points(name)
    )
    return {"spans": spans, "metrics": metrics, "bounds": receiver.points(METRICS[0])[0].bounds}


def test_light_and_official_say_the_same(receiver: Receiver, start: Start) -> None:
    light = seen(receiver, start)
    official = seen(receiver, start, TAXIMETER_OFFICIAL="asgi")
    assert len(light["spans"]) == len(PATHS) + 1
    assert light["spans"] == official["spans"]
    # One thing more: a response that breaks after its status was sent has failed, whatever it said.
    (broken,) = [point for point in light["metrics"] if ("error.type", "RuntimeError") in point[3]]
    assert ("http.route", "/late-boom") in broken[3]
    broken[3].remove(("error.type", "RuntimeError"))
    assert sorted(light["metrics"]) == official["metrics"]
    assert light["bounds"] == official["bounds"]


def test_what_only_the_official_one_can_do_brings_it_back(receiver: Receiver, start: Start) -> None:
    receiver.spans.clear()
    service = start("varied", OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST="x-colour")
    service.get("/plain/a", **{"x-colour": "green"})
    service.stop()
    (span,) = receiver.servers("/plain/{name}")
    assert span.attributes["http.request.header.x_colour"] == ("green",)
    assert span.attributes["taximeter.request.db.calls"] == 0


SCOPE = {
    **{"type": "http", "method": "GET", "scheme": "http", "http_version": "1.1", "path": "/rooms/7"},
    **{"server": ("hotel", 8080), "client": ("10.0.0.1", 1), "headers": [], "query_string": b""},
}
STARTED = {
    **{"url.scheme": "http", "server.address": "hotel:8080", "server.port": 8080, "url.path": "/rooms/7"},
    **{"network.protocol.version": "1.1", "http.request.method": "GET"},
}


@pytest.mark.parametrize("who", ["nobody", "a sampler", "a processor", "the handler"])
def test_who_looks_at_a_span_as_it_starts_sees_what_it_says(who: str) -> None:
    looked: list[dict[str, Any]] = []

    class Sampler(sampling.StaticSampler):
        def should_sample(self, *given: Any, **more: Any) -> sampling.SamplingResult:
            looked.append(dict(given[4] or {}))
            return super().should_sample(*given, **more)

    class Looking(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            looked.append(dict(span.attributes))

    given = {"sampler": Sampler(sampling.Decision.RECORD_AND_SAMPLE)} if who == "a sampler" else {}
    provider = spans.TracerProvider(shutdown_on_exit=False, **given)
    kept = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    if who == "a processor":
        provider.add_span_processor(Looking())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if who == "the handler":  # what it says itself holds
            trace.get_current_span().set_attribute("url.path", "/mine")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def ignore(*_: Any) -> Any:
        pass

    official: Any = SimpleNamespace(
        app=app,
        excluded_urls=None,
        default_span_details=lambda scope: ("GET /rooms/{room}", {"http.route": "/rooms/{room}"}),
        tracer=provider.get_tracer("opentelemetry.instrumentation.asgi"),
        duration_histogram_new=NoOpHistogram("d"),
        active_requests_counter=NoOpUpDownCounter("a"),
        server_request_body_size_histogram=NoOpHistogram("s"),
    )
    asyncio.run(asgi.Light(official)(dict(SCOPE), ignore, ignore))
    (span,) = kept.get_finished_spans()
    assert span.attributes is not None
    own = {"url.path": "/mine"} if who == "the handler" else {}
    assert span.attributes.items() >= {**STARTED, "http.response.status_code": 200, **own}.items()
    assert span.name == "GET /rooms/{room}"
    assert looked == ([STARTED] if who in {"a sampler", "a processor"} else [])
