"""An open-loop load generator: requests leave at fixed times, whatever the answers do.

A latency runs from the moment at which the request should have left, so a stalled service is not
spared the requests that it held up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator


class Connection(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def __init__(self, free: list[Connection], latencies: list[float]) -> None:
        self._free, self._latencies = free, latencies
        self._buffer = b""
        self._due = 0.0
        self.failures = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def request(self, path: str, due: float) -> None:
        self._due = due
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\nuser-agent: bench/1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.failures += 1
        self._latencies.append(time.perf_counter() - self._due)
        self._buffer = b""
        self._free.append(self)


async def run(port: int, paths: Iterator[str], rate: float, seconds: float) -> list[float]:
    """Send ``rate`` requests a second for ``seconds``; returns the latencies in seconds.

    Raises :class:`RuntimeError` when a request failed or was never answered.
    """
    loop = asyncio.get_running_loop()
    free: list[Connection] = []
    every: list[Connection] = []
    latencies: list[float] = []
    total = int(rate * seconds)
    begun = time.perf_counter()
    for number in range(total):
        due = begun + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if free:
            connection = free.pop()
        else:
            _, connection = await loop.create_connection(
                lambda: Connection(free, latencies), "127.0.0.1", port
            )
            every.append(connection)
        connection.request(next(paths), due)
    for _ in range(1000):
        if len(latencies) == total:
            break
        await asyncio.sleep(0.01)
    failures = sum(connection.failures for connection in every)
    for connection in every:
        connection.transport.close()
    if failures or len(latencies) != total:
        raise RuntimeError(f"port {port}: {failures} of {total} failed, {total - len(latencies)} unanswered")
    return latencies
