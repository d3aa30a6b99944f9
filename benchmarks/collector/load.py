"""Sender and sink, in one event loop on the other core; HTTP is spoken by hand, which is cheapest.

The sink answers at once and counts the spans it was given, by trace where a run samples.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio

from taximeter_collector.process import raw

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class Sink:
    """What arrived."""

    def __init__(self, *, by_trace: bool) -> None:
        self.spans = self.bytes = self.requests = 0
        self.traces: set[bytes] | None = set() if by_trace else None

    def take(self, payload: bytes) -> None:
        self.requests += 1
        self.bytes += len(payload)
        for resource in raw.Traces.FromString(payload).resources:
            for scope in resource.scopes:
                self.spans += len(scope.spans)
                if self.traces is not None:
                    self.traces.update(raw.trace_id(span) for span in scope.spans)


class _HttpSink(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._pieces: list[bytes] = []
        self._missing = -1  # bytes of the body still to come; -1: in the head
        self._gzip = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._pieces.append(data)
            data = b"".join(self._pieces) if len(self._pieces) > 1 else data
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._pieces = [head]
                return
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self._gzip = fields.get(b"content-encoding") == b"gzip"
            self._missing = int(fields[b"content-length"])
            self._pieces = []
            if b"expect" in fields:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing == 0:
            body = b"".join(self._pieces)
            self._pieces, self._missing = [], -1
            self._sink.take(zlib.decompress(body, 31) if self._gzip else body)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
            )


async def serve_http(sink: Sink, port: int) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(lambda: _HttpSink(sink), "127.0.0.1", port)


async def serve_grpc(sink: Sink, port: int) -> Any:
    async def export(payload: bytes, context: Any) -> bytes:
        sink.take(payload)
        return b""

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server


class Sent:
    """What the senders were told."""

    def __init__(self) -> None:
        self.acknowledged = self.refused = 0  # requests


async def send_http(bodies: Iterator[bytes], port: int, senders: int, sent: Sent) -> None:
    """Every body until it is acknowledged, over ``senders`` connections."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in bodies:
            head = (
                "POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-protobuf\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            while True:
                writer.write(head.encode())
                writer.write(body)
                await writer.drain()
                answer = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
                await reader.readexactly(int(fields.get(b"content-length", b"0")))
                if answer.split(b" ", 2)[1] == b"200":
                    sent.acknowledged += 1
                    break
                sent.refused += 1
                await asyncio.sleep(0.05)
        writer.close()

    await asyncio.gather(*(one() for _ in range(senders)))


async def send_grpc(bodies: Iterator[bytes], port: int, senders: int, sent: Sent) -> None:
    """The same over one gRPC channel with ``senders`` calls at once."""

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(_EXPORT)

        async def one() -> None:
            for body in bodies:
                while True:
                    try:
                        await call(body, timeout=60)
                        sent.acknowledged += 1
                        break
                    except grpc.aio.AioRpcError:
                        sent.refused += 1
                        await asyncio.sleep(0.05)

        await asyncio.gather(*(one() for _ in range(senders)))
