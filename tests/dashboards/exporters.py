"""Debian's exporters of a database and of its host, beside the example."""

from __future__ import annotations

import shutil

from examples.demo.stack import Stack
from taximeter_cli.supervise import Spec, free_port, http_healthy
from taximeter_dashboards.database import EXPORTER


def exporters(stack: Stack) -> dict[str, list[int]]:
    """Start those that are installed: job to ports."""
    commands = {
        EXPORTER: {"DATA_SOURCE_NAME": without_tls(stack.postgres.dsn())},
        "prometheus-node-exporter": {},
    }
    found = {}
    for name, environment in commands.items():
        if (binary := shutil.which(name)) is not None:
            port = free_port()
            argv = [binary, f"--web.listen-address=127.0.0.1:{port}"]
            check = http_healthy(f"http://127.0.0.1:{port}/metrics")
            stack.supervisor.start(Spec(name, argv, env=environment, healthy=check))
            found[name] = [port]
    return found


def without_tls(dsn: str) -> str:
    """Go's driver asks for TLS unless told otherwise."""
    if "://" not in dsn:
        return f"{dsn} sslmode=disable"
    return f"{dsn}{'&' if '?' in dsn else '?'}sslmode=disable"
