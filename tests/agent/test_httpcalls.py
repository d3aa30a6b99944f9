"""A call through httpx: the light part says what the official instrumentor says, and nothing breaks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any, ClassVar

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation import _semconv
from opentelemetry.instrumentation import httpx as official
from opentelemetry.propagators import textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taximeter import httpcalls, spans

INSTRUMENTORS = {
    "httpx": official.HTTPXClientInstrumentor,
    "httpx2": official.HTTPX2ClientInstrumentor,
}
HEADERS = ("traceparent", "tracestate", "baggage", "b3")
PATHS = ("/200", "/404", "/500", "/200?sig=secret&q=1", "/refused")


class Answering(BaseHTTPRequestHandler):
    seen: ClassVar[list[str | None]] = []
    told: ClassVar[list[dict[str, str | None]]] = []

    def do_GET(self) -> None:
        self.told.append(
            {name: self.headers.get(name) for name in ("traceparent", "tracestate", "baggage", "b3")}
        )
        self.seen.append(self.headers.get("traceparent"))
        self.send_response(int(self.path[1:4]))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def stable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    chosen = _semconv._OpenTelemetrySemanticConventionStability
    monkeypatch.setattr(chosen, "_initialized", False)
    monkeypatch.setattr(chosen, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    cls = official._BaseHTTPXClientInstrumentor
    for name in ("_handle_request_wrapper", "_handle_async_request_wrapper"):
        monkeypatch.setattr(cls, name, cls.__dict__[name])  # put back what install() exchanges
    monkeypatch.setattr(cls, "_taximeter", False, raising=False)


def told(name: str, base: str, paths: tuple[str, ...], **more: Any) -> list[Any]:
    """What was recorded of a request for each path, synchronous and asynchronous."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = spans.TracerProvider(shutdown_on_exit=False), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = INSTRUMENTORS[name]()
    instrumentor.instrument(tracer_provider=tracers, meter_provider=meters, skip_dep_check=True, **more)
    module = import_module(name)
    addresses = [base + path if path != "/refused" else "http://127.0.0.1:9/refused" for path in paths]

    async def all_of_them() -> None:
        async with module.AsyncClient(trust_env=False) as client:
            for address in addresses:
                with contextlib.suppress(module.ConnectError):
                    await client.get(address)

    try:
        with tracers.get_tracer("t").start_as_current_span("outer"):
            with module.Client(trust_env=False) as client:
                for address in addresses:
                    with contextlib.suppress(module.ConnectError):
                        client.get(address)
            asyncio.run(all_of_them())
    finally:
        instrumentor.uninstrument()
    *ended, outer = exporter.get_finished_spans()
    assert all(one.parent == outer.context for one in ended)
    found: list[Any] = [
        (
            *(one.name, one.kind, dict(one.attributes or {}), one.status.status_code),
            *(one.status.description, [event.name for event in one.events], one.instrumentation_scope),
        )
        for one in ended
    ]
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        every: Any = metric.data.data_points
        points = [(sorted(point.attributes.items()), point.count) for point in every]
        found.append((metric.name, metric.unit, sorted(points, key=str)))
    sent = [one.context.span_id for one in ended if one.context and "/refused" not in str(one.attributes)]
    headers, Answering.seen = Answering.seen, []
    assert [f"{span:016x}" for span in sent] == [(header or "").split("-")[2] for header in headers]
    return found


@pytest.mark.parametrize("name", list(INSTRUMENTORS))
def test_the_light_part_says_what_the_official_one_says(
    name: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Answering.seen = []
    expected = told(name, server, PATHS)
    assert len(expected) == 2 * len(PATHS) + 1
    made: list[httpcalls.Call] = []

    class Counted(httpcalls.Call):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(httpcalls, "Call", Counted)
    httpcalls.install()
    assert told(name, server, PATHS) == expected
    assert len(made) == 2 * len(PATHS)


def test_the_official_one_is_brought_back(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Answering.seen = []
    cls: Any = official._BaseHTTPXClientInstrumentor
    monkeypatch.setenv("TAXIMETER_OFFICIAL", "asgi,http")
    httpcalls.install()
    assert not cls._taximeter
    monkeypatch.delenv("TAXIMETER_OFFICIAL")
    httpcalls.install()
    assert cls._taximeter
    # A hook of the service's own is the official one's to call.
    called: list[str] = []
    told("httpx", server, ("/200",), request_hook=lambda span, request: called.append("hook"))
    assert called == ["hook"]


@pytest.mark.parametrize("part", ["_begin", "Call.end", "Call.failed"])
def test_a_failure_of_the_light_part_costs_telemetry_alone(
    part: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Answering.seen = []
    monkeypatch.delenv("TAXIMETER_STRICT", raising=False)
    httpcalls.install()

    def raising(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    inside = {"_begin": (httpcalls._Known, "target"), "Call.end": (httpcalls._Target, "answer")}
    owner, name = inside.get(part, (spans.Span, "record_exception"))
    monkeypatch.setattr(owner, name, raising)
    module = import_module("httpx")
    instrumentor = official.HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=spans.TracerProvider(shutdown_on_exit=False), skip_dep_check=True)
    try:
        with module.Client(trust_env=False) as client:
            assert client.get(server + "/200").status_code == 200
            with pytest.raises(module.ConnectError):
                client.get("http://127.0.0.1:9/refused")
    finally:
        instrumentor.uninstrument()


class Flag(textmap.TextMapPropagator):
    """A propagator of somebody's own."""

    def inject(self, carrier: Any, context: Any = None, setter: Any = textmap.default_setter) -> None:
        setter.set(carrier, "b3", "1")

    def extract(self, carrier: Any, context: Any = None, getter: Any = textmap.default_getter) -> Any:
        return context

    @property
    def fields(self) -> set[str]:
        return {"b3"}


def test_the_server_is_told_what_the_propagators_say(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    httpcalls.install()
    before = propagate.get_global_textmap()
    instrumentor = official.HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=spans.TracerProvider(shutdown_on_exit=False), skip_dep_check=True)
    state = trace.TraceState([("vendor", "x")])
    remote = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=state)
    stated = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    try:
        with import_module("httpx").Client(trust_env=False) as client:
            for context in (Context(), baggage.set_baggage("tenant", "ritz", Context()), stated):
                token = attach(context)
                client.get(server + "/200")
                detach(token)
            propagate.set_global_textmap(CompositePropagator([Flag()]))
            client.get(server + "/200")
    finally:
        propagate.set_global_textmap(before)
        instrumentor.uninstrument()
    plain, carried, followed, flagged = Answering.told[-4:]
    assert (plain["traceparent"] or "").startswith("00-") and plain["baggage"] is plain["tracestate"] is None
    assert carried["baggage"] == "tenant=ritz" and (carried["traceparent"] or "").startswith("00-")
    assert followed["tracestate"] == "vendor=x"
    assert (followed["traceparent"] or "").startswith(f"00-{1:032x}-")
    assert flagged == {"traceparent": None, "tracestate": None, "baggage": None, "b3": "1"}
