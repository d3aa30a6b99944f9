"""``make bench-agent``: CPU added per request, p99, memory, bytes exported and start-up time.

Every variant of the same service runs at once and waits; the load goes to one at a time, in turns of half a
second, so that a noisy moment hits all of them. What a variant did in a whole round, exports in the
background included, is divided by its requests. Needs Linux and the extra [demo].
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import itertools
import os
import platform
import random
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.agent import imports, load, report
from benchmarks.agent.processes import cpu_seconds, resident_mb
from benchmarks.agent.report import Reading
from benchmarks.agent.variants import VARIANTS, Variant
from examples.demo.postgres import embedded_postgres, run_directory
from taximeter_cli.supervise import Spec, Supervisor, free_port, http_healthy, port_open

ROOT = Path(__file__).parents[2]
#: Route, and requests a second: about a third of one core, plain.
ROUTES = {"json": 200.0, "query": 150.0, "model": 20.0}

#: Seconds in which everything about a request has been exported; stock waits 5.
_LINGER = 5.5
#: Parts of a round in which a variant is asked.
_TURNS = 6


_HEAD = """# What watching a service costs

`{command}`, {machine}. Load average {before:.1f} before and {after:.1f} after (the run is about 1):
on a busy machine CPU and ratios still mean something, latencies and start-up times little. OpenLIT runs with
openai 2, which it pins; the others with openai 3.

