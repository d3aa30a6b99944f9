"""``python -m examples.loop.distance --port P --to P2 --ms 4``: a TCP relay that is so far away.

The plan's service talks to a database in another data centre; Postgres on the same machine answers in
0.3 ms, in which no N+1 hurts. Every byte is handed on ``ms`` milliseconds later, each way, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import signal


class _End(asyncio.Protocol):
    """One end of a relayed connection; ``other`` is where its bytes go."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            asyncio.get_running_loop().call_later(self.delay_s, self.other.write, data)

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None:
            asyncio.get_running_loop().call_later(self.delay_s, self.other.close)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class _Front(_End):
    """The end at which the service arrives: dials the other one, holding back what comes meanwhile."""

    def __init__(self, delay_s: float, to: int) -> None:
        super().__init__(delay_s)
        self._to = to
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._dialling = asyncio.ensure_future(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(lambda: _End(self.delay_s), "127.0.0.1", self._to)
        except OSError:
            self.close()
            return
        self.other, far.other = far, self
        assert self.transport is not None
        self.transport.resume_reading()


async def relay(port: int, to: int, delay_s: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: _Front(delay_s, to), "127.0.0.1", port)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.loop.distance", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=int, required=True, help="the port of the real server, on this machine")
    parser.add_argument("--ms", type=float, default=4.0, help="one way, milliseconds")
    options = parser.parse_args()
    asyncio.run(relay(options.port, options.to, options.ms / 1e3))


if __name__ == "__main__":
    main()
