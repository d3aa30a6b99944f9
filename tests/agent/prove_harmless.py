"""100,000 requests to a service whose collector is dead: memory and p99 beside the plain service.

``make prove-harmless`` prints what it measures; only the memory is judged. Rounds of the plain and
of the instrumented service are interleaved, so that a busy machine is busy for both.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.agent.conftest import Service
from tests.agent.receiver import Receiver
from tests.agent.standin import Provider

ROUND = 5_000
CONNECTIONS = 8
PLAIN_EVERY = 4  # rounds of the instrumented service to one of the plain
REQUEST = b"GET /plain/a HTTP/1.1\r\nhost: x\r\n\r\n"


async def drive(port: int, requests: int) -> list[float]:
    """Seconds that each request took; every answer is checked."""
    took: list[float] = []

    async def guest(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            started = time.perf_counter()
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            assert await reader.readexactly(3) == b'"a"'
            took.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(guest(requests // CONNECTIONS) for _ in range(CONNECTIONS)))
    return took


def memory(service: Service) -> float:
    """Resident megabytes."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def p(part: float, took: list[float]) -> str:
    return f"{sorted(took)[int(len(took) * part)] * 1e3:.2f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    total = parser.parse_args().requests
    dead = Receiver()
    dead.start()
    dead.stop()  # its port refuses
    provider = Provider()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder)
        # A queue that is full early: what grows afterwards would grow for ever.
        settings = {"TAXIMETER_STRICT": "0", "OTEL_BSP_MAX_QUEUE_SIZE": "2048"}
        plain = Service("light", dead, provider, {}, log=log / "plain", launcher=())
        ours = Service("light", dead, provider, settings, log=log / "ours")
        try:
            plain.wait()
            ours.wait()
            print(f"{'requests':>9} {'MB plain':>9} {'MB ours':>8}  p50/p99 plain, p50/p99 ours", flush=True)
            plain_took = asyncio.run(drive(plain.port, ROUND))
            memories: list[float] = []
            for number in range(total // ROUND):
                if number % PLAIN_EVERY == 0:
                    plain_took = asyncio.run(drive(plain.port, ROUND))
                took = asyncio.run(drive(ours.port, ROUND))
                memories.append(memory(ours))
                print(
                    f"{(number + 1) * ROUND:9,} {memory(plain):9.1f} {memories[-1]:8.1f}  "
                    f"{p(0.5, plain_took)} / {p(0.99, plain_took)}, {p(0.5, took)} / {p(0.99, took)}",
                    flush=True,
                )
            stopped = time.monotonic()
            ours.stop()
            plain.stop()
            print(f"stopped in {time.monotonic() - stopped:.1f} s; lines of the agent's log:")
            print("".join(f"  {line}\n" for line in ours.log().splitlines() if not line.startswith("INFO")))
        finally:
            for service in (plain, ours):
                service.process.kill()
            provider.stop()
    half = memories[len(memories) // 2 :]
    grown = half[-1] - half[0]
    print(f"memory over the second half: {grown:+.1f} MB ({'flat' if grown < 3 else 'GROWS'})")
    return int(grown >= 3)


if __name__ == "__main__":
    sys.exit(main())