"""


def machine() -> str:
    """The day, and what this was measured on."""
    today = f"{datetime.date.today():%-d %B %Y}"
    release = platform.freedesktop_os_release()
    system = f"{release.get('NAME', 'Linux').partition(' ')[0]} {release.get('VERSION_ID', '')}".strip()
    kind, python = platform.machine().replace("_", "-"), ".".join(map(str, sys.version_info[:2]))
    return f"{today}, {system}, {kind}, {os.cpu_count()} cores, Python {python}"


def spec(
    variant: Variant, folder: Path, env: dict[str, str], sink: int, port: int, *, app: str = "service:app"
) -> Spec:
    """How a variant of the service is started, with its telemetry going to ``sink``."""
    bin_ = variant.install(folder)
    command = [str(bin_ / "python"), "-m", "uvicorn", app, "--port", str(port)]
    launcher = [str(bin_ / variant.launcher[0]), *variant.launcher[1:]] if variant.launcher else []
    clean: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith(("OTEL_", "TAXIMETER_", "DD_", "PYTHON"))
    }
    url = f"http://127.0.0.1:{port}/json/ready"
    return Spec(
        name=variant.name,
        argv=[*launcher, *command, "--log-level", "warning", "--no-access-log"],
        cwd=ROOT / "benchmarks/agent",
        env=clean
        | env
        | dict(variant.env)
        | {variant.endpoint: f"http://127.0.0.1:{sink}", "PATH": f"{bin_}:{os.environ['PATH']}"},
        healthy=http_healthy(url),
        start_timeout=120,
    )


def _count(sink: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{sink}/count") as answer:
        return int(answer.read())


def _paths(route: str) -> Iterator[str]:
    numbers = random.Random(1)
    while True:
        yield f"/{route}/{numbers.randint(1, 900)}"


@contextlib.contextmanager
def peers(supervisor: Supervisor, folder: Path, sinks: list[int]) -> Iterator[dict[str, str]]:
    """A database, a provider of models, and a sink for each variant; gives where they are."""
    with embedded_postgres(supervisor, folder / "pg") as postgres:
        dsn = postgres.dsn()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE guests (id int PRIMARY KEY, name text)")
            connection.execute("INSERT INTO guests SELECT i, 'guest ' || i FROM generate_series(1, 1000) i")
        provider = free_port()
        argv = [sys.executable, "-m", "examples.provider", "--port", str(provider), "--latency-scale", "0"]
        argv += ["--fail-rate", "0", "--ledger", str(folder / "ledger.jsonl")]
        supervisor.start(Spec(name="provider", argv=argv, cwd=ROOT, healthy=port_open(provider)))
        argv = [sys.executable, "-m", "benchmarks.agent.sink", *map(str, sinks)]
        supervisor.start(Spec(name="sink", argv=argv, cwd=ROOT, healthy=port_open(sinks[-1])))
        yield {"DATABASE_URL": dsn, "OPENAI_BASE_URL": f"http://127.0.0.1:{provider}/v1"}


def measure(
    variants: list[Variant], folder: Path, rounds: int, seconds: float, starts: int
) -> dict[str, Reading]:
    """Start everything, drive the load, and return what was read of each variant."""
    readings = {variant.name: Reading() for variant in variants}
    sinks = {variant.name: free_port() for variant in variants}
    with (
        run_directory() as scratch,
        Supervisor(scratch / "logs") as supervisor,
        peers(supervisor, scratch, list(sinks.values())) as env,
    ):
        ports: dict[str, int] = {}
        pids: dict[str, int] = {}
        for variant in variants:
            name = variant.name
            ports[name] = free_port()
            started = spec(variant, folder, env, sinks[name], ports[name])
            for _ in range(starts):  # starting it again stops the one before
                begun = time.perf_counter()
                pids[name] = supervisor.start(started).popen.pid
                readings[name].start_wall.append(time.perf_counter() - begun)
                readings[name].start_cpu.append(cpu_seconds(pids[name]))
        names = list(ports)
        paths = {route: _paths(route) for route in ROUTES}
        for name, route in itertools.product(names, ROUTES):  # warm up
            asyncio.run(load.run(ports[name], paths[route], ROUTES[route], 1.0))
        time.sleep(_LINGER)
        read = {name: (cpu_seconds(pids[name]), _count(sinks[name])) for name in names}
        for number, (route, rate) in itertools.product(range(rounds), ROUTES.items()):
            sent = dict.fromkeys(names, 0)
            for turn, step in itertools.product(range(_TURNS), range(len(names))):
                name = names[(number + turn + step) % len(names)]
                took = asyncio.run(load.run(ports[name], paths[route], rate, seconds / _TURNS))
                readings[name].latencies[route] += took
                sent[name] += len(took)
            time.sleep(_LINGER)
            for name in names:
                before, read[name] = read[name], (cpu_seconds(pids[name]), _count(sinks[name]))
                readings[name].cpu[route].append((read[name][0] - before[0]) / sent[name] * 1e6)
                readings[name].exported[route].append((read[name][1] - before[1]) / sent[name])
            print(f"round {number + 1} of {rounds}: {route}", file=sys.stderr, flush=True)
        for name in names:
            readings[name].memory = resident_mb(pids[name])
    return readings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent", description=__doc__)
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--only", help=f"comma-separated, of {', '.join(names)}; plain is always there")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short rounds: a first impression")
    parser.add_argument("--venvs", type=Path, default=Path("/tmp/taximeter-bench"), help="kept between runs")
    parser.add_argument("--output", type=Path, help="write the report there too")
    options = parser.parse_args()
    wanted = set((options.only or ",".join(names)).split(",")) | {"plain"}
    if unknown := wanted - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    variants = [variant for variant in VARIANTS if variant.name in wanted]
    for variant in variants:
        variant.install(options.venvs)
    seconds, starts = (1.0, 1) if options.quick else (3.0, 3)
    before = os.getloadavg()[0]
    readings = measure(variants, options.venvs, options.rounds, seconds, starts)
    tables = report.render(readings, ROUTES, options.rounds) + "\n" + imports.render()
    folder = ("--venvs", str(options.venvs))
    command = " ".join(["python -m benchmarks.agent", *(one for one in sys.argv[1:] if one not in folder)])
    text = _HEAD.format(command=command, machine=machine(), before=before, after=os.getloadavg()[0]) + tables
    print(text)
    if options.output:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
