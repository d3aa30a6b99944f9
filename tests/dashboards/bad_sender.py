"""Sends a collector what is no OTLP, and one good request over and over, for a bounded time."""

from __future__ import annotations

import sys
import time

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

again = ExportTraceServiceRequest(
    resource_spans=[
        ResourceSpans(
            scope_spans=[ScopeSpans(spans=[Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="again")])]
        )
    ]
).SerializeToString()
headers = {"content-type": "application/x-protobuf"}
end = time.monotonic() + 60
with httpx.Client(trust_env=False, timeout=10) as client:
    while time.monotonic() < end:
        for body in (b"this is no OTLP", again):
            client.post(sys.argv[1], content=body, headers=headers)
        time.sleep(0.2)
