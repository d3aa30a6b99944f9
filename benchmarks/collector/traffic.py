"""The input: requests as a busy SDK sends them, each different, made without building spans again.

One request is encoded by the official classes and kept as a template; a copy gets new trace and span ids
written over the old ones. So the sender costs next to nothing, and no request is a repetition (which
Taximeter would notice).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

SPANS_PER_TRACE = 8
_MARK = b"\xf7\x9bMARK\xe1"  # starts every id of the template; 7 of 8 or 16 bytes


def template(spans: int, seed: int = 1) -> bytes:
    """A serialised request of server, database and client spans with the usual attributes."""
    rnd = random.Random(seed)
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (
        ("service.name", "hotel-chat"),
        ("service.instance.id", "b7d1c1a0-4a7e-4c39-9f1b-0a4f6f2d7c11"),
        ("telemetry.sdk.language", "python"),
        ("deployment.environment.name", "production"),
    ):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.fastapi"
    for number in range(spans):
        span = scope.spans.add(
            trace_id=_MARK + bytes(9),
            span_id=_MARK + b"\x01",
            parent_span_id=(_MARK + b"\x01") if number % SPANS_PER_TRACE else b"",
            kind=2 if number % SPANS_PER_TRACE == 0 else 3,
            start_time_unix_nano=1_760_000_000_000_000_000 + number * 1000,
        )
        took = int(rnd.expovariate(1 / 80) * 1e6)
        span.end_time_unix_nano = span.start_time_unix_nano + took
        if rnd.random() < 0.01:
            span.status.code = 2  # type: ignore[assignment]
        if number % SPANS_PER_TRACE == 0:
            span.name = "POST /api/rooms/{room}/chat"
            texts = {
                "http.request.method": "POST",
                "http.route": "/api/rooms/{room}/chat",
                "url.path": f"/api/rooms/{rnd.randrange(400)}/chat",
                "url.scheme": "https",
                "server.address": "hotel.example",
                "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
                "network.protocol.version": "1.1",
                "tenant": f"hotel-{rnd.randrange(30)}",
            }
        else:
            span.name = "SELECT rooms"
            texts = {
                "db.system.name": "postgresql",
                "db.namespace": "hotel",
                "db.operation.name": "SELECT",
                "db.collection.name": "rooms",
                "db.query.summary": "SELECT rooms",
                "db.query.text": "SELECT id, name, price FROM rooms WHERE hotel_id = %s AND night = %s",
                "server.address": "db.internal",
            }
        for key, value in texts.items():
            span.attributes.add(key=key).value.string_value = value
        for key in ("http.response.status_code", "server.port"):
            span.attributes.add(key=key).value.int_value = rnd.randrange(200, 600)
    encoded: bytes = request.SerializeToString()
    return encoded


def requests(spans: int, count: int, start: int = 0) -> Iterator[bytes]:
    """``count`` different requests; traces are whole within a request. ``start`` sets the first id."""
    plain = template(spans)
    trace_at, span_at, parent_at = _places(plain)
    number = start
    for _ in range(count):
        body = bytearray(plain)
        for index, at in enumerate(trace_at):
            trace = number + index // SPANS_PER_TRACE
            body[at : at + 16] = _spread(trace).to_bytes(8) + trace.to_bytes(8)
        for index, at in enumerate(span_at):
            body[at : at + 8] = (
                (number + index // SPANS_PER_TRACE) * 16 + index % SPANS_PER_TRACE + 1
            ).to_bytes(8)
        for index, at in parent_at:
            body[at : at + 8] = ((number + index // SPANS_PER_TRACE) * 16 + 1).to_bytes(8)
        number += (spans + SPANS_PER_TRACE - 1) // SPANS_PER_TRACE
        yield bytes(body)


def _spread(number: int) -> int:
    return (number * 0x9E3779B97F4A7C15 + 1) & 0xFFFFFFFFFFFFFFFF


def _places(plain: bytes) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Where the template's ids are: trace, span, and parent (with the span's number)."""
    trace_at: list[int] = []
    span_at: list[int] = []
    parent_at: list[tuple[int, int]] = []
    at = plain.find(_MARK)
    while at >= 0:
        tag = plain[at - 2]  # the field's tag stands before its length
        if tag == 0x0A:
            trace_at.append(at)
        elif tag == 0x12:
            span_at.append(at)
        else:
            parent_at.append((len(trace_at) - 1, at))
        at = plain.find(_MARK, at + 1)
    return trace_at, span_at, parent_at
