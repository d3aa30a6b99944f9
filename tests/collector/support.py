"""Real processes and independent receivers for the collector's tests; everything is stopped at the end."""

from __future__ import annotations

import gzip
import http.server
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
import yaml
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

Config = dict[str, Any]
T = TypeVar("T")
_CONTENT = {"content-type": "application/x-protobuf"}


_given: set[int] = set()  # a test asks for several before it uses the first


def free_port() -> int:
    """A port nobody listens on right now, below those the kernel gives to outgoing connections.

    Among those, a sender that keeps connecting to a collector that is down may be given the very port it
    connects to, and then holds it.
    """
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def wait_for(check: Callable[[], T], what: str, seconds: float = 60) -> T:
    """The first truthy result of ``check``; its assertion errors count as "not yet"."""
    deadline = time.monotonic() + seconds
    while True:
        problem: object = "never true"
        try:
            result = check()
            if result:
                return result
        except (AssertionError, httpx.TransportError) as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: {problem}")
        time.sleep(0.05)


@dataclass
class Collector:
    """One collector process, restartable on the same ports and directories."""

    folder: Path
    config: Config
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = None
    errors: str = ""

    def start(self, *, wait: bool = True) -> Collector:
        path = self.folder / "collector.yaml"
        path.write_text(yaml.safe_dump(self.config))
        self.process = run_collector("run", "--config", str(path), log=self.folder / "collector.log")
        if wait:
            wait_for(self.healthy, "the collector is ready", 180)
        return self

    def healthy(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the collector ended: {self.log()}")
        return httpx.get(f"http://127.0.0.1:{self.ports['health']}/", timeout=10).status_code == 200

    def log(self) -> str:
        return (self.folder / "collector.log").read_text()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(90)

    def url(self, path: str = "/v1/traces") -> str:
        return f"http://127.0.0.1:{self.ports['http']}{path}"

    def post(self, body: bytes, path: str = "/v1/traces", **headers: str) -> httpx.Response:
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        return httpx.post(self.url(path), content=body, headers={**_CONTENT, **fields}, timeout=20)

    def own(self, name: str, **labels: str) -> float:
        """The sum of an own metric over the series that have these labels."""
        text = httpx.get(f"http://127.0.0.1:{self.ports['own']}/metrics", timeout=5).text
        total = 0.0
        for line in text.splitlines():
            match = re.fullmatch(r"(\w+?)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                has = dict(re.findall(r'(\w+)="((?:[^"\\\\]|\\\\.)*)"', match[2] or ""))
                if labels.items() <= has.items():
                    total += float(match[3])
        return total

    def settled(self) -> bool:
        return self.own("otelcol_exporter_queue_size") == 0


def run_collector(*args: str, log: Path) -> subprocess.Popen[bytes]:
    """The collector as a subprocess, its output in a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "taximeter_collector", *args],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


@contextmanager
def collector(
    folder: Path, exporters: Config, pipelines: dict[str, list[str]], **receiver: Any
) -> Iterator[Collector]:
    """A collector object, not yet started, with every port picked; killed at the end.

    ``pipelines`` maps a signal to its exporters; ``receiver`` may give settings of ``http`` and ``grpc``.
    """
    ports = {name: free_port() for name in ("grpc", "http", "health", "own")}
    protocols = {
        name: {"endpoint": f"127.0.0.1:{ports[name]}", **receiver.get(name, {})} for name in ("grpc", "http")
    }
    own = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": ports["own"]}}}}
    storage = {"directory": str(folder / "data"), **receiver.get("storage", {})}
    config: Config = {
        "receivers": {"otlp": {"protocols": protocols}},
        "exporters": exporters,
        "extensions": {
            "health_check": {"endpoint": f"127.0.0.1:{ports['health']}"},
            "file_storage": storage,
        },
        "service": {
            "extensions": ["health_check", "file_storage"],
            "telemetry": {"metrics": {"readers": [own]}},
            "pipelines": {
                name: {"receivers": ["otlp"], "exporters": chosen} for name, chosen in pipelines.items()
            },
        },
    }
    made = Collector(folder, config, ports)
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def span_store(folder: Path, **values: Any) -> Config:
    return {"directory": str(folder / "store"), "flush_interval": "200ms", **values}


def backend_exporter(port: int, **values: Any) -> Config:
    """An otlp_grpc exporter to a :class:`Backend`, retrying fast."""
    return {
        "endpoint": f"127.0.0.1:{port}",
        "tls": {"insecure": True},
        "retry_on_failure": {"initial_interval": "100ms", "max_interval": "300ms"},
        **values,
    }


def trace_request(first: int, count: int = 1, **attributes: str | int | float | bool) -> bytes:
    """A serialised request of server spans named ``span-<n>``, ids derived from n."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    pair = resource.resource.attributes.add(key="service.name")
    pair.value.string_value = "test"
    scope = resource.scope_spans.add()
    for number in range(first, first + count):
        span = scope.spans.add(
            trace_id=(number + 1).to_bytes(16),
            span_id=(number + 1).to_bytes(8),
            name=f"span-{number}",
            kind=2,
            start_time_unix_nano=time.time_ns(),
        )
        span.end_time_unix_nano = span.start_time_unix_nano + 1_000_000
        for key, value in attributes.items():
            set_value(span.attributes.add(key=key).value, value)
    return request.SerializeToString()


def set_value(target: Any, value: str | int | float | bool) -> None:
    kind = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}[type(value)]
    setattr(target, kind, value)


@dataclass
class Received:
    """What a backend was given, and what it shall answer: an exception-like (code, details) or None."""

    requests: list[Any] = field(default_factory=list)
    answer: Callable[[Any], grpc.StatusCode | None] = lambda request: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: Any) -> grpc.StatusCode | None:
        code = self.answer(request)
        if code is None:
            with self.lock:
                self.requests.append(request)
        return code

    def span_names(self) -> list[str]:
        with self.lock:
            return [
                span.name
                for request in self.requests
                for resource in getattr(request, "resource_spans", ())
                for scope in resource.scope_spans
                for span in scope.spans
            ]


class GrpcBackend:
    """An OTLP/gRPC destination that shares no code with the collector: the official generated servicers."""

    def __init__(self, port: int) -> None:
        self.received = Received()
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        received = self.received

        def serve(response: Any) -> Any:
            def export(self: Any, request: Any, context: Any) -> Any:
                code = received.take(request)
                if code is not None:
                    context.abort(code, "as the test wished")
                return response

            return export

        for module, stubs, name in (
            (trace_service_pb2, trace_service_pb2_grpc, "Trace"),
            (metrics_service_pb2, metrics_service_pb2_grpc, "Metrics"),
            (logs_service_pb2, logs_service_pb2_grpc, "Logs"),
        ):
            base = getattr(stubs, f"{name}ServiceServicer")
            response = getattr(module, f"Export{name}ServiceResponse")()
            servicer = type(name, (base,), {"Export": serve(response)})()
            getattr(stubs, f"add_{name}ServiceServicer_to_server")(servicer, self._server)
        self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def __enter__(self) -> GrpcBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class HttpBackend:
    """An OTLP/HTTP destination made of the standard library; ``statuses`` are answered in turn, then 200."""

    def __init__(self) -> None:
        self.received = Received()
        self.statuses: list[int] = []
        self.headers: list[dict[str, str]] = []
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = backend.statuses.pop(0) if backend.statuses else 200
                if status == 200:
                    backend.headers.append({k.lower(): v for k, v in self.headers.items()})
                    if self.headers.get("content-encoding") == "gzip":
                        body = gzip.decompress(body)
                    backend.received.take(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                if status == 503:
                    self.send_header("retry-after", "0")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> HttpBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
