"""The guests of the soak: raw connections, so that one can be broken off at any byte."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import websockets

SHAPES = (
    *("tasks", "gather", "plain-def", "threads", "executor", "run-in-executor", "to-thread"),
    *("background", "detached", "stream", "stream-def", "fails", "leaves", "leaves-rows"),
    *("leaves-model", "cancelled", "nested", "socket"),
)


@dataclass
class Soaked:
    """What the guests did and saw."""

    asked: Counter[str] = field(default_factory=Counter)  # by shape
    wrong: list[str] = field(default_factory=list)


async def soak(port: int, requests: int, concurrent: int, first: int = 0) -> Soaked:
    """Send ``requests`` in shuffled shapes; number them from ``first`` on."""
    seen = Soaked()
    turns = [(first + number, SHAPES[number % len(SHAPES)]) for number in range(requests)]
    random.Random(3).shuffle(turns)
    queue = iter(turns)

    async def guest() -> None:
        for number, shape in queue:
            seen.asked[shape] += 1
            try:
                await asyncio.wait_for(_visit(port, number, shape, seen), 300)
            except Exception as error:
                seen.wrong.append(f"{shape} {number}: {error!r}")

    await asyncio.gather(*(guest() for _ in range(concurrent)))
    return seen


async def _visit(port: int, number: int, shape: str, seen: Soaked) -> None:
    units = 1 + number % 5
    path = f"/{shape}/{number}/{units}"
    if shape == "socket":
        async with websockets.connect(
            f"ws://127.0.0.1:{port}{path}",
            additional_headers={"traceparent": traceparent(number)},
            open_timeout=120,
        ) as connection:
            for index in range(units):
                await connection.send(str(index))
                assert await connection.recv() == str(number)
        return
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n"
        writer.write(f"{head}traceparent: {traceparent(number)}\r\n\r\n".encode())
        if shape.startswith("leaves"):
            got = await reader.readuntil(b"\r\n\r\n")
            got += await reader.read(100)
            writer.transport.abort()
            status = 200
        else:
            got = await reader.read()
            status = 500 if shape == "fails" else 200
        if not got.startswith(f"HTTP/1.1 {status}".encode()):
            seen.wrong.append(f"{shape} {number}: {got[:200]!r}")
    finally:
        writer.close()


def traceparent(number: int) -> str:
    """A trace of its own for each request, so that its span is found again."""
    return f"00-{number + 1:032x}-{1:016x}-01"
