"""Listening sockets and small HTTP servers inside the collector's one event loop.

Sockets are bound here, before anything starts, so that a port in use is one clear message
and not a stack trace from the middle of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taximeter_collector.errors import StartError
from taximeter_collector.handshake import HANDSHAKE_S, Handshakes

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def bind(endpoint: str, path: str) -> socket.socket:
    """A bound TCP socket for ``host:port``; ``path`` is the configuration key, for the message."""
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartError(f"{path}: the host of {endpoint} cannot be resolved ({error.strerror})") from error
    # "localhost" is both ::1 and 127.0.0.1: take the IPv4 one, as the official collector does.
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        remedies = {
            errno.EADDRINUSE: "is already in use: stop the program that holds it, or set another endpoint",
            errno.EACCES: "is not permitted to this user: choose a port of 1024 or above",
            errno.EADDRNOTAVAIL: "is no address of this machine: set an endpoint with one of its own",
        }
        remedy = remedies.get(error.errno or 0, f"cannot be listened on ({error.strerror})")
        raise StartError(f"{path}: {endpoint} {remedy}") from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the collector has one way to stop, not one per port.

    And without its clock, which wakes each server ten times a second for a date that is not sent, and to see
    whether it shall end.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class Bounds:
    """What one listener grants strangers. ``refused`` is told why a connection was closed."""

    connections: int = 1000
    header_s: float = 60.0  # 0: no limit, here and below
    read_s: float = 60.0
    idle_s: float = 75.0  # senders come every few seconds: do not close under their hands
    refused: Callable[[str], None] = lambda reason: None


_MAX_HEADER_BYTES = 64 << 10


def _bounded(bounds: Bounds) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with deadlines for a request's arrival: it has one for idle connections only."""

    class Protocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _in_header = True
        _header_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            if len(self.connections) >= bounds.connections:
                transport.abort()
                bounds.refused("connections")
                self.transport = transport
                return
            super().connection_made(transport)
            self._expect(bounds.header_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._expect(0)
            if self.flow is not None:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.flow is None or self.transport.is_closing():
                return
            if self._in_header:
                self._header_bytes += len(data)
            super().data_received(data)
            if self._in_header and self._header_bytes > _MAX_HEADER_BYTES:
                self._close("header_size")

        def on_message_begin(self) -> None:
            self._in_header, self._header_bytes = True, 0
            self._expect(bounds.header_s)
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_header = False
            self._expect(bounds.read_s)
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._expect(0)
            super().on_message_complete()

        def _expect(self, seconds: float) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
            if seconds:
                self._deadline = self.loop.call_later(seconds, self._close, "slow")

        def _close(self, reason: str) -> None:
            self._deadline = None
            if not self.transport.is_closing():
                bounds.refused(reason)
                self.transport.abort()

    return Protocol


class HttpServer:
    """One ASGI application on one bound socket."""

    def __init__(
        self,
        app: App,
        listener: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        bounds: Bounds = Bounds(),
    ) -> None:
        self._socket = listener
        protocol = _bounded(bounds)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=protocol,
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(bounds.idle_s) or 86400,
            timeout_graceful_shutdown=3,
        )
        self._server = server = _Server(config)
        self._handshakes = tls and Handshakes(
            listener,
            tls,
            lambda: protocol(config, server.server_state, {}),
            full=lambda more: len(server.server_state.connections) + more >= bounds.connections,
            refused=bounds.refused,
            seconds=min(HANDSHAKE_S, bounds.header_s or HANDSHAKE_S),
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve([] if self._handshakes else [self._socket]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise StartError(f"the HTTP server on {self._socket.getsockname()} did not start")
            await asyncio.sleep(0.005)
        if self._handshakes:
            self._handshakes.start()

    async def stop(self) -> None:
        """Let requests under way finish, within three seconds."""
        if self._handshakes:
            await self._handshakes.stop()
        self._server.end()
        if self._task is not None:
            await self._task
        self._socket.close()


async def respond(
    send: Send, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
) -> None:
    """Send one complete response."""
    fields = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def page(path: str, render: Callable[[Scope], tuple[int, str, str]]) -> App:
    """An application with one GET page: ``render`` gives status, content type and body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] != path:
            await respond(send, 404, f"not found; see {path}\n".encode(), "text/plain")
        elif scope["method"] not in ("GET", "HEAD"):
            await respond(send, 405, b"only GET\n", "text/plain", {"allow": "GET, HEAD"})
        else:
            status, content_type, body = render(scope)
            await respond(send, status, body.encode(), content_type)

    return app
