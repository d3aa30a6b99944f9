"""What the agent imports in a service that uses FastAPI alone: nothing of what the service does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taximeter import distro

_SERVICE = "import fastapi, json, sys; app = fastapi.FastAPI(); print(json.dumps(list(sys.modules)))"
BIN = Path(sys.executable).parent

#: Parts of the agent for libraries that this service does not use.
UNUSED = {
    f"taximeter.{name}"
    for name in (
        *("caches", "database", "dbcalls", "dbcursors", "dbevidence", "djangoasgi", "drivers", "httpcalls"),
        *("modelevidence", "pool", "wsgi"),
    )
}
#: Beyond the agent and OpenTelemetry: all that comes with them. psutil: the SDK's, where it is installed.
COMES_ALONG = {
    *(
        "_wrapt",
        "asgiref",
        "google",
        "packaging",
        "psutil",
        "sitecustomize",
        "taximeter",
        "typing_extensions",
    ),
    *("opentelemetry", "wrapt"),
}
INSTRUMENTORS = {
    *("_semconv", "asgi", "auto_instrumentation", "dependencies", "distro", "environment_variables"),
    *("fastapi", "instrumentor", "logging", "log_utils", "propagators", "starlette", "utils", "version"),
}


def modules(*launcher: str) -> set[str]:
    """What is imported when the service has started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment |= {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    environment |= {"PATH": f"{BIN}:{environment['PATH']}", "TAXIMETER_FLUSH_TIMEOUT": "0.1"}
    done = subprocess.run(
        [*launcher, sys.executable, "-c", _SERVICE],
        check=False,
        env=environment,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_fastapi_service_gets_nothing_that_it_does_not_use() -> None:
    added = modules(str(BIN / "opentelemetry-instrument")) - modules()
    foreign = {name.partition(".")[0] for name in added} - sys.stdlib_module_names - COMES_ALONG
    assert {name for name in foreign if "mypyc" not in name} == set()
    assert "taximeter.asgi" in added and added & UNUSED == set()
    parts = {name.split(".")[2] for name in added if name.startswith("opentelemetry.instrumentation.")}
    assert parts <= INSTRUMENTORS


@pytest.mark.parametrize("table", ["_PREPARE", "_OWN"])
def test_what_is_imported_later_is_there(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def seen(module: str) -> object:
        class Part:
            def __getattr__(self, name: str) -> object:
                asked.append((module, name))
                return lambda *_: None

        return Part()

    monkeypatch.setattr(distro, "import_module", seen)
    for install in getattr(distro, table).values():
        if install.__module__ == "taximeter.distro" and "call" in install.__qualname__:
            install()
    assert asked
    for module, name in asked:
        assert callable(getattr(__import__(module, fromlist=[name]), name))
