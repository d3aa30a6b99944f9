"""``make prove-parallel``: thirty generated routes under the agent; advice; the same with gather.

Judged: no pair of calls of which one needs the other is advised; and each advised route's P50 and P95 with
``asyncio.gather`` lie within 10 % of what is predicted from the traces without it.

First the service runs as it is, and is advised. Then it runs twice at the same time, as it is and with the
advice: each request goes to both, one after the other, so that both meet the same weather, whatever else the
machine does. What the first one's traces predict is held against the second. Each row of the database has
its own delay, so a request meets the same delays in both.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg

from benchmarks.parallel.plans import ROWS, SEED, SPACE, TABLES, Route, key, routes
from examples.demo.postgres import embedded_postgres, run_directory
from examples.demo.stack import ROOT, Stack, python_module
from taximeter_analysis import Filters, open_store
from taximeter_analysis.advise import parallel
from taximeter_analysis.advise.material import Material, read
from taximeter_analysis.advise.model import Finding
from taximeter_analysis.selection import select
from taximeter_cli.supervise import Process, Spec, Supervisor, free_port, port_open

IN_TURN, AT_ONCE = "in-turn", "at-once"  # the two services
Together = dict[int, list[list[int]]]  # route -> for each step, the earlier ones that it waits for

_WITHIN = 0.10
_GUESTS = 3
_MISSING = 0.08  # of keys: no such row


def fill(dsn: str) -> None:
    """Tables whose rows have a delay each: lognormal, about 20 ms."""
    draw = random.Random(SEED)
    refs = [f"ref{number}" for number in range(TABLES)]

    def row(space: int, number: int) -> list[object]:
        others = [at * SPACE + draw.randint(1, ROWS) for at in range(TABLES)]
        return [space + number, f"{space}-{number}", draw.lognormvariate(-3.9, 0.5), *others]

    with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        columns = ", ".join(["id", "label", "delay", *refs])
        typed = "id int PRIMARY KEY, label text, delay float8, " + ", ".join(f"{name} int" for name in refs)
        for table in range(TABLES):
            cursor.execute(f"CREATE TABLE t{table} ({typed}, hits int NOT NULL DEFAULT 0)")
            with cursor.copy(f"COPY t{table} ({columns}) FROM STDIN") as copy:
                for number in range(1, ROWS + 1):
                    copy.write_row(row(table * SPACE, number))
        cursor.execute(f"CREATE TABLE faq ({typed}, embedding vector(1536))")
        with cursor.copy(f"COPY faq ({columns}, embedding) FROM STDIN") as copy:
            for number in range(1, 21):
                vector = str([round(draw.uniform(-1, 1), 3) for _ in range(1536)])
                copy.write_row([*row(TABLES * SPACE, number), vector])


def send(urls: list[str], wanted: list[Route], times: int) -> None:
    """The same requests in the same order, each to every service in turn (now this one first, now that)."""
    draw = random.Random(SEED)
    asked = []
    for number in range(times):
        for route in wanted:
            own = random.Random(f"{SEED}:{route.number}:{number}")
            keys = [key(own, step) for step in route.steps]
            if route.steps[1].way == "guard" and own.random() < _MISSING:
                keys[0] = 0
            asked.append((route, number, ",".join(map(str, keys))))
    draw.shuffle(asked)
    local = threading.local()

    def ask(each: tuple[Route, int, str]) -> None:
        route, number, keys = each
        if not hasattr(local, "client"):
            local.client = httpx.Client(trust_env=False, timeout=30)
        headers = {"baggage": f"request={route.number}-{number}"}
        for url in urls if number % 2 else urls[::-1]:
            answer = local.client.get(f"{url}{route.path}", params={"keys": keys}, headers=headers)
            answer.raise_for_status()

    with ThreadPoolExecutor(_GUESTS) as pool:
        for done, _ in enumerate(pool.map(ask, asked), 1):
            if done % 500 == 0:
                print(f"  {done:,} of {len(asked):,} requests", file=sys.stderr)


def run(place: Path, wanted: list[Route], times: int, services: dict[str, Together]) -> dict[str, Material]:
    """The services run side by side; what the traces of each say."""
    place.mkdir(mode=0o711)
    with Supervisor(place / "logs") as supervisor:
        with embedded_postgres(supervisor, place / "postgres") as postgres:
            fill(postgres.dsn())
            stack = Stack(supervisor, place, postgres, latency_scale=0.1)
            stack.start_provider()
            stack.start_collector()
            started = {name: _start(stack, name, together) for name, together in services.items()}
            urls = [f"http://127.0.0.1:{port}" for port, _ in started.values()]
            send(urls, wanted, 3)  # warm: imports, prepared plans, connections
            began = time.time()
            send(urls, wanted, times)
            for _, process in started.values():
                process.stop()
            stack.drain()
            time.sleep(2)  # the store's flush
        found = {}
        for name in services:
            with open_store(stack.store) as store:
                select(store, Filters(since=began, service=name))
                found[name] = read(store, 1_000_000)
        return found


def _start(stack: Stack, name: str, together: Together) -> tuple[int, Process]:
    port = free_port()
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    environment: dict[str, str | None] = {
        **stack.provider_env,
        "TOGETHER": json.dumps(together),
        "DATABASE_URL": stack.postgres.dsn(),
        "OTEL_SERVICE_NAME": name,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.ports.otlp_http}",
        "TAXIMETER_EVIDENCE_VALUES": "200",
        "TAXIMETER_STATE_DIR": str(stack.directory / "state"),
    }
    words = ("benchmarks.parallel.service:app", "--port", port, "--log-level", "warning")
    argv = [instrument, *python_module("uvicorn", *words)]
    spec = Spec(name, argv, env=environment, cwd=ROOT, healthy=port_open(port))
    return port, stack.supervisor.start(spec)


def free(material: Material, route: Route) -> set[tuple[int, int]]:
    """Pairs of a route's steps that the advisor takes for independent."""
    found = parallel.free_pairs(material).get((IN_TURN, f"GET {route.path}"), set())
    names = [
        "embedding" if step.kind == "embed" else route.statement(at) for at, step in enumerate(route.steps)
    ]

    def steps(name: str) -> list[int]:
        short = "embedding" if name.startswith("embedding ") else name
        return [at for at, each in enumerate(names) if each == short]

    return {(a, b) for one, other in found for a in steps(one) for b in steps(other) if a < b}


