"""Acknowledged means stored: kill -9, a full log, two owners, and a polite stop."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import httpx
import pytest
import yaml

from tests.collector.support import (
    GrpcBackend,
    backend_exporter,
    collector,
    free_port,
    span_store,
    trace_request,
    wait_for,
)


def stored_names(store: Path) -> list[str]:
    found = duckdb.sql(f"SELECT name FROM '{store}/spans/*.parquet'")
    assert found is not None
    return [name for (name,) in found.fetchall()]


def test_kill_9_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    port = free_port()
    exporters = {"span_store": span_store(tmp_path), "otlp": backend_exporter(port)}
    acknowledged: list[int] = []
    stop = threading.Event()
    rnd = random.Random(5)
    with GrpcBackend(port) as backend, collector(tmp_path, exporters, {"traces": list(exporters)}) as made:
        made.start()

        def send(start: int) -> None:
            with httpx.Client(headers={"content-type": "application/x-protobuf"}) as client:
                number = start
                while not stop.is_set():
                    body = trace_request(number, 5)
                    while not stop.is_set():  # as a sender does: the same request until it is acknowledged
                        try:
                            if client.post(made.url(), content=body, timeout=5).status_code == 200:
                                acknowledged.extend(range(number, number + 5))
                                break
                        except httpx.TransportError:
                            stop.wait(0.05)
                    number += 5

        threads = [threading.Thread(target=send, args=(worker * 1_000_000,)) for worker in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                seen = len(acknowledged)
                wait_for(lambda seen=seen: len(acknowledged) > seen + 50, "load")  # type: ignore[misc]
                stop.wait(rnd.uniform(0.0, 0.5))
                made.kill()
                made.start()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        wait_for(made.settled, "everything is delivered")
        stored = stored_names(tmp_path / "store")
        assert len(stored) == len(set(stored)), "a span is stored twice"
        expected = {f"span-{number}" for number in acknowledged}
        assert expected <= set(stored)
        assert expected <= set(backend.received.span_names())
        assert len(acknowledged) > 150


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_flushes(tmp_path: Path, number: int) -> None:
    exporters = {"span_store": span_store(tmp_path, flush_interval="10m")}
    with collector(tmp_path, exporters, {"traces": ["span_store"]}) as made:
        made.start()
        assert made.post(trace_request(0, 10)).status_code == 200
        assert made.own("otelcol_exporter_queue_size") == 1
        assert list((tmp_path / "store" / "spans").glob("*.parquet")) == []
        assert made.stop(number) == 0
        assert len(stored_names(tmp_path / "store")) == 10


def test_a_stop_with_a_dead_backend_is_bounded_and_keeps_the_log(tmp_path: Path) -> None:
    port = free_port()
    with collector(tmp_path, {"otlp": backend_exporter(port)}, {"traces": ["otlp"]}) as made:
        made.start()
        assert made.post(trace_request(0)).status_code == 200
        assert made.stop() == 0
        assert "1 requests are not delivered yet" in made.log()
        with GrpcBackend(port) as backend:
            made.start()
            wait_for(made.settled, "delivered after the restart")
            assert backend.received.span_names() == ["span-0"]


def test_a_full_log_refuses_with_a_wish_to_retry(tmp_path: Path) -> None:
    port = free_port()
    exporters = {"otlp": backend_exporter(port)}
    with collector(tmp_path, exporters, {"traces": ["otlp"]}, storage={"max_size_mib": 1}) as made:
        made.start()
        statuses = []
        sent = 0
        while 503 not in statuses and sent < 400:
            response = made.post(trace_request(sent * 1000, 1000))
            statuses.append(response.status_code)
            sent += 1
        assert set(statuses) == {200, 503}
        assert int(response.headers["retry-after"]) >= 1
        assert made.own("otelcol_receiver_refused_spans") == 1000
        assert made.own("taximeter_collector_refused_requests", reason="log_full") == 1
        with GrpcBackend(port) as backend:
            wait_for(made.settled, "delivered")
            assert len(backend.received.span_names()) == statuses.count(200) * 1000
            assert made.post(trace_request(sent * 1000, 1000)).status_code == 200


def test_memory_limiter_refuses(tmp_path: Path) -> None:
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}) as made:
        made.config["processors"] = {"memory_limiter": {"check_interval": "1s", "limit_mib": 10}}
        made.config["service"]["pipelines"]["traces"]["processors"] = ["memory_limiter"]
        made.start()
        response = made.post(trace_request(0))
        assert response.status_code == 503
        assert made.own("taximeter_collector_refused_requests", reason="memory") == 1


def test_one_directory_has_one_owner(tmp_path: Path) -> None:
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}) as made:
        made.start()
        other = yaml.safe_load((tmp_path / "collector.yaml").read_text())
        for protocol in other["receivers"]["otlp"]["protocols"].values():
            protocol["endpoint"] = f"127.0.0.1:{free_port()}"
        other["extensions"]["health_check"]["endpoint"] = f"127.0.0.1:{free_port()}"
        (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
        command = [
            sys.executable,
            "-m",
            "taximeter_collector",
            "run",
            "--config",
            str(tmp_path / "other.yaml"),
        ]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert f"in use by another collector (process {made.process.pid})" in second.stderr  # type: ignore[union-attr]
        assert len(second.stderr.splitlines()) == 1
        assert made.healthy()


def test_a_removed_exporter_gives_up_its_requests_aloud(tmp_path: Path) -> None:
    exporters = {"otlp": backend_exporter(free_port()), "debug": None}
    with collector(tmp_path, exporters, {"traces": ["otlp"]}) as made:
        made.start()
        assert made.post(trace_request(0)).status_code == 200
        made.kill()
        made.config["service"]["pipelines"]["traces"]["exporters"] = ["debug"]
        made.start()
        wait_for(made.settled, "the new exporter gets what is there")
        assert "traces|otlp is no longer configured: it gives up 1 requests" in made.log()
        assert made.own("otelcol_exporter_sent_spans", exporter="debug") == 1
