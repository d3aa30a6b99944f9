"""TLS for a listener whose places are numbered: a connection takes one from its first byte on.

An event loop that accepts for a TLS server shows a connection only when the handshake is over, so that a
stranger who never ends one is never counted. Here the plain connection is counted first, and given a time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

_logger = logging.getLogger(__name__)
HANDSHAKE_S = 20.0  # as over gRPC
_PAUSE_S = 0.2  # when the process has no descriptor left


class Handshakes:
    """Accepts on one socket, and hands what is secured to protocols."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        *,
        full: Callable[[int], bool],
        refused: Callable[[str], None],
        seconds: float,
    ) -> None:
        """``full``: with so many handshakes under way, no place is left; ``refused`` is told the reason."""
        self._listener, self._context, self._protocol = listener, context, protocol
        self._full, self._refused, self._seconds = full, refused, seconds
        self._under_way: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        """Accept no more, and end what is not secured yet."""
        tasks = [*self._under_way, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                _logger.error("no connection can be accepted (%s)", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            if self._full(len(self._under_way)):
                accepted.close()
                self._refused("connections")
                continue
            task = asyncio.create_task(self._secure(accepted))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _secure(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, accepted, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
        except OSError:  # ssl.SSLError and TimeoutError are
            accepted.close()
            self._refused("handshake")
