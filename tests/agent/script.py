"""A program under ``opentelemetry-instrument``: a server on ``$PORT``, or one that runs to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.agent.conftest import BIN, ROOT, free_port
from tests.agent.receiver import Receiver
from tests.agent.standin import Provider


class Script:
    """``python -m MODULE ARGUMENTS``, its log in ``log``."""

    def __init__(
        self, argv: list[str], log: Path, receiver: Receiver, provider: Provider, **environment: str
    ) -> None:
        self.port = free_port()
        self._path = log
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TAXIMETER_"))
        }
        self._output = log.open("w")
        self.process = subprocess.Popen(
            [str(BIN / "opentelemetry-instrument"), sys.executable, *argv],
            cwd=ROOT,
            env=clean
            | {
                "PORT": str(self.port),
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
                "OTEL_SERVICE_NAME": "hotel",
                "OPENAI_BASE_URL": f"{provider.url}/v1",
                "OPENAI_API_KEY": "x",
                "ANTHROPIC_BASE_URL": provider.url,
                "ANTHROPIC_API_KEY": "x",
                "TAXIMETER_MODEL_HOSTS": "127.0.0.1",
                "TAXIMETER_STRICT": "1",
            }
            | environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> Script:
        """Until it listens."""
        for _ in range(3600):
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.log()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.1):
                return self
            time.sleep(0.05)
        raise AssertionError(f"did not listen: {self.log()}")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=60)

    def log(self) -> str:
        return self._path.read_text()

    def end(self, *, stop: bool = True) -> int:
        """Stop it as an operator does (or let it end), and return its exit status."""
        if stop and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60 if stop else 500)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._output.close()
