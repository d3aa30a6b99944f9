"""gRPC as an exporter needs it, on HTTP/2 by the h2 library: calls with one message each way.

grpcio takes no message that is compressed already; its zlib was half of what forwarding cost. Here a message
is sent as it is given, and so as the log has it packed. Promises:

* A call ends with a :class:`Status`, or as :class:`Lost` when its fate is unknown; nothing else is raised.
* One connection at a time, made when a call needs one. A call that has run out of time leaves its connection
  behind, for a peer that is gone may never say so.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from h2.exceptions import H2Error

from taximeter_collector.export.grpc_connection import Connection, Lost, Refused, Status

__all__ = ["Client", "Lost", "Status"]

#: grpcio's servers count a call that has ended a little longer than its client, and refuse the next.
_AGAIN_S = (0.001, 0.01, 0.1)


class Client:
    """Calls to one server."""

    def __init__(self, target: str, context: ssl.SSLContext | None, server_name: str = "") -> None:
        """``target``: host:port, or unix:path."""
        self._target, self._context, self._server_name = target, context, server_name
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def unary(
        self,
        method: str,
        message: bytes,
        *,
        gzip: bool,
        metadata: Sequence[tuple[str, str]],
        timeout_s: float,
    ) -> Status:
        """One call; ``message`` is gzip's where so said. A ``timeout_s`` of 0 is none."""
        framed = bytes([gzip]) + len(message).to_bytes(4) + message
        headers = [
            (":method", "POST"),
            (":scheme", "https" if self._context else "http"),
            (":path", method),
            (":authority", self._server_name or self._target),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-accept-encoding", "identity,gzip"),
            *([("grpc-encoding", "gzip")] if gzip else []),
            *([("grpc-timeout", f"{max(1, int(timeout_s * 1000))}m")] if timeout_s else []),
            *metadata,
        ]
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout_s or None):
                pauses = iter(_AGAIN_S)
                while True:
                    try:
                        connection = await self._connected()
                        return await connection.call(headers, framed)
                    except Refused:
                        pause = next(pauses, None)
                        if pause is None:
                            raise
                    await asyncio.sleep(pause)
        except TimeoutError:
            if connection is not None:
                connection.leave("a call ran out of time")
            raise Lost(f"no answer within {timeout_s:g} s") from None
        except (OSError, H2Error, ValueError) as error:
            if connection is not None:
                connection.leave(str(error))
            raise Lost(f"{type(error).__name__}: {error}") from error

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None or not self._connection.usable:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._target.startswith("unix:"):
            path = self._target.removeprefix("unix:")
            _, connection = await loop.create_unix_connection(Connection, path)
            return connection
        host, _, port = self._target.rpartition(":")
        host = host.strip("[]")
        name = (self._server_name or host) if self._context else None
        transport, connection = await loop.create_connection(
            Connection, host, int(port), ssl=self._context, server_hostname=name
        )
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            transport.abort()
            raise OSError(f"{self._target} does not speak HTTP/2 (it did not choose h2 by ALPN)")
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.leave("closed")
