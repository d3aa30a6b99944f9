"""Two services of someone else's making, unchanged, under the agent: are they accounted and priced?

``make prove-foreign`` fetches each at the commit named below (``TAXIMETER_FOREIGN`` may name a folder of
clones, where there is no network), installs it with this tree into an environment of its own, starts it with
``opentelemetry-instrument`` and makes requests one by one. Beside what the agent says of each stand two
ledgers that know nothing of it: Postgres's own count of statements, and the provider's of calls and money.
Nothing of theirs is kept.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg

from examples.demo.postgres import Postgres, embedded_postgres
from taximeter_cli.supervise import Spec, Supervisor, free_port, http_healthy
from tests.agent.receiver import Receiver, Span
from tools.prove_versions import environment

ROOT = Path(__file__).resolve().parents[1]
#: Statements that no code of the service sends.
_NOT_CALLS = r"^\s*(begin|start|commit|rollback|savepoint|release|set|show|reset|discard|deallocate)(\s|;|$)"

#: What a driver or SQLAlchemy asks the server when it first meets it.
_SET_UP = "pg_catalog|pg_type|current_schema"


@dataclass(frozen=True)
class Request:
    """A request to send. ``keep``: words of the answer's JSON, for use in later ones."""

    method: str
    path: str
    keep: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    form: Mapping[str, str] | None = None


@dataclass(frozen=True)
class App:
    """A service: where it comes from, how it is set up and started, and what to ask of it."""

    name: str
    source: str
    commit: str
    folder: str  # where it is started
    left_out: tuple[str, ...]  # of the source: large, and not used
    made: tuple[str, ...]  # empty folders that its own build would fill
    settings: Mapping[str, str]
    prepare: tuple[tuple[str, ...], ...]
    serve: tuple[str, ...]
    requests: tuple[Request, ...]


def _chat(text: str) -> dict[str, Any]:
    overrides = {"top": 3, "temperature": 0.3, "retrieval_mode": "hybrid", "use_advanced_flow": False}
    return {"input": [{"role": "user", "content": text}], "context": {"overrides": overrides}}


