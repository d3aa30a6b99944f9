"""Everything that dashboards and alerts are there for, caused in the running example at once.

Real parts where they can be had: the service with its faults switched on and a slow provider, a collector
that was away, another that is full, a bad sender, a clock that is ahead, a database that runs out of
connections. Tempo, the pooler and the database's host are stand-ins (``standins.py``).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from examples.demo.stack import ROOT, Stack, python_module
from taximeter_cli.stack.canary import Canary
from taximeter_cli.supervise import Spec, free_port, http_healthy
from tests.dashboards.standins import Health

SMALL = Path(__file__).with_name("small.yaml")
LONG = 600.0  # of load, bounded; the stack's end ends it
QUICK = {"OTEL_METRIC_EXPORT_INTERVAL": "1000"}
CONNECTIONS = 0.85  # share of max_connections
BUDGET = """
version: 1
defaults: {latency_p99: 2s, error_rate: 0.5%, db_calls: 1, cost: 0.0001}
caches: [{match: "*", hit_rate: 99%}]
money: {per_day: 0.1, per_month: 10}
tenants: [{match: "*", per_day: 0.01}]
"""
"""So tight that a minute of the example exceeds it."""


def version(number: str, **more: str) -> dict[str, str | None]:
    """The environment of a service that calls itself that."""
    return {**QUICK, "OTEL_RESOURCE_ATTRIBUTES": f"service.version={number}", **more}


@dataclass
class Small:
    """The collector that is soon full."""

    otlp: int = field(default_factory=free_port)
    health: int = field(default_factory=free_port)
    telemetry: int = field(default_factory=free_port)

    def start(self, stack: Stack) -> None:
        environment = {
            "SMALL_DATA": str(stack.directory / "small"),
            "SMALL_OTLP_PORT": str(self.otlp),
            "SMALL_HEALTH_PORT": str(self.health),
            "SMALL_TELEMETRY_PORT": str(self.telemetry),
            "REFUSING_PORT": str(stack.ports.provider),  # it knows no /v1/traces
        }
        argv = python_module("taximeter_cli", "collector", "run", "--config", SMALL)
        check = http_healthy(f"http://127.0.0.1:{self.health}/")
        stack.supervisor.start(Spec("small", argv, env=environment, cwd=ROOT, healthy=check))


def load(stack: Stack, seconds: float, *, wait: bool = True) -> None:
    """Guests for so long; ``wait`` for their end."""
    process = stack.start_guests(duration=seconds, rate=25, guests=50)
    if wait:
        assert process.popen.wait(120) == 0, process.tail()


@contextlib.contextmanager
def faults(stack: Stack, small: Small, health: Health) -> Iterator[None]:
    """All of them at once, until the block ends; only that the collector is away is left to the block."""
    health.since = time.monotonic()
    stack.latency_scale = 3.0
    stack.start_provider()
    stack.start_service(version("2.0.1", OTEL_BSP_MAX_QUEUE_SIZE="64"))
    stack.set_flags(
        fault_n_plus_one_rooms=True, fault_long_prompts=True, fault_cold_cache=True, fault_errors=True
    )
    load(stack, LONG, wait=False)
    stack.supervisor.stop("second")
    stack.supervisor.start(unpriced_calls(stack), wait=False)
    Canary(moment=int(time.time()) + 120).send(f"http://127.0.0.1:{stack.ports.otlp_http}")
    url = "http://127.0.0.1:{}/v1/traces"
    argv = python_module(
        "tests.dashboards.bad_sender", url.format(stack.ports.otlp_http), url.format(small.otlp)
    )
    stack.supervisor.start(Spec("bad-sender", argv, cwd=ROOT), wait=False)
    with many_connections(stack):
        yield


@contextlib.contextmanager
def many_connections(stack: Stack) -> Iterator[None]:
    """Idle connections, until most of the server's are in use."""
    with contextlib.ExitStack() as held:
        first = held.enter_context(psycopg.connect(stack.postgres.dsn(), autocommit=True))
        limit = first.execute("SELECT current_setting('max_connections')::int").fetchone()
        assert limit is not None
        used = "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL"
        while (now := first.execute(used).fetchone()) and now[0] < CONNECTIONS * limit[0]:
            held.enter_context(psycopg.connect(stack.postgres.dsn()))
        yield


def unpriced_calls(stack: Stack) -> Spec:
    """A process under the agent whose streams report no usage, so that nothing can price them."""
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    environment: Mapping[str, str | None] = {
        **stack.provider_env,
        **QUICK,
        "OTEL_SERVICE_NAME": "batch",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.ports.otlp_http}",
    }
    argv = [instrument, *python_module("tests.dashboards.unpriced")]
    return Spec("unpriced", argv, env=environment, cwd=ROOT)
