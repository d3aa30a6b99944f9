"""gRPC calls over h2: to grpcio's servers, to the official collector, and to peers that break the rules."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded

from benchmarks.collector.peers import OFFICIAL
from benchmarks.collector.peers import running as running_collector
from taximeter_collector.export.grpc_call import Client, Lost, Status
from taximeter_collector.packing import gzip_member
from taximeter_collector.signals import SIGNALS
from tests.collector.support import GrpcBackend, free_port, trace_request, wait_for
from tests.official import official_collector

Handler = Callable[[bytes, Any], Awaitable[bytes]]
METHOD = "/test.Service/Call"


@asynccontextmanager
async def serving(
    handler: Handler, *options: tuple[str, Any], where: str = "127.0.0.1:0", tls: Any = None
) -> AsyncIterator[str]:
    """A grpcio server; gives its target."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0), *options]
    )
    method = grpc.unary_unary_rpc_method_handler(handler)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": method}),))
    port = server.add_secure_port(where, tls) if tls else server.add_insecure_port(where)
    await server.start()
    try:
        yield where if where.startswith("unix:") else f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def call(client: Client, message: bytes, *, gzip: bool = False, timeout_s: float = 30) -> Status:
    return await client.unary(METHOD, message, gzip=gzip, metadata=[("x-tenant", "t")], timeout_s=timeout_s)


async def checksum(request: bytes, context: Any) -> bytes:
    assert dict(context.invocation_metadata())["x-tenant"] == "t"
    return b"%d %d" % (len(request), zlib.crc32(request))


async def test_messages_of_any_size_packed_or_not_arrive_whole_and_many_at_once() -> None:
    payloads = [os.urandom(size) for size in (0, 1, 16_384, 16_385, 3 << 20)] + [b"word " * 500_000]
    async with serving(checksum, ("grpc.max_concurrent_streams", 3)) as target:
        client = Client(target, None)
        calls = [call(client, p) for p in payloads]
        calls += [call(client, gzip_member([(p, b"")]), gzip=True) for p in payloads]
        answers = await asyncio.gather(*calls)
        client.close()
    assert [a.body for a in answers] == [b"%d %d" % (len(p), zlib.crc32(p)) for p in payloads] * 2


async def test_a_status_comes_with_its_message_and_details() -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        details = (("grpc-status-details-bin", b"\x08\x0e"), ("other", "x"))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "später, 100%", details)
        raise AssertionError

    async with serving(refuse) as target:
        client = Client(target, None)
        assert await call(client, b"x" * 300_000) == Status(14, "später, 100%", b"\x08\x0e", b"")
        found = await client.unary("/test.Service/No", b"", gzip=False, metadata=[], timeout_s=9)
        assert found.code == 12
        client.close()


