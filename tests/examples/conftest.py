"""The hotel chat on a real Postgres with the provider behind it, started once for its tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from examples.demo.ledgers import read_postgres
from examples.demo.postgres import Postgres, embedded_postgres, run_directory
from taximeter_cli.supervise import Supervisor
from tests.redis_server import running_redis

from .processes import free_port, run_module, running

ROLE = "hotel_app"


@dataclass
class Backend:
    """A seeded database and a provider that answers fast and never fails."""

    postgres: Postgres
    provider_url: str
    env: dict[str, str]

    def reset(self) -> None:
        httpx.post(f"{self.provider_url}/ledger/reset").raise_for_status()
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_stat_statements_reset()")

    def db_calls(self) -> int:
        """Statements of the service's role since the reset, transaction control left out."""
        return read_postgres(self.postgres.dsn(), ROLE)

    def ledger(self) -> dict[str, Any]:
        totals: dict[str, Any] = httpx.get(f"{self.provider_url}/ledger").json()
        return totals


@dataclass
class Hotel:
    """The running service."""

    backend: Backend
    url: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))

    def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.client.request(method, f"{self.url}{path}", json=body)

    def flags(self, **on: bool) -> None:
        body = {name.replace("_", ".", 1): value for name, value in on.items()}
        self.send("POST", "/admin/flags", body).raise_for_status()


@pytest.fixture(scope="session")
def backend() -> Iterator[Backend]:
    with run_directory() as folder, Supervisor(folder / "logs") as supervisor:
        port = free_port()
        options = ("--ledger", str(folder / "ledger.jsonl"), "--latency-scale", "0.02", "--fail-rate", "0")
        with (
            embedded_postgres(supervisor, folder / "postgres") as postgres,
            running("examples.provider", port, *options),
        ):
            url = f"http://127.0.0.1:{port}"
            env = {
                "OPENAI_BASE_URL": f"{url}/v1",
                "OPENAI_API_KEY": "test",
                "ANTHROPIC_BASE_URL": url,
                "ANTHROPIC_API_KEY": "test",
                "MOTOPRESS_URL": f"{url}/motopress",
                "DATABASE_URL": postgres.dsn(ROLE),
            }
            seeded = run_module(
                "examples.hotel_chat.seed", "--dsn", postgres.dsn(), "--scale", "small", env=env
            )
            assert seeded.returncode == 0, seeded.stderr
            yield Backend(postgres, url, env)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """A real Redis, where there is one."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def hotel(backend: Backend, redis_url: str | None) -> Iterator[Hotel]:
    port = free_port()
    with running("examples.hotel_chat", port, env=backend.env | {"HOTEL_REDIS_URL": redis_url or ""}):
        service = Hotel(backend, f"http://127.0.0.1:{port}")
        with service.client:
            yield service


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "guests.jsonl"
