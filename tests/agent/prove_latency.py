"""p99 while the collector is dead, slow, refusing or lying, beside the service without the agent.

The third part of ``make prove-harmless``. Each round sends the same requests, at the same fixed rate, to
every service in turn; the plain service is there twice. While one is asked the others are stopped
(SIGSTOP), so that none of them works beside it. The noise is what the p99 of the two plain ones does from
round to round: a service is within it where the median of its rounds' p99 is no more than the highest p99 of
a plain round. The ratio of the medians stands beside. The collectors are a process of their own.

A request's time is taken from when it was sent or, where its connection was still busy, from when it was
due: a stall counts for all the requests that it delays.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from tests.agent.conftest import Service
from tests.agent.prove_harmless import CONNECTIONS, REQUEST
from tests.agent.receiver import Receiver
from tests.agent.standin import Provider
from tests.agent.test_bad_collectors import BEHAVIOURS, collector

#: What is said of the collector -> its behaviour there. The others are made below.
BAD = {
    "slow (1.5 s)": "slow",
    "hanging": "hangs",
    "refusing (400)": "refuses",
    "full (503)": "is full",
    "lying (garbage)": "answers garbage",
    "lying (without end)": "answers without end",
}
PLAIN = ("plain", "plain again")
DEAD = {"dead": "http://127.0.0.1:9"}
WARM = 0.6  # s of requests before those that are measured


def _collect(pipe: Connection) -> None:
    """Run the collectors, good and bad, until the pipe is closed."""
    good = Receiver()
    good.start()
    with ExitStack() as stack:
        urls = {name: stack.enter_context(collector(BEHAVIOURS[kind])) for name, kind in BAD.items()}
        pipe.send({"well": good.url, **urls})
        pipe.poll(None)
    good.stop()


async def drive(port: int, rate: float, requests: int) -> list[float]:
    """Seconds that each of ``requests`` took, sent at ``rate`` a second after some that are not measured;
    every answer is checked."""
    took: list[float] = []
    warm = int(WARM * rate)
    begun = time.perf_counter() + 0.05

    async def guest(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, warm + requests, CONNECTIONS):
            due = begun + number / rate
            early = due - time.perf_counter()
            if early > 0:
                await asyncio.sleep(early)
                due = time.perf_counter()
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            assert await reader.readexactly(3) == b'"a"'
            if number >= warm:
                took.append(time.perf_counter() - due)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(guest(first) for first in range(CONNECTIONS)))
    return took


def quantile(part: float, took: list[float]) -> float:
    return sorted(took)[int(len(took) * part)] * 1e3


def measure(services: dict[str, Service], rounds: int, rate: float, requests: int) -> dict[str, list[float]]:
    """The p99 of each round, in milliseconds; the first round warms up and is left out."""
    found: dict[str, list[float]] = {name: [] for name in services}
    middle: dict[str, list[float]] = {name: [] for name in services}
    names = list(services)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            services[name].process.send_signal(signal.SIGCONT)
            took = asyncio.run(drive(services[name].port, rate, requests))
            services[name].process.send_signal(signal.SIGSTOP)
            if number:
                found[name].append(quantile(0.99, took))
                middle[name].append(quantile(0.5, took))
        sys.stderr.write(f"  round {number} of {rounds}\n")
    print(f"{'collector':>20} {'p50':>6} {'p99':>6} {'lowest':>7} {'highest':>8} {'of plain':>9}  verdict")
    noise = [value for name in PLAIN for value in found[name]]
    plain = median(noise)
    for name, values in found.items():
        within = median(values) <= max(noise)
        verdict = "noise" if name in PLAIN else "within noise" if within else "NOT within noise"
        print(
            f"{name:>20} {median(middle[name]):6.2f} {median(values):6.2f} {min(values):7.2f} "
            f"{max(values):8.2f} {median(values) / plain:9.2f}  {verdict}",
            flush=True,
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--only", help="one collector beside plain")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    collectors = spawn.Process(target=_collect, args=(there,), daemon=True)
    collectors.start()
    urls: dict[str, str] = here.recv() | DEAD
    nobody, provider = Receiver(), Provider()
    nobody.start()
    services: dict[str, Service] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder)
        try:
            for name in PLAIN:
                services[name] = Service("light", nobody, provider, {}, log=log / name, launcher=())
            for name, url in urls.items():
                if options.only in {None, name}:
                    settings = {"TAXIMETER_STRICT": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": url}
                    services[name] = Service("light", nobody, provider, settings, log=log / name)
            for service in services.values():
                service.wait()
                service.process.send_signal(signal.SIGSTOP)
            print(
                f"p50 and p99 in ms: medians of {options.rounds} rounds of {options.requests} requests at "
                f"{options.rate:.0f} a second; lowest and highest round\n"
            )
            found = measure(services, options.rounds, options.rate, options.requests)
        finally:
            for service in services.values():
                service.process.kill()
                service.process.wait()
            here.close()
            nobody.stop()
            provider.stop()
            collectors.kill()
            collectors.join()
    noise = max(value for name in PLAIN for value in found[name])
    return int(any(median(values) > noise for values in found.values()))


if __name__ == "__main__":
    sys.exit(main())
