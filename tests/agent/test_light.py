"""The light parts say what the official ones say: spans, OTLP bytes, and the ASGI layer side by side."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, sampling
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from taximeter import export, otlp, redact, sending, spanattributes, spans, waiting

ODD: dict[str, Any] = {
    "text": "Zimmer für zwei: 日本 \u0000 'quoted'",
    "long": "x" * 2000,
    "broken": "a\ud800b",
    "whole": -5,
    "large": 2**62,
    "half": 0.5,
    "infinite": math.inf,
    "yes": True,
    "one": 1,
    "many": ["a", "b"],
    "mixed": {"a": [1, 2.5, {"b": None}]},
    "bytes": b"\x00\xff",
    "empty": "",
    "none": None,
}


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


Provider = Callable[..., sdk.TracerProvider]


def made(provider: Provider, use: Callable[[Any], None], **more: Any) -> ReadableSpan:
    kept = Kept()
    tracers = provider(shutdown_on_exit=False, resource=Resource({"service.name": "s"}), **more)
    tracers.add_span_processor(kept)
    use(tracers.get_tracer("scope", "1.0", "https://schema", {"of": "scope"}))
    (span,) = kept.ended
    return span


def everything(tracer: Any) -> None:
    remote = SpanContext(
        5, 6, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b")])
    )
    span = tracer.start_span(
        "GET /ü",
        set_span_in_context(NonRecordingSpan(remote)),
        SpanKind.SERVER,
        ODD,
        [Link(SpanContext(7, 8, is_remote=False), {"link": 1})],
        start_time=1_000,
    )
    span.set_attributes({"more": 1, "whole": 6})
    span.set_attribute("late", "x")
    span.add_event("happened", {"what": "it", "n": 3}, timestamp=1_500)
    span.update_name("GET /other")
    span.set_status(Status(StatusCode.ERROR, "bad"))
    span.end(2_000)
    span.set_attribute("after", 1)
    span.update_name("after")


def nothing(tracer: Any) -> None:
    tracer.start_span("a", start_time=1).end(2)


def limited(tracer: Any) -> None:
    span = tracer.start_span("a", attributes={"a": "abcdef", "b": 2, "c": 3, "": 4}, start_time=1)
    for number in range(4):
        span.add_event(f"e{number}", timestamp=number)
    span.end(2)


LIMITS = SpanLimits(max_span_attributes=2, max_events=2, max_span_attribute_length=3)


@pytest.mark.parametrize(
    ("use", "more"), [(everything, {}), (nothing, {}), (limited, {"span_limits": LIMITS})]
)
def test_a_light_span_is_the_sdks(use: Callable[[Any], None], more: dict[str, Any]) -> None:
    light, official = (made(kind, use, **more) for kind in (spans.TracerProvider, sdk.TracerProvider))
    assert isinstance(light, spans.Span)
    for name in (
        *("name", "kind", "parent", "start_time", "end_time", "instrumentation_scope", "resource"),
        *("dropped_attributes", "dropped_events", "dropped_links"),
    ):
        assert getattr(light, name) == getattr(official, name), name
    assert dict(light.attributes or {}) == dict(official.attributes or {})
    assert [(one.name, dict(one.attributes or {})) for one in light.events] == [
        (one.name, dict(one.attributes or {})) for one in official.events
    ]
    assert [(one.context, dict(one.attributes or {})) for one in light.links] == [
        (one.context, dict(one.attributes or {})) for one in official.links
    ]
    assert (light.status.status_code, light.status.description) == (
        official.status.status_code,
        official.status.description,
    )


@pytest.mark.parametrize("use", [everything, nothing, limited])
@pytest.mark.parametrize("provider", [spans.TracerProvider, sdk.TracerProvider])
def test_the_bytes_are_protobufs(provider: Provider, use: Callable[[Any], None]) -> None:
    span = made(provider, use)
    if use is everything:  # protobuf refuses a lone surrogate, and the span with it
        assert b"a?b" in otlp.span(span)
        odd = {key: value for key, value in (span.attributes or {}).items() if key != "broken"}
        span = ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=odd,
            events=span.events,
            links=span.links,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
    for _ in range(2):  # the second time from the tables
        data = otlp.request([otlp.encode(one) for one in (span, span)])
        assert ExportTraceServiceRequest.FromString(data) == encode_spans([span, span])


class Wire(BaseHTTPTransport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def request(self, *_: Any, data: bytes | None = None, **__: Any) -> BaseHTTPResult:
        self.sent.append(data or b"")
        return sending._Result(200, "OK")

    def is_connection_error(self, exception: Exception | None) -> bool:
        return False

    def close(self) -> None:
        pass


def ordinary(tracer: Any) -> None:
    remote = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1))
    parent = set_span_in_context(NonRecordingSpan(remote))
    given = {"a": "x", "n": 1, "half": 0.5, "yes": True, "many": ["a", "b"], "url.query": "guest=Ana"}
    tracer.start_span("a", parent, SpanKind.SERVER, given, start_time=1).end(2)


@pytest.mark.parametrize("use", [ordinary, nothing])
def test_a_span_that_waited_is_encoded_as_at_once(use: Callable[[Any], None]) -> None:
    span, redactor = made(spans.TracerProvider, use), redact.Redactor()
    kept = waiting.keep(span)
    assert kept is not None and b"Ana" not in waiting.encode(kept, redactor)[2]
    assert waiting.encode(kept, redactor) == otlp.encode(export.without_content(span, redactor))
    for _ in range(2):  # a tuple among the values goes first
        gc.collect()
    assert not gc.is_tracked(kept)  # else it would live through collections, and make whole ones frequent


STATEMENT = spanattributes.Fixed({"db.query.text": "SELECT 'Ana'", "db.system.name": "postgresql", "n": 1})


@pytest.mark.parametrize(
    "own",
    [
        {"rows": 3, "names": ("a", "b")},
        {"n": 2},  # says again what is fixed
        {"url.query": "guest=Ana"},
        {"half": 0.5, "many": ["a", "b"]},
        {"bytes": b"Ana"[:0]},
    ],
)
def test_fixed_attributes_are_said_like_any_other(own: dict[str, Any]) -> None:
    redactor = redact.Redactor()

    def use(tracer: Any, given: Any = STATEMENT) -> None:
        span = tracer.start_span("SELECT", kind=SpanKind.CLIENT, attributes=given, start_time=1)
        span.set_attributes(own)
        span.end(2)

    shared = made(spans.TracerProvider, use)
    copied = made(spans.TracerProvider, lambda tracer: use(tracer, dict(STATEMENT)))
    for _ in range(2):  # the second time the bytes are those of the first
        kept, other = waiting.keep(shared), waiting.keep(copied)
        if kept is None or other is None:
            assert "bytes" in own
            break
        ours, theirs = (
            ExportTraceServiceRequest.FromString(otlp.request([waiting.encode(one, redactor)]))
            .resource_spans[0]
            .scope_spans[0]
            .spans[0]
            for one in (kept, other)
        )
        assert b"Ana" not in ours.SerializeToString()
        assert sorted(map(str, ours.attributes)) == sorted(map(str, theirs.attributes))
    assert dict(shared.attributes or {}) == dict(copied.attributes or {})
    assert STATEMENT == {"db.query.text": "SELECT 'Ana'", "db.system.name": "postgresql", "n": 1}


def test_fixed_attributes_obey_the_limits() -> None:
    def use(given: Any) -> Callable[[Any], None]:
        return lambda tracer: tracer.start_span("SELECT", attributes=given, start_time=1).end(2)

    light = made(spans.TracerProvider, use(STATEMENT), span_limits=LIMITS)
    official = made(sdk.TracerProvider, use(dict(STATEMENT)), span_limits=LIMITS)
    assert dict(light.attributes or {}) == dict(official.attributes or {})
    assert light.dropped_attributes == official.dropped_attributes == 1


@pytest.mark.parametrize("use", [everything, limited])
def test_what_does_not_fit_is_encoded_at_once(use: Callable[[Any], None]) -> None:
    more = {"span_limits": LIMITS} if use is limited else {}
    assert waiting.keep(made(spans.TracerProvider, use, **more)) is None


def odd(tracer: Any) -> None:
    span = tracer.start_span("a", start_time=1)
    span.set_attribute(None, "x")
    span.set_attributes({"kept": 1, ("a",): 2})
    span.end(2)


def test_an_odd_name_of_an_attribute_costs_itself() -> None:
    light, official = (made(kind, odd) for kind in (spans.TracerProvider, sdk.TracerProvider))
    assert dict(light.attributes or {}) == dict(official.attributes or {})


def test_a_number_too_large_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXIMETER_STRICT", "0")
    span = made(spans.TracerProvider, lambda tracer: tracer.start_span("a", attributes=LARGE).end())
    kept = waiting.keep(span)
    assert kept is not None
    data = otlp.request([waiting.encode(kept, redact.Redactor())])
    (one,) = ExportTraceServiceRequest.FromString(data).resource_spans[0].scope_spans[0].spans
    assert [each.key for each in one.attributes] == ["n"]


LARGE = {"large": 2**64, "n": 1}


def test_no_object_waits_to_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that waited as an object would live through collections, and make whole ones frequent."""
    monkeypatch.setenv("TAXIMETER_STRICT", "0")
    wire, before = Wire(), export.dropped()
    exporter = sending.SpanExporter(_transport=wire)
    processor = export.CountingProcessor(
        export.GuardedExporter(exporter, redact.Redactor()), schedule_delay_millis=60_000
    )
    provider = spans.TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "s"}))
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("t")
    span = tracer.start_span("a", attributes={"url.query": "guest=Ana", "n": 1})
    kept = weakref.ref(span)
    span.end()
    del span
    assert kept() is None
    odd: Any = tracer.start_span("b")
    odd._name = None  # what cannot be encoded costs itself, not its batch
    odd.end()
    tracer.start_span("c").end()
    assert processor.waiting() == 3
    provider.force_flush()
    (data,) = wire.sent
    (resource,) = ExportTraceServiceRequest.FromString(data).resource_spans
    first, second = resource.scope_spans[0].spans
    assert (first.name, second.name) == ("a", "c")
    assert [(one.key, one.value.int_value) for one in first.attributes] == [("n", 1)]
    assert export.dropped().get("not_encoded", 0) - before.get("not_encoded", 0) == 1
    provider.shutdown()