_TABLES = (
    "from sqlmodel import SQLModel; import app.models; from app.core.db import engine; "
    "SQLModel.metadata.create_all(engine)"
)
_ITEM = {"title": "A lamp", "description": "It shines."}
_ROW = "INSERT INTO items (type, brand, name, description, price, embedding_3l) VALUES "
APPS = (
    App(
        name="full-stack-fastapi-template (FastAPI, SQLModel, psycopg 3)",
        source="https://github.com/fastapi/full-stack-fastapi-template",
        commit="f459c20a",
        folder="backend",
        left_out=(),
        made=(),
        settings={
            **{
                "PROJECT_NAME": "Foreign",
                "SECRET_KEY": "not-a-secret",
                "FIRST_SUPERUSER": "admin@example.com",
            },
            **{"FIRST_SUPERUSER_PASSWORD": "eight-letters", "POSTGRES_SERVER": "127.0.0.1"},
            **{"POSTGRES_PORT": "{port}", "POSTGRES_USER": "postgres", "POSTGRES_DB": "postgres"},
            "POSTGRES_PASSWORD": "unused",
        },
        prepare=(
            # Its migrations want the extension uuid-ossp, which the Postgres of the wheel has not.
            ("-c", _TABLES),
            ("-m", "app.initial_data"),
        ),
        serve=("fastapi", "run", "--host", "127.0.0.1", "--port", "{port}", "app/main.py"),
        requests=(
            Request(
                "POST",
                "/api/v1/login/access-token",
                keep={"token": "access_token"},
                form={"username": "admin@example.com", "password": "eight-letters"},
            ),
            Request("GET", "/api/v1/users/me"),
            *[Request("POST", "/api/v1/items/", keep={"item": "id"}, body=_ITEM)] * 3,
            Request("GET", "/api/v1/items/"),
            Request("GET", "/api/v1/items/{item}"),
            Request("PUT", "/api/v1/items/{item}", body=_ITEM),
            Request("DELETE", "/api/v1/items/{item}"),
            Request("GET", "/api/v1/users/"),
            Request("GET", "/api/v1/utils/health-check/"),
        ),
    ),
    App(
        name="rag-postgres-openai-python (FastAPI, SQLAlchemy, asyncpg, pgvector, openai, openai-agents)",
        source="https://github.com/Azure-Samples/rag-postgres-openai-python",
        commit="007bb76b",
        folder="src/backend",
        left_out=("src/backend/fastapi_app/seed_data.json",),
        made=("static/assets",),
        settings={
            **{
                "POSTGRES_HOST": "127.0.0.1:{port}",
                "POSTGRES_USERNAME": "postgres",
                "POSTGRES_PASSWORD": "x",
            },
            **{"POSTGRES_DATABASE": "postgres", "RUNNING_IN_PRODUCTION": "1", "OPENAI_CHAT_HOST": "openai"},
            **{"OPENAI_EMBED_HOST": "openai", "OPENAICOM_KEY": "x", "OPENAICOM_CHAT_MODEL": "gpt-4o-mini"},
            **{"OPENAICOM_EMBED_MODEL": "text-embedding-3-small", "OPENAICOM_EMBED_DIMENSIONS": "1024"},
            "OPENAI_BASE_URL": "{provider}/v1",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        },
        prepare=(("-m", "fastapi_app.setup_postgres_database"),),
        serve=("uvicorn", "fastapi_app:create_app", "--factory", "--host", "127.0.0.1", "--port", "{port}"),
        requests=(
            Request("GET", "/items/1"),
            Request("GET", "/similar?id=1&n=2"),
            Request("GET", "/search?query=lamp&top=2"),
            Request("POST", "/chat", body=_chat("Which lamp is for reading?")),
            Request("POST", "/chat/stream", body=_chat("Which lamp is for reading?")),
        ),
    ),
)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fetch(app: App, place: Path) -> None:
    """The source of ``app`` at its commit, below ``place``."""
    name = app.source.rpartition("/")[2]
    clones = os.environ.get("TAXIMETER_FOREIGN")
    if clones:
        (repository,) = [path for path in Path(clones).iterdir() if path.name.endswith(name)]
        if (repository / "repo").is_dir():
            repository = repository / "repo"
    else:
        repository = place.with_suffix(".git")
        subprocess.run(["git", "clone", "--quiet", "--bare", app.source, str(repository)], check=True)
    paths = [app.folder, *(f":!{path}" for path in app.left_out)]
    archive = subprocess.run(
        ["git", "-C", str(repository), "archive", app.commit, *paths], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(place, filter="data")


def install(folder: Path, place: Path) -> Path:
    """An environment with what the service asks for, and this tree; its folder of programs."""
    pip = environment(sys.executable, place)
    wanted = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    subprocess.run([*pip, "-e", f"{ROOT}[instrumentors]", *wanted], check=True)
    return place / "bin"


def tables(app: App, postgres: Postgres) -> None:
    """What the service's own seed would do, in small."""
    if "rag" not in app.name:
        return
    vector = [[round((3 * number + at) % 7 / 7, 3) for at in range(1024)] for number in range(3)]
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        for number, each in enumerate(vector):
            words = ("lamp", "Acme", f"Lamp {number}", "It shines.", 10.0 + number, json.dumps(each))
            connection.execute(f"{_ROW} (%s, %s, %s, %s, %s, %s)", words)


class Ledgers:
    """Postgres's count of statements, and the provider's lines, since the last look."""

    def __init__(self, postgres: Postgres, lines: Path) -> None:
        self._connection = psycopg.connect(postgres.dsn("watcher"), autocommit=True)
        self._lines = lines
        self._seen = 0
        self.look()

    def look(self) -> tuple[int, list[dict[str, Any]]]:
        row = self._connection.execute(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_roles r ON r.oid = "
            "s.userid WHERE r.rolname = 'postgres' AND s.query !~* %s AND s.query !~ %s",
            (_NOT_CALLS, _SET_UP),
        ).fetchone()
        self._connection.execute("SELECT pg_stat_statements_reset()")
        assert row is not None
        lines = self._lines.read_text().splitlines() if self._lines.exists() else []
        new, self._seen = lines[self._seen :], len(lines)
        return int(row[0]), [json.loads(line) for line in new]

    def close(self) -> None:
        self._connection.close()


def prove(app: App, folder: Path) -> bool:
    """Run one; whether each request is accounted as the ledgers count."""
    say(f"\n## {app.name}, commit {app.commit}\n")
    source, receiver = folder / "source", Receiver()
    fetch(app, source)
    place = source / app.folder
    for name in app.made:
        (place / name).mkdir(parents=True)
    bin_ = install(place, folder / "venv")
    receiver.start()
    well = True
    with Supervisor(folder / "logs") as supervisor, embedded_postgres(supervisor, folder / "pg") as postgres:
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute("CREATE ROLE watcher LOGIN SUPERUSER")
        lines, at = folder / "provider.jsonl", free_port()
        supervisor.start(
            Spec(
                name="provider",
                argv=[
                    *(sys.executable, "-m", "examples.provider", "--port", str(at), "--ledger", str(lines)),
                    *("--latency-scale", "0.05", "--fail-rate", "0"),
                ],
                cwd=ROOT,
                healthy=http_healthy(f"http://127.0.0.1:{at}/health"),
            )
        )
        env = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TAXIMETER_"))}
        settings = {
            key: value.format(port=postgres.port, provider=f"http://127.0.0.1:{at}")
            for key, value in app.settings.items()
        }
        env |= settings | {"PATH": f"{bin_}:{env['PATH']}", "PYTHONPATH": str(place)}
        for words in app.prepare:
            command = [str(bin_ / "python"), *words]
            done = subprocess.run(command, cwd=place, env=env, check=False, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        tables(app, postgres)
        port = free_port()
        supervisor.start(
            Spec(
                name="service",
                argv=[
                    *(str(bin_ / "opentelemetry-instrument"), str(bin_ / app.serve[0])),
                    *(word.format(port=port) for word in app.serve[1:]),
                ],
                cwd=place,
                env=env
                | {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
                    "OTEL_SERVICE_NAME": "foreign",
                    "TAXIMETER_MODEL_HOSTS": "127.0.0.1",
                },
                healthy=http_healthy(f"http://127.0.0.1:{port}/docs"),
            )
        )
        ledgers = Ledgers(postgres, lines)
        well = ask(app, f"http://127.0.0.1:{port}", receiver, ledgers)
        ledgers.close()
        supervisor.stop("service")
        log = (folder / "logs/service.log").read_text()
        say("\nWhat the agent said:\n")
        for line in log.splitlines():
            if line.startswith(("WARNING taximeter", "ERROR taximeter")):
                say(f"    {line[:300]}")
    receiver.stop()
    return well


def ask(app: App, url: str, receiver: Receiver, ledgers: Ledgers) -> bool:
    """Send the requests one by one and print what each caused, here and in the ledgers."""
    say("| request | status | statements | Postgres | model calls | provider | USD | provider | |")
    say("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    kept: dict[str, str] = {}
    well = True
    receiver.wait(lambda: bool(receiver.servers()), "the server span of the question whether it runs")
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for request in app.requests:
            ledgers.look()
            receiver.spans.clear()
            headers = {"authorization": f"Bearer {kept['token']}"} if "token" in kept else {}
            path = request.path.format(**{key: quote(word) for key, word in kept.items()})
            answer = client.request(
                request.method, path, headers=headers, json=request.body, data=request.form
            )
            answer.read()
            kept |= {key: answer.json()[name] for key, name in request.keep.items()}
            receiver.wait(lambda: bool(receiver.servers()), f"the server span of {path}")
            statements, lines = ledgers.look()
            well &= _row(request, answer.status_code, receiver.servers()[-1], statements, lines)
    return well


def _row(request: Request, status: int, span: Span, statements: int, lines: list[dict[str, Any]]) -> bool:
    told = span.attributes
    calls = int(told.get("taximeter.request.model.calls", 0))
    calls += int(told.get("taximeter.request.embedding.calls", 0))
    database = int(told.get("taximeter.request.db.calls", 0))
    cost = float(told.get("taximeter.request.cost", 0.0))
    known = sum(1 for line in lines if line["call"])
    money = float(sum(Decimal(str(line["cost_usd"])) for line in lines))
    well = status < 400 and (database, calls) == (statements, known) and abs(cost - money) < 1e-12
    name = f"{request.method} {told.get('http.route', '?')}"
    counts = f"{database} | {statements} | {calls} | {known} | {cost:.8f} | {money:.8f}"
    say(f"| {name} | {status} | {counts} | {'equal' if well else 'DIFFERS'} |")
    return well


def main() -> int:
    well = True
    for number, app in enumerate(APPS):
        if len(sys.argv) > 1 and sys.argv[1] not in app.name:
            continue
        folder = Path(tempfile.mkdtemp(prefix="taximeter-foreign-"))
        folder.chmod(0o711)  # Postgres runs as nobody where this runs as root
        (folder / str(number)).mkdir(mode=0o711)
        try:
            well &= prove(app, folder / str(number))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
