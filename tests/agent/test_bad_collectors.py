"""Whatever the collector does, responses stay what they are, and the failure is told once.

Here some of the ways to be bad; ``make prove-harmless`` takes all of them, over gRPC too.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from tests.agent.conftest import Service, Start
from tests.agent.receiver import Receiver

Behaviour = Callable[[socket.socket], None]


def _request(connection: socket.socket) -> None:
    """Read one request."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536) or b"\r\n\r\n"
    head, _, body = got.partition(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
    while len(body) < size:
        body += connection.recv(65536) or b" " * size


def _hangs(connection: socket.socket) -> None:
    connection.recv(1)
    time.sleep(60)


def _slow(connection: socket.socket) -> None:
    while True:
        _request(connection)
        time.sleep(1.5)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def _answering(answer: bytes) -> Behaviour:
    def answers(connection: socket.socket) -> None:
        while True:
            _request(connection)
            connection.sendall(answer)

    return answers


def _endless(connection: socket.socket) -> None:
    _request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def _dripping(connection: socket.socket) -> None:
    _request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.2)


BEHAVIOURS: dict[str, Behaviour] = {
    "hangs": _hangs,
    "slow": _slow,
    "refuses": _answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n\r\nno, you"),
    "is full": _answering(b"HTTP/1.1 503 Full\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n"),
    "speaks no HTTP": _answering(b"220 mail.example ESMTP\r\n"),
    "answers garbage": _answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\xff\xfe\x00{{{[[["),
    "answers without end": _endless,
    "answers drop by drop": _dripping,
    "hangs up": lambda connection: connection.close(),
}


ABSENT = {"is not there": "http://127.0.0.1:9", "has no address": "http://collector.invalid:4318"}


@contextmanager
def collector(behaviour: Behaviour) -> Iterator[str]:
    """Listens on loopback and behaves like that on every connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, StopIteration):
            behaviour(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _memory(service: Service) -> int:
    """Resident kilobytes."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def _exercise(service: Service) -> list[tuple[int, bytes]]:
    answers = [service.get(f"/plain/{number}") for number in range(80)]
    answers.append(service.get("/nothing"))
    return [(answer.status_code, answer.content) for answer in answers]


EXPECTED = [(200, f'"{number}"'.encode()) for number in range(80)] + [(404, b'{"detail":"Not Found"}')]
#: Small enough that the queue is full at once where nothing is taken.
SETTINGS = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "40",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "OTEL_METRIC_EXPORT_INTERVAL": "300",
    "TAXIMETER_FLUSH_TIMEOUT": "1",
    "TAXIMETER_STRICT": "0",
}


ALL = bool(os.environ.get("PROVE_HARMLESS"))


def _unharmed(service: Service) -> str:
    """The service answers as ever, hardly grows and ends. Returns its log, where each outage is told once."""
    before = _memory(service)
    assert _exercise(service) == EXPECTED
    time.sleep(0.5)
    grown = _memory(service) - before
    assert service.stop() == -signal.SIGTERM
    assert grown < 60_000, f"{grown} kB more"
    log = service.log()
    assert "Traceback" not in log
    for kind in ("spans", "metrics", "logs"):
        assert log.count(f"does not take {kind}") <= 1
    assert len(log.splitlines()) < 15, log
    return log


HTTP = [*BEHAVIOURS, *ABSENT] if ALL else ["hangs", "refuses", "answers without end", "is not there"]


@pytest.mark.parametrize("name", HTTP)
def test_a_bad_collector_harms_no_request(start: Start, name: str) -> None:
    with collector(BEHAVIOURS.get(name, _hangs)) as url:
        address = ABSENT.get(name, url)
        # The agent's own lines would be lost among those that the service sends.
        service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_LOGS_EXPORTER="otlp", **SETTINGS)
        log = _unharmed(service)
    if name in {"is not there", "has no address", "refuses", "is full", "hangs up", "speaks no HTTP"}:
        assert log.count("does not take spans") == log.count("does not take logs") == 1, log


def _answers(status: grpc.StatusCode) -> grpc.GenericRpcHandler:
    """Every export ends with ``status``."""

    def export(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(status, "no, you")
        return b""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # untyped
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(export)

    return Handler()


GRPC_STATUS = {
    "refuses": grpc.StatusCode.INVALID_ARGUMENT,
    "is full": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "is away": grpc.StatusCode.UNAVAILABLE,
    "has no such service": grpc.StatusCode.UNIMPLEMENTED,
}
GRPC_ABSENT = {"is not there": "http://127.0.0.1:9", "has no address": "http://collector.invalid:4317"}
GRPC = [*GRPC_STATUS, *GRPC_ABSENT, "hangs", "hangs up", "speaks no HTTP"] if ALL else ["is not there"]


@contextmanager
def grpc_collector(name: str) -> Iterator[str]:
    """Listens on loopback and answers every export like that."""
    if name in GRPC_ABSENT:
        yield GRPC_ABSENT[name]
    elif name in BEHAVIOURS and name not in GRPC_STATUS:
        with collector(BEHAVIOURS[name]) as url:
            yield url
    else:
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((_answers(GRPC_STATUS[name]),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@pytest.mark.parametrize("name", GRPC)
def test_a_bad_collector_harms_no_request_over_grpc(start: Start, name: str) -> None:
    with grpc_collector(name) as url:
        service = start(
            "light",
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_LOGS_EXPORTER="otlp",
            **SETTINGS,
        )
        _unharmed(service)


def test_an_outage_is_counted_and_its_end_is_told(start: Start) -> None:
    receiver = Receiver()
    receiver.start()
    try:
        service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **SETTINGS)
        receiver.refused["/v1/traces"] = 503
        assert _exercise(service) == EXPECTED
        time.sleep(2)
        receiver.refused.clear()
        receiver.wait(lambda: bool(receiver.servers()), "spans after the outage", 60)
        receiver.wait(
            lambda: receiver.total("taximeter.agent.dropped_spans", reason="queue_full") > 0,
            "what was lost",
            60,
        )
        service.stop()
    finally:
        receiver.stop()
    assert receiver.total("taximeter.agent.errors", taximeter_hook="export.spans") > 0
    assert receiver.count("http.server.request.duration") == len(EXPECTED)
    lost = receiver.total("taximeter.agent.dropped_spans")
    assert len({span.span_id for span in receiver.servers()}) + lost == len(EXPECTED)
    log = service.log()
    assert log.count("does not take spans (HTTP 503)") == 1
    assert log.count("takes spans again, after") == 1
