"""Listening sockets and small HTTP servers inside the collector's one event loop.

Sockets are bound here, before anything starts, so that a port in use is one clear message
and not a stack trace from the middle of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn

from taximeter_collector.errors import StartError

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
    """uvicorn without its signal handlers: the collector has one way to stop, not one per port."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """One ASGI application on one bound socket."""

    def __init__(self, app: App, listener: socket.socket) -> None:
        self._socket = listener
        config = uvicorn.Config(
            app,
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,  # senders come every few seconds: do not close under their hands
            timeout_graceful_shutdown=3,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise StartError(f"the HTTP server on {self._socket.getsockname()} did not start")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Let requests under way finish, within three seconds."""
        self._server.should_exit = True
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