def quantile(values: list[float], q: float) -> float:
    """As the advisor's: linear between the ranks."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(q * 100) - 1]


def main() -> int:
    """Runs it; returns the exit code: 0 all hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=120, help="requests to each route (default: 120)")
    args = parser.parse_args()
    everything = routes()
    with run_directory() as place:
        print(f"{args.times} requests to each of 30 routes, step by step", file=sys.stderr)
        before = run(place / "alone", everything, args.times, {IN_TURN: {}})[IN_TURN]
        advised = {finding.route for finding in parallel.find(before)}
        pairs = {route.number: free(before, route) for route in everything}
        together = {
            route.number: [
                [a for a in range(b) if (a, b) not in pairs[route.number]] for b in range(len(route.steps))
            ]
            for route in everything
            if f"GET {route.path}" in advised
        }
        print("the same to two services, one as it is and one with asyncio.gather", file=sys.stderr)
        both = run(place / "both", everything, args.times, {IN_TURN: {}, AT_ONCE: together})
    findings = {each.route: each for each in parallel.find(both[IN_TURN]) if each.route in advised}
    wrong = [
        f"{route.path}: step {b} needs {a} ({route.steps[b].way})"
        for route in everything
        for a, b in sorted(route.bound() & pairs[route.number])
    ]
    bound = sum(len(route.bound()) for route in everything)
    print(f"{_verdict(not wrong)}: of {bound} dependent pairs on 30 routes {len(wrong)} advised")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    independent = [
        (pair in pairs[route.number])
        for route in everything[15:]
        for pair in ((a, b) for b in range(len(route.steps)) for a in range(b))
        if pair not in route.bound()
    ]
    print(f"of {len(independent)} independent pairs on 15 routes {sum(independent)} are found")
    return max(bool(wrong), _judge(everything[15:], findings, both))


def _verdict(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _judge(wanted: list[Route], findings: dict[str | None, Finding], runs: dict[str, Material]) -> int:
    print(f"\n{'route':<10} {'calls':>5}  {'P50 ms: before':>14} predicted measured  error", end="")
    print(f"  {'P95 ms: before':>14} predicted measured  error")
    errors: list[float] = []
    missed = 0
    for route in wanted:
        label = f"GET {route.path}"
        finding = findings.get(label)
        line = f"{label[4:]:<10} {len(route.steps):>5}"
        if finding is None:
            missed += 1
            print(f"{line}  not advised")
            continue
        was, now = (
            [request.duration_ns / 1e6 for request in runs[name].by_route[name, label]]
            for name in (IN_TURN, AT_ONCE)
        )
        for name, q in (("p50", 0.50), ("p95", 0.95)):
            predicted = finding.quantiles[name][1] * 1e3
            measured = quantile(now, q)
            errors.append(predicted / measured - 1)
            line += f"  {quantile(was, q):>14.1f} {predicted:>9.1f} {measured:>8.1f} {errors[-1]:>+6.1%}"
        print(line)
    inside = sum(abs(each) <= _WITHIN for each in errors)
    print(f"\n{15 - missed} of 15 routes with independent calls are advised")
    good = bool(errors) and inside == len(errors)
    median = statistics.median(map(abs, errors)) if errors else float("nan")
    print(
        f"{_verdict(good)}: {inside} of {len(errors)} predictions of P50 and P95 within 10 %; "
        f"median error {median:.1%}, largest {max(map(abs, errors), default=0):.1%}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
