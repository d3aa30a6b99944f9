"""A real Prometheus for tests: found or skipped, and in CI found or failed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.collector.support import free_port, wait_for

REQUIRE = "TAXIMETER_REQUIRE_PROMETHEUS"
OTHER = "TAXIMETER_PROMETHEUS"  # a second, newer binary


def require_prometheus() -> str:
    """The path of the ``prometheus`` binary; skips without one, or fails where CI demands it."""
    found = shutil.which("prometheus")
    if found is None:
        reason = "no `prometheus` binary on PATH (Debian: apt-get install prometheus)"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{reason}, and {REQUIRE}=1 demands one")
        pytest.skip(reason)
    return found


class Prometheus:
    """A running server and its HTTP API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **params: str | float) -> Any:
        response = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=10)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def value(self, query: str) -> float | None:
        """The single value of an instant query, or None."""
        result = self.get("query", query=query)["result"]
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None


@contextmanager
def prometheus(
    folder: Path, *targets: str, binary: str = "", port: int = 0, takes_writes: bool = False
) -> Iterator[Prometheus]:
    """Prometheus scraping ``targets`` every 200 ms, exemplars kept, labels honoured."""
    binary = binary or require_prometheus()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "scrape_configs": [
            {"job_name": "taximeter", "honor_labels": True, "static_configs": [{"targets": list(targets)}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = port or free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
                *(["--web.enable-remote-write-receiver"] if takes_writes else []),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(port)
        wait_for(lambda: httpx.get(f"{server.url}/-/ready").status_code == 200, "Prometheus is ready")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