@pytest.mark.parametrize(
    "sampler",
    [
        sampling.DEFAULT_ON,
        sampling.DEFAULT_OFF,
        sampling.ALWAYS_ON,
        sampling.ParentBased(sampling.TraceIdRatioBased(0.5)),
    ],
)
@pytest.mark.parametrize("parent", [None, 0, 1])
def test_a_light_tracer_samples_as_the_sdks(sampler: sampling.Sampler, parent: int | None) -> None:
    context = None
    if parent is not None:
        given = SpanContext(9, 9, True, TraceFlags(parent), TraceState([("k", "v")]))
        context = set_span_in_context(NonRecordingSpan(given))

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return 3

    seen = []
    for provider in (spans.TracerProvider, sdk.TracerProvider):
        tracers = provider(sampler=sampler, shutdown_on_exit=False, id_generator=Ids())
        span = tracers.get_tracer("t").start_span("s", context)
        found = span.get_span_context()
        seen.append((span.is_recording(), found.trace_id, found.trace_flags, dict(found.trace_state)))
    assert seen[0] == seen[1]


def test_another_processors_view_of_a_light_span() -> None:
    span = made(spans.TracerProvider, limited)
    assert '"name": "a"' in span.to_json()
    with pytest.raises(TypeError):
        span.attributes["a"] = 1  # type: ignore[index]
