"""A real Redis for a test, where the machine has one: `make test` as root on Debian installs it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from taximeter_cli.supervise import free_port

NO_REDIS = "no redis-server on this machine (make test as root on Debian installs it)"


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[str | None]:
    """The URL of an empty one on a free port, which is gone afterwards; None without ``redis-server``."""
    if (binary := shutil.which("redis-server")) is None:
        yield None
        return
    port = free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    server = subprocess.Popen([binary, *options], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()
