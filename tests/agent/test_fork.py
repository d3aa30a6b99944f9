"""Pre-forked workers: nothing of the parent's counted twice, nothing of a worker's own lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import Start
from tests.agent.receiver import Receiver

GUNICORN = (
    "gunicorn",
    "-k",
    "uvicorn_worker.UvicornWorker",
    "-b",
    "127.0.0.1:{port}",
    "--log-level",
    "warning",
)
WORKERS = 4


@pytest.fixture
def fresh() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.mark.parametrize("preload", [False, True])
def test_gunicorn_workers_count_for_themselves_and_lose_nothing(
    fresh: Receiver, start: Start, preload: bool
) -> None:
    server = (*GUNICORN, "--workers", str(WORKERS), *(["--preload"] if preload else []))
    service = start("light", server, OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url)
    workers: set[int] = set()
    lock = threading.Lock()
    asked = 0

    def ask() -> None:
        nonlocal asked
        for _ in range(25):
            pid = service.get("/pid/a").json()
            with lock:
                asked += 1
                workers.add(pid)

    while len(workers) < WORKERS and asked < 3000:
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(workers) == WORKERS
    service.stop()
    assert "Taximeter failed" not in service.log()
    assert len(fresh.servers()) == asked
    assert len({span.span_id for span in fresh.servers()}) == asked
    assert fresh.count("http.server.request.duration", http_route="/pid/{name}") == asked
    by_span = {span.resource["service.instance.id"] for span in fresh.servers()}
    by_metric = {
        point.resource["service.instance.id"] for point in fresh.points("http.server.request.duration")
    }
    assert len(by_span) == WORKERS
    assert by_metric == by_span
    for pid in workers:
        assert not Path(f"/proc/{pid}").exists()


def test_children_of_a_request_add_to_its_route_once(fresh: Receiver, start: Start) -> None:
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url, OTEL_METRIC_EXPORT_INTERVAL="200")
    for _ in range(3):
        service.get("/plain/a")  # sums that a child must not inherit
    for _ in range(2):
        answer = service.get("/fork/10")
        assert answer.status_code == 200, service.log()
    service.stop()
    assert "Taximeter failed" not in service.log()
    assert fresh.count("http.server.request.duration") == 5
    lookups = "taximeter.request.cache.lookups"
    assert fresh.total(lookups, http_route="/fork/{count}", taximeter_cache="parent") == 2
    assert fresh.total(lookups, http_route="/fork/{count}", taximeter_cache="child") == 2 * 2 * 10
    assert fresh.total("taximeter.request.cache.hits", taximeter_cache="child") == 2 * 2 * 5
    instances = {point.resource["service.instance.id"] for point in fresh.points(lookups)}
    assert len(instances) == 1 + 2 * 2


FORKS = """
import os, sys, threading, time
import taximeter
from taximeter import account, guard
for _ in range(7):
    taximeter.record_cache("parent", True)
stop = False
def busy():
    while not stop:
        taximeter.record_cache("busy", True)
threads = [threading.Thread(target=busy) for _ in range(3)]
[thread.start() for thread in threads]
children = []
for _ in range(20):
    if (pid := os.fork()) == 0:
        for _ in range(11):
            taximeter.record_cache("child", False)
        sys.exit(0)  # as a pre-forking server's worker ends
    children.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
stop = True
[thread.join() for thread in threads]
"""


def test_forks_while_other_threads_hold_every_lock(fresh: Receiver) -> None:
    """Twenty forks from a process whose threads never stop counting: no child hangs or miscounts."""
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TAXIMETER_"))}
    process = subprocess.Popen(
        [str(launcher), sys.executable, "-c", FORKS],
        env=clean | {"OTEL_EXPORTER_OTLP_ENDPOINT": fresh.url, "OTEL_METRIC_EXPORT_INTERVAL": "50"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert output.strip() == str([0] * 20)
    lookups = "taximeter.request.cache.lookups"
    assert fresh.total(lookups, taximeter_cache="child") == 20 * 11
    assert fresh.total(lookups, taximeter_cache="parent") == 7
    assert len({point.resource["service.instance.id"] for point in fresh.points(lookups)}) == 21
