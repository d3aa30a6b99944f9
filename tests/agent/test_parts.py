"""The small parts: guard, settings, labels, account, public face, and losses that are counted."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import taximeter
from taximeter import account as accounts
from taximeter import export, guard, labels, redact, settings
from tests.agent.conftest import BIN, ROOT, Start
from tests.agent.receiver import Receiver


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TAXIMETER_STRICT", raising=False)
    guard.reset()
    yield
    guard.reset()


def test_the_guard_counts_every_failure_and_logs_each_kind_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="taximeter"):
        for _ in range(3):
            guard.caught("somewhere", ValueError("bad"))
        guard.caught("somewhere", KeyError("other"))
    assert guard.counts() == {"somewhere": 4}
    assert [record.message.split(": ")[1] for record in caplog.records] == ["ValueError", "KeyError"]


def test_the_guard_raises_in_strict_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXIMETER_STRICT", "1")
    with pytest.raises(ValueError, match="bad"):
        guard.caught("somewhere", ValueError("bad"))


def test_defaults_do_not_override_what_the_user_set() -> None:
    environ = {"OTEL_BSP_SCHEDULE_DELAY": "9", "OTEL_TRACES_SAMPLER": "always_off"}
    settings.apply_defaults(environ)
    assert environ["OTEL_BSP_SCHEDULE_DELAY"] == "9"
    assert environ["OTEL_TRACES_SAMPLER"] == "always_off"
    assert environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] == "256"
    assert environ["OTEL_SEMCONV_STABILITY_OPT_IN"] == "http,database"
    assert environ["ANTHROPIC_OPEN_TELEMETRY"] == "false"
    assert "OTEL_SERVICE_NAME" not in environ


def test_secrets_are_not_shown() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer hush",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:hush@collector:4318/x?token=hush",
        "TAXIMETER_HASH_KEY": "hush",
        "OPENAI_API_KEY": "hush",
    }
    shown = dict(settings.effective(environ))
    assert "hush" not in str(shown)
    assert shown["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://collector:4318/x"


def test_a_setting_that_is_no_number_falls_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="taximeter"):
        assert settings.number("TAXIMETER_FLUSH_TIMEOUT", {"TAXIMETER_FLUSH_TIMEOUT": "soon"}) == 5.0
    assert "TAXIMETER_FLUSH_TIMEOUT='soon' is not a number" in caplog.text


def test_labels_are_bounded() -> None:
    bounded = labels.Bounded(2)
    assert [bounded(value) for value in ("a", "b", "c", "a")] == ["a", "b", "other", "a"]
    assert len(labels.Bounded(5)("x" * 10_000)) == labels.MAX_LENGTH


def test_an_account_is_exact_under_threads() -> None:
    account = accounts.Account()

    def work() -> None:
        for number in range(2000):
            account.db_call(f"SELECT {number % 10}", 0.5)
            account.cache("c", number % 2 == 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = account.take()
    assert (taken.db_calls, taken.db_repeated, taken.db_duration) == (8000, 7990, 4000.0)
    assert (taken.cache_lookups, taken.cache_hits) == (8000, 4000)
    assert account.take() == accounts.Totals()
    assert account.total.db_calls == 8000


def test_without_the_agent_the_public_face_does_nothing() -> None:
    code = (
        "import sys, taximeter\n"
        "taximeter.attribute('tenant', 'ritz'); taximeter.record_cache('c', True)\n"
        "assert taximeter.request_account() is None\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_attribute_is_a_typing_error() -> None:
    with pytest.raises(ValueError, match="unknown attribute 'tennant': use one of 'tenant'"):
        taximeter.attribute("tennant", "ritz")


class Deaf(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


def test_spans_that_are_lost_are_counted() -> None:
    before = export.dropped()
    provider = TracerProvider(shutdown_on_exit=False)
    processor = export.CountingProcessor(
        export.GuardedExporter(Deaf(), redact.Redactor()),
        max_queue_size=4,
        max_export_batch_size=4,
        schedule_delay_millis=60_000,
    )
    processor._batch_processor._export_lock.acquire()  # the exporter is busy
    provider.add_span_processor(processor)
    for _ in range(7):
        provider.get_tracer("t").start_span("s").end()
    assert export.dropped()["queue_full"] - before.get("queue_full", 0) == 3
    processor._batch_processor._export_lock.release()
    provider.force_flush()
    assert export.dropped()["export_failed"] - before.get("export_failed", 0) == 4
    provider.shutdown()


def test_a_flush_ends_when_its_time_is_over() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    processor = export.CountingProcessor(export.GuardedExporter(Deaf(), redact.Redactor()))
    provider.add_span_processor(processor)
    with processor._batch_processor._export_lock:  # the exporter is busy, and stays so
        assert processor.force_flush(timeout_millis=50) is False
    assert processor.force_flush() is True
    provider.shutdown()


def test_an_unreadable_price_file_is_told_and_the_service_starts(
    receiver: Receiver, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "contract.json"
    path.write_text('{"version": 1, "providers": []}')
    service = start("light", TAXIMETER_PRICES_FILE=str(path), TAXIMETER_STRICT="1")
    assert service.get("/plain/a").status_code == 200
    service.stop()
    lines = [line for line in service.log().splitlines() if "Price file" in line]
    assert lines == [
        f"ERROR taximeter: Price file {path}, at $.providers: must be an object, not list. "
        "Correct it or unset TAXIMETER_PRICES_FILE. Until then the built-in prices apply."
    ]


def test_a_failure_inside_the_agent_costs_no_request(
    receiver: Receiver, start: Start, tmp_path: Path
) -> None:
    """The account cannot be written: requests go on, the failure is counted and logged once."""
    sabotage = tmp_path / "sabotage.py"
    sabotage.write_text(
        "from taximeter import serverspan\n"
        "def broken(account): raise RuntimeError('sabotaged')\n"
        "serverspan.attributes = broken\n"
        "from tests.agent.light import app\n"
    )
    service = start("sabotage:app", TAXIMETER_STRICT="0", PYTHONPATH=str(tmp_path))
    for _ in range(3):
        assert service.get("/plain/a").status_code == 200
    service.stop()
    assert service.log().count("Taximeter failed in request.send") == 1
    assert receiver.total("taximeter.agent.errors", taximeter_hook="request.send") == 3


def test_taximeter_is_picked_beside_another_distro(tmp_path: Path) -> None:
    """Another distribution with a distro and a configurator, found first on the path."""
    info = tmp_path / "aaa_distro-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa-distro\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[opentelemetry_distro]\naaa = nowhere:Distro\n\n[opentelemetry_configurator]\naaa = nowhere:Conf\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TAXIMETER_"))}
    done = subprocess.run(
        [
            *(str(BIN / "opentelemetry-instrument"), sys.executable, "-c"),
            "from opentelemetry import trace; print(trace.get_tracer_provider().resource.attributes)",
        ],
        env=clean
        | {"PYTHONPATH": str(tmp_path), "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'telemetry.distro.name': 'taximeter'" in done.stdout, done.stderr
    assert "aaa" not in done.stderr or "not loaded because taximeter is set" in done.stderr


def test_a_missing_grpc_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    grpc = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert settings.missing_extra(grpc) is None  # installed for the tests
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    assert settings.missing_extra({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) is None
    assert "pip install 'taximeter[grpc]'" in (settings.missing_extra(grpc) or "")
