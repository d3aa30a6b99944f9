"""Sends collectors what they should not get, for a bounded time.

The first URL gets what is no OTLP, and one good request over and over. The second gets requests of 4 kB,
each another, until it refuses them and on.
"""

from __future__ import annotations

import os
import sys
import time

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

SECONDS = 300


def request(trace_id: bytes, name: str) -> bytes:
    spans = ScopeSpans(spans=[Span(trace_id=trace_id, span_id=trace_id[:8], name=name)])
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[spans])]).SerializeToString()


again = request(b"t" * 16, "again")
headers = {"content-type": "application/x-protobuf"}
end = time.monotonic() + SECONDS
with httpx.Client(trust_env=False, timeout=10) as client:
    while time.monotonic() < end:
        for body in (b"this is no OTLP", again):
            client.post(sys.argv[1], content=body, headers=headers)
        for _ in range(20):
            body = request(os.urandom(16), os.urandom(2000).hex())
            client.post(sys.argv[2], content=body, headers=headers)
        time.sleep(0.2)
