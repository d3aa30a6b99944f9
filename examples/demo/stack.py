"""The whole stack on embedded parts: Postgres, provider, collector, service, guests.

Used by the demo and by the end-to-end tests. Everything listens on loopback, on ports free at the
start, with its data below one temporary directory. The ledgers start at zero after seeding and
before the service starts, so whatever the service does is counted on both sides.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from examples.demo.postgres import Postgres, embedded_postgres, run_directory
from taximeter_cli.supervise import (
    Process,
    Spec,
    StartFailed,
    Supervisor,
    free_port,
    http_healthy,
    port_open,
)

ROOT = Path(__file__).resolve().parents[2]
SERVICE_ROLE = "hotel_app"
Progress = Callable[[str], None]
_QUEUE_SIZE = "otelcol_exporter_queue_size"
_CONFIG = Path(__file__).with_name("collector.yaml")
_http = httpx.Client(trust_env=False, timeout=10)  # loopback: never through a proxy


@dataclass(frozen=True)
class Ports:
    """One free port per listener."""

    provider: int = field(default_factory=free_port)
    service: int = field(default_factory=free_port)
    otlp_grpc: int = field(default_factory=free_port)
    otlp_http: int = field(default_factory=free_port)
    health: int = field(default_factory=free_port)
    prometheus: int = field(default_factory=free_port)
    telemetry: int = field(default_factory=free_port)


@dataclass
class Stack:
    """A running stack: its processes, places and ports, and what one does with it."""

    supervisor: Supervisor
    directory: Path
    postgres: Postgres
    collector_config: Path = _CONFIG
    collector_env: Mapping[str, str] = field(default_factory=dict)
    latency_scale: float = 0.5
    fail_rate: float = 0.02
    seed: int = 7
    ports: Ports = field(default_factory=Ports)

    @property
    def store(self) -> Path:
        """The span store that the collector writes."""
        return self.directory / "store"

    @property
    def provider_ledger(self) -> Path:
        return self.directory / "provider.jsonl"

    @property
    def guests_log(self) -> Path:
        return self.directory / "guests.jsonl"

    @property
    def service_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.service}"

    @property
    def provider_env(self) -> dict[str, str]:
        """What points the real SDKs at the local provider."""
        provider = f"http://127.0.0.1:{self.ports.provider}"
        return {
            "OPENAI_BASE_URL": f"{provider}/v1",
            "OPENAI_API_KEY": "local",
            "ANTHROPIC_BASE_URL": provider,
            "TAXIMETER_MODEL_HOSTS": "127.0.0.1,localhost",
            "ANTHROPIC_API_KEY": "local",
            "MOTOPRESS_URL": f"{provider}/motopress",
        }

    def start_provider(self) -> None:
        argv = python_module(
            "examples.provider",
            *("--port", self.ports.provider, "--ledger", self.provider_ledger),
            *("--latency-scale", self.latency_scale, "--seed", self.seed, "--fail-rate", self.fail_rate),
        )
        check = http_healthy(f"http://127.0.0.1:{self.ports.provider}/health")
        self.supervisor.start(Spec("provider", argv, cwd=ROOT, healthy=check))

    def seed_database(self, scale: str = "demo") -> None:
        """Create and fill the hotel's tables; the embeddings come from the provider."""
        argv = python_module(
            "examples.hotel_chat.seed", "--dsn", self.postgres.dsn(), "--scale", scale, "--seed", self.seed
        )
        process = self.supervisor.start(Spec("seed", argv, env=self.provider_env, cwd=ROOT), wait=False)
        if process.popen.wait(180) != 0:
            raise StartFailed(f"seeding failed:\n{process.tail()}")
        self.supervisor.processes.pop("seed")
        process.kill()

    def start_collector(self) -> Process:
        """Start the collector, or start it again where it left off."""
        argv = python_module("taximeter_cli", "collector", "run", "--config", self.collector_config)
        environment = {
            "TAXIMETER_RUN": str(self.directory),
            "OTLP_GRPC_PORT": str(self.ports.otlp_grpc),
            "OTLP_HTTP_PORT": str(self.ports.otlp_http),
            "HEALTH_PORT": str(self.ports.health),
            "PROMETHEUS_PORT": str(self.ports.prometheus),
            "TELEMETRY_PORT": str(self.ports.telemetry),
            **self.collector_env,
        }
        check = http_healthy(f"http://127.0.0.1:{self.ports.health}/")
        return self.supervisor.start(Spec("collector", argv, env=environment, cwd=ROOT, healthy=check))

    def start_service(
        self, env: Mapping[str, str | None] | None = None, server: Sequence[str] = ()
    ) -> Process:
        """Start the hotel chat under ``opentelemetry-instrument``, by its own ``main`` or another server."""
        instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
        own = ("examples.hotel_chat", "--port", str(self.ports.service))
        argv = [instrument, *python_module(*(server or own))]
        environment: dict[str, str | None] = {
            "DATABASE_URL": self.postgres.dsn(SERVICE_ROLE),
            **self.provider_env,
            "OTEL_SERVICE_NAME": "hotel-chat",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.ports.otlp_http}",
            "OTEL_METRIC_EXPORT_INTERVAL": "5000",
            "TAXIMETER_STATE_DIR": str(self.directory / "state"),  # the key of the hashes
            **(env or {}),
        }
        # An open port is the sign of health: a request to /health would be in nobody's ledger.
        check = port_open(self.ports.service)
        spec = Spec("service", argv, env=environment, cwd=ROOT, healthy=check)
        if server:  # several processes, each of which imports everything
            spec.start_timeout, spec.grace = 400.0, 60.0
        return self.supervisor.start(spec)

    def start_guests(
        self, *, duration: float, rate: float, guests: int = 100, extra: Sequence[str] = ()
    ) -> Process:
        """Start the load generator; it ends by itself after ``duration`` seconds and a drain."""
        argv = python_module(
            "examples.guests",
            *("--url", self.service_url, "--log", self.guests_log, "--guests", guests),
            *("--duration", duration, "--rate", rate, "--seed", self.seed, *extra),
        )
        return self.supervisor.start(Spec("guests", argv, cwd=ROOT), wait=False)

    def reset_ledgers(self) -> None:
        """Zero the provider's ledger and every role's statement counts."""
        _http.post(f"http://127.0.0.1:{self.ports.provider}/ledger/reset").raise_for_status()
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_stat_statements_reset()")

    def scrape(self) -> str:
        """The collector's Prometheus exposition (OpenMetrics text), as a Prometheus would get it."""
        accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
        answer = _http.get(f"http://127.0.0.1:{self.ports.prometheus}/metrics", headers=accept)
        return answer.raise_for_status().text

    def queue_sizes(self) -> list[float]:
        """Requests that the collector has acknowledged and not yet exported, one number per exporter."""
        text = _http.get(f"http://127.0.0.1:{self.ports.telemetry}/metrics").raise_for_status().text
        lines = text.splitlines()
        return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(_QUEUE_SIZE)]

    def drain(self, timeout: float = 60.0) -> None:
        """Wait until every exporter of the collector has all that was acknowledged."""
        deadline = time.monotonic() + timeout
        while not (sizes := self.queue_sizes()) or any(sizes):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the collector still holds data after {timeout:.0f} s: {sizes}")
            time.sleep(0.1)

    def set_flags(self, **flags: bool) -> None:
        """Switch ``fix_*`` and ``fault_*`` flags in the running service (a request that is counted)."""
        body = {name.replace("_", ".", 1): on for name, on in flags.items()}
        _http.post(f"{self.service_url}/admin/flags", json=body).raise_for_status()


