"""Hostile OTLP: good requests and what a stranger makes of them, seeded."""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATHS = ("/v1/traces", "/v1/metrics", "/v1/logs")


@dataclass(frozen=True)
class Shot:
    """One request to send. ``kind``: what was done to it."""

    kind: str
    path: str
    body: bytes
    headers: dict[str, str]
    wrong_spans: int = -1  # so many must be rejected, all or beside good ones; -1: it is not known
    good_spans: int = 0  # beside them


def good(number: int) -> bytes:
    """A trace request that must arrive: three spans, one with a price."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "good"
    scope = resource.scope_spans.add()
    for index in range(3):
        span = scope.spans.add(
            trace_id=(number + 1).to_bytes(16),
            span_id=(number * 4 + index + 1).to_bytes(8),
            name=f"good-{number}-{index}",
            kind=2,
            start_time_unix_nano=1_790_000_000_000_000_000,
            end_time_unix_nano=1_790_000_000_050_000_000,
        )
        span.attributes.add(key="gen_ai.usage.cost.amount").value.double_value = 0.25
        span.attributes.add(key="http.route").value.string_value = "/rooms/{room}"
        listed = span.attributes.add(key="list").value.array_value
        listed.values.add().int_value = index
        span.events.add(name="event", time_unix_nano=1).attributes.add(key="k").value.bool_value = True
    return request.SerializeToString()


def bases() -> list[tuple[str, bytes, object]]:
    """Path, serialised request and message type, one for each signal."""
    metrics = metrics_service_pb2.ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="requests", unit="1")
    metric.sum.aggregation_temporality = 2  # type: ignore[assignment]
    metric.sum.is_monotonic = True
    point = metric.sum.data_points.add(time_unix_nano=2, start_time_unix_nano=1, as_int=3)
    point.attributes.add(key="route").value.string_value = "/a"
    histogram = metrics.resource_metrics[0].scope_metrics[0].metrics.add(name="took", unit="s").histogram
    histogram.aggregation_temporality = 2  # type: ignore[assignment]
    histogram.data_points.add(count=3, sum=1.5, bucket_counts=[1, 2, 0], explicit_bounds=[0.5, 1.0])
    logs = logs_service_pb2.ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(severity_number=9)
    record.body.string_value = "a line"
    trace = trace_service_pb2.ExportTraceServiceRequest
    return [
        (PATHS[0], good(10**6), trace),
        (PATHS[1], metrics.SerializeToString(), metrics_service_pb2.ExportMetricsServiceRequest),
        (PATHS[2], logs.SerializeToString(), logs_service_pb2.ExportLogsServiceRequest),
    ]


class Hostile:
    """Makes shots. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._rnd = random.Random(seed)
        self._bases = bases()
        self._json = [
            json_format.MessageToJson(kind.FromString(body)).encode()  # type: ignore[attr-defined]
            for _, body, kind in self._bases
        ]
        self._bombs = _bombs()
        self._deep = {depth: _array(depth) for depth in (20, 45, 55, 500, 3000)}
        self._makers: list[tuple[int, str, Callable[[], Shot]]] = [
            (30, "bits flipped", self._flipped),
            (12, "cut off", self._cut),
            (8, "bytes inserted", self._inserted),
            (8, "huge length", self._huge_length),
            (6, "random bytes", self._noise),
            (6, "invalid UTF-8", self._utf8),
            (5, "wrong id lengths", self._ids),
            (5, "negative durations", self._durations),
            (3, "deep nesting", self._nested),
            (1, "huge counts", self._counts),
            (8, "JSON mutated", self._json_mutated),
            (1, "JSON nested", self._json_nested),
            (3, "compressed, damaged", self._compressed),
            (1, "headers", self._headers),
        ]
        self._weights = [weight for weight, _, _ in self._makers]

    def shot(self) -> Shot:
        [(_, _, make)] = self._rnd.choices(self._makers, self._weights)
        return make()

    def bomb(self) -> Shot:
        """A small body that would be gigabytes."""
        name, body, encoding = self._rnd.choice(self._bombs)
        return Shot(name, PATHS[0], body, {**_PROTOBUF, "content-encoding": encoding})

    def _base(self) -> tuple[str, bytearray]:
        path, body, _ = self._rnd.choice(self._bases)
        return path, bytearray(body)

    def _flipped(self) -> Shot:
        path, body = self._base()
        for _ in range(self._rnd.choice((1, 1, 2, 5, 20))):
            body[self._rnd.randrange(len(body))] ^= 1 << self._rnd.randrange(8)
        return _shot("bits flipped", path, body)

    def _cut(self) -> Shot:
        path, body = self._base()
        return _shot("cut off", path, body[: self._rnd.randrange(1, len(body))])

    def _inserted(self) -> Shot:
        path, body = self._base()
        at = self._rnd.randrange(len(body))
        body[at:at] = self._rnd.randbytes(self._rnd.randrange(1, 40))
        return _shot("bytes inserted", path, body)

    def _huge_length(self) -> Shot:
        path, body = self._base()
        body[1:2] = b"\xff\xff\xff\xff" + bytes([self._rnd.randrange(1, 16)])
        return _shot("huge length", path, body)

    def _noise(self) -> Shot:
        return _shot(
            "random bytes", self._rnd.choice(PATHS), self._rnd.randbytes(self._rnd.randrange(1, 300))
        )

    def _utf8(self) -> Shot:
        path, body = self._base()
        text = {PATHS[0]: b"good-", PATHS[1]: b"route", PATHS[2]: b"a line"}[path]
        at = body.index(text)
        body[at : at + 2] = self._rnd.choice((b"\xff\xfe", b"\xc0\x80", b"\xed\xa0"))
        return _shot("invalid UTF-8", path, body)

    def _ids(self) -> Shot:
        return self._wrong("wrong id lengths", self._wrong_ids)

    def _durations(self) -> Shot:
        return self._wrong("negative durations", self._negative)

    def _wrong(self, kind: str, spoil: Callable[[Span], None]) -> Shot:
        """One wrong span alone, or some among right ones, in two scopes."""
        rnd = self._rnd
        request = trace_service_pb2.ExportTraceServiceRequest()
        scopes = [request.resource_spans.add().scope_spans.add() for _ in range(2)]
        spoilt = [True] if rnd.random() < 0.5 else [rnd.random() < 0.3 for _ in range(rnd.randrange(2, 40))]
        for wrong in spoilt:
            span = rnd.choice(scopes).spans.add(name="odd", kind=2)
            span.trace_id, span.span_id = rnd.randbytes(16), rnd.randbytes(8)
            span.parent_span_id = rnd.choice((b"", rnd.randbytes(8)))
            span.start_time_unix_nano = rnd.choice((0, 10**18, 2**63, 2**64 - 9))
            span.end_time_unix_nano = span.start_time_unix_nano + rnd.choice((0, 5))
            if wrong:
                spoil(span)
        bad = sum(spoilt)
        body = request.SerializeToString()
        return Shot(kind, PATHS[0], body, _PROTOBUF, wrong_spans=bad, good_spans=len(spoilt) - bad)

    def _wrong_ids(self, span: Span) -> None:
        rnd = self._rnd
        match rnd.randrange(4):
            case 0:
                span.trace_id = rnd.randbytes(rnd.choice((0, 1, 8, 15, 17, 24, 32, 4000)))
            case 1:
                span.span_id = rnd.randbytes(rnd.choice((0, 7, 9, 16, 4000)))
            case 2:
                span.parent_span_id = rnd.randbytes(rnd.choice((3, 7, 9, 16, 4000)))
            case _:
                span.trace_id, span.span_id = rnd.choice(((bytes(16), b"12345678"), (b"1" * 16, bytes(8))))

    def _negative(self, span: Span) -> None:
        start, end = self._rnd.choice(((2**64 - 1, 2**63 - 1), (2**63, 1), (10, 1), (11, 10), (2**64 - 1, 1)))
        span.start_time_unix_nano, span.end_time_unix_nano = start, end

    def _nested(self) -> Shot:
        value = self._deep[self._rnd.choice((20, 45, 55, 500, 3000))]
        pair = b"\x0a\x01k\x12" + _varint(len(value)) + value
        span = _IDS + b"\x4a" + _varint(len(pair)) + pair
        for field in (b"\x12", b"\x12", b"\x0a"):
            span = field + _varint(len(span)) + span
        return _shot("deep nesting", PATHS[0], span)

    def _counts(self) -> Shot:
        many = self._rnd.choice((100, 1000, 1000, 20_000))
        span = _IDS + b"\x4a\x00" * many  # attributes without anything
        for field in (b"\x12", b"\x12", b"\x0a"):
            span = field + _varint(len(span)) + span
        return _shot("huge counts", PATHS[0], span)

    def _json_mutated(self) -> Shot:
        index = self._rnd.randrange(len(PATHS))
        body = bytearray(self._json[index])
        for _ in range(self._rnd.choice((1, 2, 6))):
            body[self._rnd.randrange(len(body))] = self._rnd.randrange(256)
        if self._rnd.random() < 0.3:
            body = body[: self._rnd.randrange(1, len(body))]
        return Shot("JSON mutated", PATHS[index], bytes(body), _JSON)

    def _json_nested(self) -> Shot:
        deep = self._rnd.choice((50, 900, 5000) * 30 + (100_000,))
        closed = b'{"resourceSpans":' + b"[" * deep + b"]" * deep + b"}"
        body = self._rnd.choice((b"[" * deep, b'{"a":' * deep, closed))
        return Shot("JSON nested", PATHS[0], body, _JSON)

    def _compressed(self) -> Shot:
        path, body = self._base()
        encoding = self._rnd.choice(("gzip", "deflate", "zstd"))
        packed = bytearray(_compress(bytes(body), encoding))
        packed[self._rnd.randrange(len(packed))] ^= 1 << self._rnd.randrange(8)
        if self._rnd.random() < 0.3:
            packed = packed[: self._rnd.randrange(1, len(packed))]
        return Shot("compressed, damaged", path, bytes(packed), {**_PROTOBUF, "content-encoding": encoding})

    def _headers(self) -> Shot:
        path, body = self._base()
        headers = self._rnd.choice(
            (
                {"content-type": "text/html"},
                {"content-type": ""},
                {**_PROTOBUF, "content-encoding": "br"},
                {**_PROTOBUF, "content-encoding": "gzip"},
                {**_JSON},
            )
        )
        return Shot("headers", path, bytes(body), headers)