async def test_connections_that_a_server_ends_by_age_lose_no_call() -> None:
    async def slow(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.05)
        return request

    ages = (("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5000))
    async with serving(slow, *ages) as target:
        client = Client(target, None)
        connections = set()
        for number in range(40):
            answer = await call(client, b"%d" % number)
            assert answer.body == b"%d" % number
            connections.add(client._connection)
        client.close()
    assert len(connections) >= 3


async def test_a_server_that_comes_back_is_called_again() -> None:
    where = f"127.0.0.1:{free_port()}"
    client = Client(where, None)
    with pytest.raises(Lost, match=r"ConnectionRefusedError|Connect call failed"):
        await call(client, b"")
    for _ in range(2):
        async with serving(checksum, where=where):
            assert (await call(client, b"")).code == 0
        with pytest.raises(Lost):
            await call(client, b"", timeout_s=5)
    client.close()


async def test_tls_and_sockets_of_the_file_system(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("collector.example")
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    trusted, stranger = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusted)
    async with serving(checksum, tls=grpc.ssl_server_credentials([pair])) as target:
        client = Client(target, trusted, "collector.example")
        assert (await call(client, b"secret" * 100_000)).body.startswith(b"600000 ")
        client.close()
        with pytest.raises(Lost, match="CERTIFICATE_VERIFY_FAILED"):
            await call(Client(target, stranger, "collector.example"), b"")
        with pytest.raises(Lost, match=r"Hostname mismatch|not valid for"):
            await call(Client(target, trusted), b"")
    async with serving(checksum, where=f"unix:{tmp_path}/grpc.sock") as target:
        client = Client(target, None)
        assert (await call(client, b"abc")).body.startswith(b"3 ")
        client.close()


# --- peers that do what they should not ----------------------------------------------------

SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


HEADERS_200 = frame(1, 4, 1, b"\x88\x5f\x10application/grpc")
OK = frame(0, 0, 1, b"\0\0\0\0\x01A") + frame(1, 5, 1, b"\x00\x0bgrpc-status\x010")
GOAWAY = frame(7, 0, 0, (1).to_bytes(4) + bytes(4))


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says something of its own on each connection, once it was sent a whole request."""
    got: list[bytes] = []
    left = list(answers)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = left.pop(0)
        writers.append(writer)
        heard = b""
        writer.write(SETTINGS)
        while b"end-of-message" not in heard and (more := await reader.read(65536)):
            heard += more
        got.append(heard)
        for at in range(0, len(answer), 7):  # in pieces, as a network may
            writer.write(answer[at : at + 7])
            await asyncio.sleep(0)
        if answer.endswith(b"close"):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", got
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)  # until they are


async def test_what_was_accepted_before_the_server_goes_away_is_still_answered() -> None:
    async with answering(GOAWAY + HEADERS_200 + OK, HEADERS_200 + OK) as (target, got):
        client = Client(target, None)
        for _ in range(2):  # the second on a new connection
            assert await call(client, b"end-of-message") == Status(0, "", b"", b"A")
        client.close()
        assert len(got) == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (frame(7, 0, 0, bytes(8)), "goes away"),
        (HEADERS_200 + b"close", "the connection ended"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 30, "does not speak HTTP/2"),
        (frame(0, 0, 1, b"before any header"), "ProtocolError"),
        (HEADERS_200 + frame(0, 0, 1, b"\0\0\0\0\x01"), "no answer within 1 s"),
        (frame(1, 4, 1, b"\xff\xff\xff"), "ProtocolError|Error"),
    ],
    ids=["goaway", "closed", "http1", "data first", "never ends", "bad headers"],
)
async def test_an_answer_that_is_none_is_lost_and_the_next_call_has_a_new_connection(
    answer: bytes, says: str
) -> None:
    async with answering(answer, HEADERS_200 + OK) as (target, _):
        client = Client(target, None)
        with pytest.raises(Lost, match=says):
            await call(client, b"end-of-message", timeout_s=1)
        assert (await call(client, b"end-of-message", timeout_s=5)).body == b"A"
        client.close()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (frame(1, 5, 1, b"\x08\x03503"), 14),  # by a proxy
        (frame(1, 5, 1, b"\x08\x03403"), 7),
        (frame(1, 5, 1, b"\x88"), 2),
        (HEADERS_200 + frame(0, 0, 1, b"\1\0\0\0\x01A") + frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"), 2),
        (HEADERS_200 + frame(0, 0, 1, b"\0\0\0\0\x09A") + frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"), 2),
    ],
    ids=["503", "403", "not gRPC", "packed", "cut off"],
)
async def test_an_answer_that_cannot_be_read_is_a_status(answer: bytes, code: int) -> None:
    async with answering(answer) as (target, _):
        client = Client(target, None)
        assert (await call(client, b"end-of-message", timeout_s=5)).code == code
        client.close()


@asynccontextmanager
async def refusing(calls: int) -> AsyncIterator[tuple[str, list[bool]]]:
    """An h2 server that refuses so many calls unseen and answers the next; gives which calls it refused."""
    refused: list[bool] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        made = H2Connection(H2Configuration(client_side=False))
        made.initiate_connection()
        writer.write(made.data_to_send())
        while data := await reader.read(1 << 16):
            events = made.receive_data(data)
            begun = [event.stream_id for event in events if isinstance(event, RequestReceived)]
            no = begun[: max(0, calls - len(refused))]
            refused.extend(stream in no for stream in begun)
            for stream in no:
                made.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            ended = {event.stream_id for event in events if isinstance(event, StreamEnded)}
            for stream in ended.difference(no):
                made.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                made.send_data(stream, bytes(5))
                made.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            writer.write(made.data_to_send())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", refused
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)  # until they are


async def test_a_call_that_a_server_refused_unseen_is_made_again_a_few_times() -> None:
    async with refusing(3) as (target, refused):
        client = Client(target, None)
        assert (await call(client, b"first")).code == 0
        assert (await call(client, b"second")).code == 0
        client.close()
    assert refused == [True, True, True, False, False]
    async with refusing(4) as (target, refused):
        client = Client(target, None)
        with pytest.raises(Lost, match="HTTP/2 error 7"):
            await call(client, b"first")
        client.close()
    assert refused == [True] * 4


async def test_an_answer_without_end_and_a_reset_end_a_call_and_not_the_connection() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return bytes(5 << 20) if request == b"much" else b"little"

    async with serving(answer, ("grpc.max_send_message_length", -1)) as target:
        client = Client(target, None)
        before = (await call(client, b""), client._connection)
        assert (await call(client, b"much")).code == 13
        assert (await call(client, b""), client._connection) == before
        client.close()
    async with answering(frame(3, 0, 1, (2).to_bytes(4))) as (target, _):
        client = Client(target, None)
        with pytest.raises(Lost, match="ended the call"):
            await call(client, b"end-of-message", timeout_s=5)
        assert client._connection is not None
        assert client._connection.usable
        client.close()


async def test_a_server_that_takes_nothing_more_is_left_in_time() -> None:
    """Its window is never opened: the message does not pass, and no memory is filled in vain."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"127.0.0.1:{silent.getsockname()[1]}", None)
        with pytest.raises(Lost, match="no answer within 1 s"):
            await call(client, bytes(8 << 20), timeout_s=1)
        client.close()


async def test_the_official_collector_takes_what_is_sent(tmp_path: Path) -> None:
    official_collector()
    ports = {name: free_port() for name in ("in", "health", "out", "own")}
    config = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{ports['in']}"}}}},
        "exporters": {"otlp_grpc": {"endpoint": f"127.0.0.1:{ports['out']}", "tls": {"insecure": True}}},
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{ports['health']}"}},
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp_grpc"]}},
        },
    }

    async def send() -> None:
        client = Client(f"127.0.0.1:{ports['in']}", None)
        method = SIGNALS["traces"].method
        for number in range(20):
            gzip = number % 2 == 0
            message = trace_request(number * 500, 500)
            packed = gzip_member([(message, b"")]) if gzip else message
            status = await client.unary(method, packed, gzip=gzip, metadata=[], timeout_s=20)
            assert status.code == 0, status
        assert (await client.unary(method, b"\xff", gzip=False, metadata=[], timeout_s=20)).code == 13
        client.close()

    with GrpcBackend(ports["out"]) as backend:
        with running_collector(OFFICIAL, tmp_path, config, ports["health"], core=None):
            await send()
            await asyncio.to_thread(
                wait_for, lambda: len(backend.received.span_names()) == 10_000, "all spans, once each"
            )
        assert len(set(backend.received.span_names())) == 10_000