def python_module(module: str, *words: object) -> list[str]:
    """The argument list that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *(str(word) for word in words)]


@contextlib.contextmanager
def running_stack(
    *,
    scale: str = "demo",
    progress: Progress = lambda text: None,
    service_env: Mapping[str, str | None] | None = None,
    collector_config: Path = _CONFIG,
    collector_env: Mapping[str, str] | None = None,
    latency_scale: float = 0.5,
    fail_rate: float = 0.02,
    seed: int = 7,
    directory: Path | None = None,
    start_service: bool = True,
) -> Iterator[Stack]:
    """Start everything but the guests (and the service, if so told); remove it all at the end."""
    with contextlib.ExitStack() as stack_of_things:
        place = directory or stack_of_things.enter_context(run_directory())
        supervisor = stack_of_things.enter_context(Supervisor(place / "logs"))
        progress("starting PostgreSQL (embedded, with pgvector)")
        postgres = stack_of_things.enter_context(embedded_postgres(supervisor, place / "postgres"))
        stack = Stack(
            supervisor,
            place,
            postgres,
            collector_config=collector_config,
            collector_env=collector_env or {},
            latency_scale=latency_scale,
            fail_rate=fail_rate,
            seed=seed,
        )
        progress("starting the model provider's stand-in")
        stack.start_provider()
        progress("filling the hotel's tables")
        stack.seed_database(scale)
        progress("starting the collector")
        stack.start_collector()
        stack.reset_ledgers()
        if start_service:
            progress("starting the service under opentelemetry-instrument")
            stack.start_service(service_env)
        yield stack
