"""Dead letters: bounded, cheap to append, listed, and sent again to the one exporter that refused them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from taximeter_collector.export.dead_letters import DeadLetters, read
from taximeter_collector.log import Row
from tests.collector.support import (
    GrpcBackend,
    backend_exporter,
    collector,
    free_port,
    span_store,
    trace_request,
    wait_for,
)


def row(number: int, size: int = 10) -> Row:
    return Row(number, 1, 1, bytes([number]) * size)


def test_letters_are_appended_after_a_torn_one_and_up_to_the_limit(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, "traces", "traces", "otlp", max_bytes=1000)
    letters.write(row(1), "no")
    with letters.path.open("ab") as file:
        file.write(b"\0\0\1\0torn")
    again = DeadLetters(tmp_path, "traces", "traces", "otlp", max_bytes=1000)
    again.write(row(2), "no")
    assert [payload for _, payload in read(again.path)] == [row(1).payload, row(2).payload]
    with pytest.raises(OSError, match="limit 1000: replay it"):
        again.write(row(3, 900), "no")
    again.path.unlink()
    again.write(row(4, 900), "no")
    assert [payload for _, payload in read(again.path)] == [row(4, 900).payload]


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "taximeter_collector", "dead-letters", *words]
    argv += ["--config", str(folder / "collector.yaml")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_replay_sends_to_the_refusing_exporter_while_the_collector_runs(tmp_path: Path) -> None:
    port = free_port()
    exporters = {"otlp": backend_exporter(port), "span_store": span_store(tmp_path)}
    with (
        collector(tmp_path, exporters, {"traces": ["otlp", "span_store"]}) as made,
        GrpcBackend(port) as backend,
    ):
        backend.received.answer = lambda request: grpc.StatusCode.INVALID_ARGUMENT
        made.start()
        for number in range(3):
            assert made.post(trace_request(number)).status_code == 200
        wait_for(lambda: made.own("taximeter_collector_dead_letters") == 3, "three letters")
        listed = command(tmp_path, "list")
        assert (listed.returncode, "3 requests, 3 items" in listed.stdout) == (0, True), listed
        refused = command(tmp_path, "replay")
        assert (refused.returncode, refused.stdout) == (1, "3 requests were refused again\n"), refused
        backend.received.answer = lambda request: None
        done = command(tmp_path, "replay", "otlp")
        assert (done.returncode, done.stdout) == (0, "every letter was delivered\n"), done
        assert sorted(backend.received.span_names()) == ["span-0", "span-1", "span-2"]
        assert command(tmp_path, "list").stdout == "no dead letters\n"
        assert made.post(trace_request(9)).status_code == 200
        wait_for(lambda: "span-9" in backend.received.span_names(), "the collector goes on")