_IDS = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8
_PROTOBUF = {"content-type": "application/x-protobuf"}
_JSON = {"content-type": "application/json"}


def _array(depth: int) -> bytes:
    """An AnyValue of so many arrays in each other."""
    value = b"\x0a\x01x"
    for _ in range(depth):
        inner = b"\x0a" + _varint(len(value)) + value
        value = b"\x2a" + _varint(len(inner)) + inner
    return value


def _shot(kind: str, path: str, body: bytes | bytearray) -> Shot:
    return Shot(kind, path, bytes(body), _PROTOBUF)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _compress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body)
    if encoding == "deflate":
        return zlib.compress(body)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(body)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _bombs() -> list[tuple[str, bytes, str]]:
    zeros = bytes(64 << 20)
    doc = json.dumps({"resourceSpans": [{}] * 10}).encode()
    return [
        ("gzip bomb", gzip.compress(zeros), "gzip"),
        ("deflate bomb", zlib.compress(zeros, 9), "deflate"),
        ("zstd bomb", _compress(zeros, "zstd"), "zstd"),
        ("gzip members", gzip.compress(b"") * 50_000 + gzip.compress(doc), "gzip"),
        ("gzip, lying size", gzip.compress(b"x" * 100)[:-4] + struct.pack("<I", 2**32 - 1), "gzip"),
    ]
