"""Runs the service under ``opentelemetry-instrument`` with a database some milliseconds away, and labels its
traces.

A request carries a trace id of our own, so every label finds its trace. What the store then holds is what any
service with the agent leaves: spans of drivers, pools and of the service itself, in the order in which they
came.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from benchmarks.nplusone.drivers import OPEN
from benchmarks.nplusone.scenarios import LEGITIMATE, N_PLUS_ONE, SCENARIOS, SCHEMA
from examples.demo.postgres import embedded_postgres, run_directory
from examples.demo.stack import ROOT, Ports, Stack, python_module
from taximeter_cli.supervise import Spec, Supervisor, free_port, port_open

DISTANCE_MS = 3.0  # each way
SIZES = (8, 13, 21)


@dataclass(frozen=True)
class Labelled:
    """A request that was made, and what it is."""

    trace: str
    driver: str
    scenario: str
    label: str
    n: int


@contextmanager
def recorded() -> Iterator[tuple[Path, list[Labelled]]]:
    """(the span store, every labelled request); removed at the end."""
    with (
        run_directory() as place,
        Supervisor(place / "logs") as supervisor,
        embedded_postgres(supervisor, place / "postgres") as postgres,
    ):
        with psycopg.connect(postgres.dsn(), autocommit=True) as database:
            for part in SCHEMA.split(";"):
                if part.strip():
                    database.execute(part.encode())
        far = free_port()
        relay = python_module(
            "examples.loop.distance", "--port", far, "--to", postgres.port, "--ms", DISTANCE_MS
        )
        supervisor.start(Spec("relay", relay, cwd=ROOT, healthy=port_open(far)))
        stack = Stack(supervisor, place, postgres, ports=Ports())
        stack.start_collector()
        url = _start_service(stack, far)
        labelled = list(_requests(url))
        supervisor.stop("service")
        stack.drain()
        supervisor.stop("collector")
        yield stack.store, labelled


def _start_service(stack: Stack, database: int) -> str:
    port = stack.ports.service
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    argv = [instrument, *python_module("uvicorn", "benchmarks.nplusone.service:app", "--port", port)]
    env: dict[str, str | None] = {
        "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{database}/postgres",
        "OTEL_SERVICE_NAME": "hotel",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.ports.otlp_http}",
        "TAXIMETER_STATE_DIR": str(stack.directory / "state"),
        "TAXIMETER_EVIDENCE_VALUES": "400",
    }
    spec = Spec("service", argv, env=env, cwd=ROOT, healthy=port_open(port))
    spec.start_timeout = 120.0
    stack.supervisor.start(spec)
    return f"http://127.0.0.1:{port}"


def _requests(url: str) -> Iterator[Labelled]:
    rng = random.Random(11)
    wanted = [
        (f"/run/{driver}/{name}", driver, name, label, n)
        for driver in OPEN
        for name, (label, _) in SCENARIOS.items()
        for n in SIZES
    ]
    wanted += [("/lazy", "sqlalchemy", "lazy", N_PLUS_ONE, n) for n in SIZES]
    wanted += [("/eager", "sqlalchemy", "eager", LEGITIMATE, n) for n in SIZES]
    rng.shuffle(wanted)
    with httpx.Client(trust_env=False, timeout=60) as client:
        for path, driver, name, label, n in wanted:
            trace = f"{rng.getrandbits(128):032x}"
            headers = {"traceparent": f"00-{trace}-{rng.getrandbits(64):016x}-01"}
            answer = client.get(f"{url}{path}", params={"n": n, "hotel": rng.randrange(20)}, headers=headers)
            if answer.status_code != 200:
                raise RuntimeError(f"{path} with n={n} answered {answer.status_code}: {answer.text[:200]}")
            yield Labelled(trace, driver, name, label, n)
