"""``taximeter doctor`` in an environment of its own: what it says, and what it never says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from taximeter import coverage
from taximeter_cli import doctor
from tests.agent.conftest import free_port
from tests.agent.receiver import Receiver


@pytest.fixture(scope="module")
def collector() -> Iterator[str]:
    receiver = Receiver()
    receiver.start()
    yield receiver.url
    receiver.stop()


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TAXIMETER_"))}
    return subprocess.run(
        [sys.executable, "-m", "taximeter_cli", "doctor", *words],
        env=clean | {"OTEL_SERVICE_NAME": "hotel"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_all_well(collector: str) -> None:
    done = run("--json", OTEL_EXPORTER_OTLP_ENDPOINT=collector)
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True), done.stdout
    texts = [finding["text"] for finding in report["findings"]]
    assert f"{collector} takes spans" in texts
    assert "content exported: nothing (TAXIMETER_CAPTURE_CONTENT)" in texts
    assert any(text.startswith("flask ") and "opentelemetry-instrumentation-flask" in text for text in texts)
    assert any(text.startswith("genai-prices ") and " models of " in text for text in texts)


def test_a_collector_that_does_not_answer(tmp_path: Path) -> None:
    done = run(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://guest:hush@127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "does not answer: " in done.stdout
    assert "-> start it (taximeter collector run) or set OTEL_EXPORTER_OTLP_ENDPOINT" in done.stdout
    assert "hush" not in done.stdout + done.stderr
    assert run("--offline").returncode == 0


def package(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def lines(text: str, mark: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"  {mark} ")]


def test_a_clash_is_one_clear_line(tmp_path: Path) -> None:
    """A library newer than its official instrumentor knows, first on the path."""
    package(tmp_path, "SQLAlchemy", "9.9.9")
    done = run("--offline", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert lines(done.stdout, "FAIL") == [
        "  FAIL sqlalchemy 9.9.9 (database): not measured, "
        f"opentelemetry-instrumentation-sqlalchemy {coverage.CONTRIB} serves sqlalchemy<2.1.0,>=1.0.0"
    ]


CLASH = "opentelemetry-sdk 1.30.0: Taximeter is tested with >=1.45.0,<1.46.0"


def test_pieces_of_two_opentelemetry_releases_are_one_clear_line(tmp_path: Path) -> None:
    package(tmp_path, "opentelemetry_sdk", "1.30.0")
    done = run("--offline", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert lines(done.stdout, "FAIL") == [f"  FAIL {CLASH}"]
    assert "-> pip install 'opentelemetry-sdk>=1.45.0,<1.46.0'" in done.stdout


def test_a_service_says_the_same_at_its_start_and_starts(tmp_path: Path) -> None:
    package(tmp_path, "opentelemetry_sdk", "1.30.0")
    launcher = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    done = subprocess.run(
        [launcher, sys.executable, "-c", "print('served')"],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "OTEL_SDK_DISABLED": "true", "TAXIMETER_STRICT": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "served" in done.stdout
    told = [line for line in done.stderr.splitlines() if "opentelemetry-sdk" in line]
    assert len(set(told)) == 1
    assert told[0] == f"WARNING taximeter: {CLASH}. pip install 'opentelemetry-sdk>=1.45.0,<1.46.0'"


@pytest.mark.parametrize(
    ("name", "version", "wanted"),
    [
        ("opentelemetry-sdk", "1.45.2", None),
        ("opentelemetry-sdk", "1.46.0", ">=1.45.0,<1.46.0"),
        ("opentelemetry-instrumentation-flask", "0.66b0", None),
        ("opentelemetry-instrumentation-flask", "0.65b0", ">=0.66b0,<=0.66b1"),
        ("opentelemetry-instrumentation-genai-openai", "1.2b0", ">=1.3b0,<=1.3b0"),
        ("opentelemetry-instrumentation-somebody", "0.1", None),
    ],
)
def test_what_fits(name: str, version: str, wanted: str | None) -> None:
    assert coverage.clash(name, version) == wanted


def test_where_the_key_of_hashes_comes_from(tmp_path: Path) -> None:
    [(level, text)] = says({"TAXIMETER_HASH_KEY": "a key for all our replicas"}, doctor.hash_key)
    assert level == "ok"
    assert "a key for all" not in text
    state = {"TAXIMETER_STATE_DIR": str(tmp_path / "state")}
    [(level, text)] = says(state, doctor.hash_key)
    assert (level, "will be made" in text, (tmp_path / "state").exists()) == ("note", True, False)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "hash.key").write_text("0" * 64)
    [(level, text)] = says(state, doctor.hash_key)
    assert (level, "made on this machine; replicas" in text) == ("note", True)
    found = says({"TAXIMETER_HASH_KEY": "short"} | state, doctor.hash_key)
    assert found[0] == ("error", "TAXIMETER_HASH_KEY has 5 characters, fewer than 16: it is not used")


def test_what_to_install_is_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._distribution

    def without(name: str) -> Distribution | None:
        return None if name.endswith(("-flask", "-asyncpg")) else real(name)

    monkeypatch.setattr(doctor, "_distribution", without)
    found = list(doctor.libraries({}))
    assert [finding.remedy for finding in found if finding.remedy] == [
        f"pip install 'opentelemetry-instrumentation-flask=={coverage.CONTRIB}' "
        f"'opentelemetry-instrumentation-asyncpg=={coverage.CONTRIB}'"
    ]
    assert any("not measured, opentelemetry-instrumentation-flask is not installed" in f.text for f in found)


def says(environ: dict[str, str], check: Any) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in check(environ)]


def test_who_will_be_paid(tmp_path: Path) -> None:
    local = says({"OPENAI_BASE_URL": "http://gpu-box:8000/v1"}, doctor.prices)
    assert local[-1] == (
        "warning",
        "OPENAI_BASE_URL: gpu-box is no provider that is known: its calls are not priced",
    )
    gateway = {"OPENAI_BASE_URL": "http://gpu-box:8000/v1", "TAXIMETER_MODEL_HOSTS": "gpu-box"}
    assert says(gateway, doctor.prices)[-1] == ("ok", "OPENAI_BASE_URL: gpu-box is priced as openai")
    azure = {"AZURE_OPENAI_ENDPOINT": "https://hotel.openai.azure.com"}
    assert says(azure, doctor.prices)[-1][1].endswith("is priced as azure.ai.openai")
    router = {"OPENAI_BASE_URL": "https://openrouter.ai/api/v1"}
    assert says(router, doctor.prices)[-1][1].endswith("reports its prices itself")
    (tmp_path / "bad.json").write_text("{}")
    assert says({"TAXIMETER_PRICES_FILE": str(tmp_path / "bad.json")}, doctor.prices)[0][0] == "error"


def test_a_start_that_would_not_measure() -> None:
    environ = {"OTEL_PYTHON_DISTRO": "other", "OTEL_PYTHON_CONFIGURATOR": "taximeter"}
    found = says(environ | {"OTEL_SDK_DISABLED": "true"}, doctor.launcher)
    assert ("error", "OTEL_PYTHON_DISTRO=other: Taximeter is not used") in found
    assert ("error", "OTEL_SDK_DISABLED=true: nothing is measured") in found
    assert found[-1][1].startswith("no service name")
    disabled = says({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask"}, doctor.libraries)
    assert any("switched off by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS" in text for _, text in disabled)


def test_a_check_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(environ: Any) -> Iterator[doctor.Finding]:
        raise OSError("unreadable")
        yield

    assert [f.text for f in doctor._guarded(broken, {})] == ["the check 'broken' failed: OSError: unreadable"]
