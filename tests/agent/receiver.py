"""A tiny OTLP/HTTP receiver: decodes what a process under test exports, and remembers it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Span:
    name: str
    scope: str
    kind: int  # 2 server, 3 client
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    status: int  # 2 error
    attributes: Attributes
    resource: Attributes


@dataclass(frozen=True)
class Point:
    name: str
    unit: str
    attributes: Attributes
    value: float  # a counter's value, or a histogram's sum
    count: int  # observations of a histogram
    bounds: tuple[float, ...]
    exemplars: tuple[str, ...]  # trace ids
    resource: Attributes


class Receiver:
    """Listens on a loopback port from :meth:`start` to :meth:`stop`; may be started again."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[tuple[str, bytes]] = []  # path and payload, as they came
        self.refused: dict[str, int] = {}  # path -> status that it is answered with
        self._series: dict[tuple[Any, ...], Point] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.refused.get(self.path, 200)
                if status == 200:
                    receiver._receive(self.path, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: Any) -> None:
                if not isinstance(sys.exception(), OSError):  # who hangs up is no news
                    super().handle_error(*_)

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _receive(self, path: str, body: bytes) -> None:
        with self._lock:
            self.bodies.append((path, body))
            if path == "/v1/traces":
                self.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            elif path == "/v1/metrics":
                for point in _points(ExportMetricsServiceRequest.FromString(body)):
                    key = (
                        point.resource["service.instance.id"],
                        point.name,
                        *sorted(point.attributes.items()),
                    )
                    # The SDK sends an exemplar once; the last export of a process may follow another.
                    earlier = self._series[key].exemplars if key in self._series else ()
                    self._series[key] = replace(point, exemplars=earlier + point.exemplars)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"did not see {what}; got {[span.name for span in self.spans]}")
            time.sleep(0.02)

    def points(self, name: str, **labels: Any) -> list[Point]:
        """The newest point of every series called ``name`` whose labels include ``labels``
        (``http_route`` stands for ``http.route``; ``None`` for absent)."""
        wanted = {key.replace("_", "."): value for key, value in labels.items()}
        with self._lock:
            return [
                point
                for point in self._series.values()
                if point.name == name
                and all(point.attributes.get(key) == value for key, value in wanted.items())
            ]

    def total(self, name: str, **labels: Any) -> float:
        return sum(point.value for point in self.points(name, **labels))

    def count(self, name: str, **labels: Any) -> int:
        return sum(point.count for point in self.points(name, **labels))

    def names(self) -> set[str]:
        with self._lock:
            return {point.name for point in self._series.values()}

    def servers(self, route: str | None = None) -> list[Span]:
        """Server spans, of ``route`` if given."""
        return [
            span
            for span in list(self.spans)
            if span.kind == 2 and (route is None or span.attributes.get("http.route") == route)
        ]

    def under(self, parent: Span) -> list[Span]:
        """Every other span of the same trace."""
        return [span for span in list(self.spans) if span.trace_id == parent.trace_id and span is not parent]


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    return None if kind is None else getattr(value, kind)


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _spans(request: ExportTraceServiceRequest) -> Iterable[Span]:
    for resource in request.resource_spans:
        about = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    scope.scope.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code,
                    _attributes(span.attributes),
                    about,
                )


def _points(request: ExportMetricsServiceRequest) -> Iterable[Point]:
    for resource in request.resource_metrics:
        about = _attributes(resource.resource.attributes)
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.histogram.data_points:
                    yield Point(
                        metric.name,
                        metric.unit,
                        _attributes(point.attributes),
                        point.sum,
                        point.count,
                        tuple(point.explicit_bounds),
                        tuple(exemplar.trace_id.hex() for exemplar in point.exemplars),
                        about,
                    )
                for number in (*metric.sum.data_points, *metric.gauge.data_points):
                    value = number.as_double if number.WhichOneof("value") == "as_double" else number.as_int
                    yield Point(
                        metric.name,
                        metric.unit,
                        _attributes(number.attributes),
                        value,
                        0,
                        (),
                        tuple(exemplar.trace_id.hex() for exemplar in number.exemplars),
                        about,
                    )
