"""The light ASGI layer beside the official middleware: the same service, the same spans and metrics."""

from __future__ import annotations

from typing import Any

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
