"""The contenders: what to install, how each is started, and with which settings.

"As they come from PyPI": no tuning of a peer, save where its telemetry goes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

#: The service's own parts, in the versions of this environment, so that only the watcher differs.
SERVICE = ("fastapi", "starlette", "uvicorn", "httptools", "uvloop", "openai", "psycopg", "psycopg-binary",
           "psycopg-pool", "httpx")  # fmt: skip
_OTLP = {"OTEL_SERVICE_NAME": "bench", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
_STABLE = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http,database"}
_CONTRIB = ("fastapi", "psycopg", "httpx")


@dataclass(frozen=True)
class Variant:
    """One contender. ``packages`` is ``None`` where this repository's own environment serves."""

    name: str
    packages: tuple[str, ...] | None
    launcher: tuple[str, ...]  # put before "python -m uvicorn ..."
    env: Mapping[str, str] = field(default_factory=dict)
    endpoint: str = "OTEL_EXPORTER_OTLP_ENDPOINT"  # the variable that names the sink
    loose: tuple[str, ...] = ()  # of SERVICE: what the peer does not allow in our version

    def install(self, folder: Path) -> Path:
        """A fresh environment below ``folder`` (kept if it is there already); returns its ``bin``."""
        if self.packages is None:
            return Path(sys.executable).parent
        home = folder / self.name
        if not (home / "ready").exists():
            pins = [name if name in self.loose else f"{name}=={version(name)}" for name in SERVICE]
            if shutil.which("uv"):
                subprocess.run(["uv", "venv", "-q", "--clear", "-p", sys.executable, home], check=True)
                install = ["uv", "pip", "install", "-q", "-p", str(home / "bin/python")]
            else:
                subprocess.run([sys.executable, "-m", "venv", home], check=True)
                install = [str(home / "bin/python"), "-m", "pip", "install", "-q"]
            subprocess.run([*install, *pins, *self.packages], check=True)
            (home / "ready").touch()
        return home / "bin"


def _contrib(name: str) -> str:
    return f"{name}=={version(name)}"


VARIANTS = (
    Variant("plain", (), ()),
    Variant(
        "stock",
        (
            "opentelemetry-distro",
            _contrib("opentelemetry-instrumentation"),
            _contrib("opentelemetry-exporter-otlp-proto-http"),
            *(_contrib(f"opentelemetry-instrumentation-{name}") for name in _CONTRIB),
            _contrib("opentelemetry-instrumentation-genai-openai"),
        ),
        ("opentelemetry-instrument",),
        _OTLP | _STABLE,
    ),
    # With openai 3, pip goes back to an OpenLIT of 2024, which fails at the start.
    Variant("openlit", ("openlit>=1.30",), ("openlit-instrument",), _OTLP, loose=("openai",)),
    Variant(
        "ddtrace", ("ddtrace",), ("ddtrace-run",), {"DD_SERVICE": "bench"}, endpoint="DD_TRACE_AGENT_URL"
    ),
    Variant("logfire", ("logfire[fastapi,psycopg,httpx]",), (), _OTLP | {"BENCH_LOGFIRE": "1"}),
    # The provider at 127.0.0.1 passes for OpenAI, so that calls are priced: more work, not less.
    Variant(
        "taximeter",
        None,
        ("opentelemetry-instrument",),
        {"OTEL_SERVICE_NAME": "bench", "TAXIMETER_MODEL_HOSTS": "127.0.0.1"},
    ),
)
