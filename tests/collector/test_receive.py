"""OTLP in: official SDKs by both transports, and everything a stranger may send instead."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
from google.protobuf import json_format
from google.rpc import status_pb2
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from taximeter_collector.errors import Refusal
from taximeter_collector.memory import resident_bytes
from taximeter_collector.receive.encoding import decompress, from_json
from tests.collector.support import (
    Collector,
    GrpcBackend,
    backend_exporter,
    collector,
    free_port,
    trace_request,
    wait_for,
)

ZSTD_BOMB = pa.compress(bytes(50 << 20), "zstd", asbytes=True)


@pytest.fixture(scope="module")
def backend() -> Iterator[tuple[GrpcBackend, int]]:
    port = free_port()
    with GrpcBackend(port) as running:
        yield running, port


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, backend: tuple[GrpcBackend, int]
) -> Iterator[Collector]:
    folder: Path = tmp_path_factory.mktemp("receive")
    exporters = {"otlp": backend_exporter(backend[1])}
    with collector(folder, exporters, {"traces": ["otlp"]}, http={"max_request_body_size": 1 << 20}) as made:
        yield made.start()


def arrived(backend: tuple[GrpcBackend, int], name: str, count: int = 1) -> None:
    wait_for(lambda: backend[0].received.span_names().count(name) >= count, f"{name} arrives")
    assert backend[0].received.span_names().count(name) == count


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_the_official_sdk_reaches_the_backend(
    running: Collector, backend: tuple[GrpcBackend, int], transport: str
) -> None:
    exporter: SpanExporter
    if transport == "grpc":
        exporter = GrpcExporter(endpoint=f"127.0.0.1:{running.ports['grpc']}", insecure=True)
    else:
        exporter = HttpExporter(endpoint=running.url())
    provider = TracerProvider(resource=Resource.create({"service.name": "sdk"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    before = running.own("otelcol_receiver_accepted_spans", transport=transport)
    for number in range(700):  # more than one batch of 512
        tracer.start_span(f"sdk-{transport}-{number}").end()
    provider.shutdown()
    for number in (0, 699):
        arrived(backend, f"sdk-{transport}-{number}")
    assert running.own("otelcol_receiver_accepted_spans", transport=transport) - before == 700
    wait_for(running.settled, "the queue is empty")


@pytest.mark.parametrize(
    ("first", "encoding", "encode"),
    [
        (20_000, "gzip", gzip.compress),
        (20_100, "gzip", lambda b: gzip.compress(b[:20]) + gzip.compress(b[20:])),
        (20_200, "deflate", zlib.compress),
        (20_300, "zstd", lambda b: pa.compress(b, "zstd", asbytes=True)),
        (20_400, "identity", lambda b: b),
    ],
)
def test_compressed_bodies(running: Collector, first: int, encoding: str, encode: object) -> None:
    body = trace_request(first, 50)
    assert callable(encode)
    response = running.post(encode(body), content_encoding=encoding)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/x-protobuf"


def test_json_with_hex_ids(running: Collector, backend: tuple[GrpcBackend, int]) -> None:
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "from-json"}
    span |= {"startTimeUnixNano": "1544712660000000000", "kind": 2, "unknownField": 1}  # type: ignore[dict-item]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    response = running.post(body, content_type="application/json")
    assert (response.status_code, response.text) == (200, "{}")
    arrived(backend, "from-json")
    [found] = [
        span
        for request in backend[0].received.requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.name == "from-json"
    ]
    assert found.trace_id.hex() == "5b8efff798038103d269b633813fc60c"


def test_an_empty_request_is_fine(running: Collector) -> None:
    assert running.post(b"").status_code == 200


def test_a_repeated_request_counts_once(running: Collector, backend: tuple[GrpcBackend, int]) -> None:
    body = trace_request(9000)
    before = running.own("taximeter_collector_duplicate_requests")
    retries = running.own("taximeter_collector_export_retries")
    for _ in range(3):
        assert running.post(body).status_code == 200
    assert running.post(gzip.compress(body), content_encoding="gzip").status_code == 200
    assert running.own("taximeter_collector_duplicate_requests") - before == 3
    wait_for(running.settled, "the queue is empty")
    assert running.own("taximeter_collector_export_retries") == retries  # or it may rightly come twice
    arrived(backend, "span-9000")


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason", "says"),
    [
        (b"\xff\xff\xff", {}, 400, "malformed", "is not a valid ExportTraceServiceRequest"),
        (trace_request(1)[:-3], {}, 400, "malformed", "is not a valid ExportTraceServiceRequest"),
        (b"no gzip", {"content_encoding": "gzip"}, 400, "malformed", "is not valid gzip"),
        (gzip.compress(b"x" * 99)[:-12], {"content_encoding": "gzip"}, 400, "malformed", "not valid gzip"),
        (b"no zstd", {"content_encoding": "zstd"}, 400, "malformed", "is not valid zstd"),
        (b"{", {"content_type": "application/json"}, 400, "malformed", "in JSON"),
        (b'{"resourceSpans": 3}', {"content_type": "application/json"}, 400, "malformed", "in JSON"),
        (b"1", {"content_type": "application/json"}, 400, "malformed", "it is a int, not an object"),
        (gzip.compress(b"") * 2000, {"content_encoding": "gzip"}, 400, "malformed", "more than 1024 members"),
        (b"[" * 100_000, {"content_type": "application/json"}, 400, "malformed", "in JSON"),
        (b"x" * ((1 << 20) + 1), {}, 413, "too_large", "larger than 1048576 bytes"),
        (gzip.compress(bytes(60 << 20), 1), {"content_encoding": "gzip"}, 413, "too_large", "decompressed"),
        (ZSTD_BOMB, {"content_encoding": "zstd"}, 413, "too_large", "decompressed"),
        (b"x", {"content_encoding": "br"}, 415, "encoding", "'br' is not supported; accepted: gzip"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_bad_bodies_are_refused_for_good_and_counted(
    running: Collector, *, body: bytes, headers: dict[str, str], status: int, reason: str, says: str
) -> None:
    before = running.own("taximeter_collector_malformed_requests", reason=reason)
    accepted = running.own("otelcol_receiver_accepted_spans")
    response = running.post(body, **headers)
    assert response.status_code == status, response.text
    as_json = headers.get("content_type") == "application/json"
    message = (
        response.json()["message"] if as_json else status_pb2.Status.FromString(response.content).message
    )
    assert says in message
    assert running.own("taximeter_collector_malformed_requests", reason=reason) == before + 1
    assert running.own("otelcol_receiver_accepted_spans") == accepted


def test_wrong_spans_are_rejected_and_their_neighbours_kept(
    running: Collector, backend: tuple[GrpcBackend, int]
) -> None:
    def request(name: str, *, right: bool) -> trace_service_pb2.ExportTraceServiceRequest:
        made = trace_service_pb2.ExportTraceServiceRequest.FromString(trace_request(7000, 1))
        spans = made.resource_spans[0].scope_spans[0].spans
        spans.add().CopyFrom(spans[0])
        spans.add().CopyFrom(spans[0])
        spans[0].name = name
        spans[1].trace_id = b"short"
        spans[2].end_time_unix_nano = spans[2].start_time_unix_nano - 1
        if not right:
            del spans[0]
        return made

    def counted() -> tuple[float, ...]:
        names = ("rejected_spans", "malformed_requests", "refused_requests")
        return tuple(running.own(f"taximeter_collector_{name}") for name in names)

    before = counted()
    answer = running.post(request("kept-1", right=True).SerializeToString())
    told = trace_service_pb2.ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, told.rejected_spans) == (200, 2)
    assert (
        told.error_message
        == "2 spans are not valid; of the first, trace_id has 5 bytes, not 16: mend the sender"
    )
    as_json = json_format.MessageToDict(request("kept-2", right=True))
    for span in as_json["resourceSpans"][0]["scopeSpans"][0][
        "spans"
    ]:  # hex, where protobuf's JSON has base64
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in span:
                span[key] = base64.b64decode(span[key]).hex()
    answer = running.post(json.dumps(as_json).encode(), content_type="application/json")
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "2"
    with grpc.insecure_channel(f"127.0.0.1:{running.ports['grpc']}") as channel:
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)  # type: ignore[no-untyped-call]
        assert stub.Export(request("kept-3", right=True), timeout=30).partial_success.rejected_spans == 2
        with pytest.raises(grpc.RpcError) as refused:
            stub.Export(request("none", right=False), timeout=30)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith("no span of the request (2) is valid; of the first, trace_id")
    assert running.post(request("none", right=False).SerializeToString()).status_code == 400
    for name in ("kept-1", "kept-2", "kept-3"):
        arrived(backend, name)
    assert "none" not in backend[0].received.span_names()
    assert counted() == (before[0] + 10, before[1] + 2, before[2])


def test_wrong_path_method_and_type(running: Collector) -> None:
    response = running.post(b"", path="/v1/trace")
    assert (response.status_code, "/v1/traces" in response.text) == (404, True)
    assert running.post(b"", path="/v1/metrics").status_code == 404  # no pipeline takes metrics
    assert running.post(b"", content_type="text/plain").status_code == 415
    import httpx

    response = httpx.get(running.url())
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_chunked_body_is_limited_too(running: Collector) -> None:
    import httpx

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(64 << 10)

    headers = {"content-type": "application/x-protobuf"}
    response = httpx.post(running.url(), content=pieces(), headers=headers, timeout=20)
    assert response.status_code == 413


def test_grpc_refusals(running: Collector) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.ports['grpc']}") as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.RpcError) as malformed:
            call(b"\xff\xff")
        assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "is not a valid ExportTraceServiceRequest" in malformed.value.details()
        with pytest.raises(grpc.RpcError) as large:
            call(bytes(5 << 20))
        assert large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as bomb:
            call(bytes(64 << 20), compression=grpc.Compression.Gzip)
        assert bomb.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        metrics = channel.unary_unary("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
        with pytest.raises(grpc.RpcError) as unserved:
            metrics(b"")
        assert unserved.value.code() is grpc.StatusCode.UNIMPLEMENTED
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = stub.Export(trace_service_pb2.ExportTraceServiceRequest())
        assert answer == trace_service_pb2.ExportTraceServiceResponse()
    assert running.healthy()


def test_a_json_body_of_very_many_objects_is_refused_before_it_is_built() -> None:
    with pytest.raises(Refusal, match="more than 600000 objects and lists"):
        from_json(b"[" + b"{}," * 600_000 + b"{}]", trace_service_pb2.ExportTraceServiceRequest)


def test_damaged_bodies_leave_no_memory_behind() -> None:
    """pyarrow's own read() keeps all that it had decompressed when the end of a body turns out damaged."""
    whole = pa.compress(os.urandom(8 << 20), "zstd", asbytes=True)
    damaged = whole[: -(1 << 20)] + bytes(1 << 20)

    def refused(times: int) -> int:
        for _ in range(times):
            with pytest.raises(Refusal, match="not valid zstd"):
                decompress(damaged, "zstd", 20 << 20)
        return resident_bytes()

    before = refused(5)
    assert refused(40) - before < 100 << 20  # 280 MiB were kept
