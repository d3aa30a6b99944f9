"""Whatever ends the service, every finished request has been exported; and a collector that is
away for some seconds costs nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.agent.conftest import Start
from tests.agent.receiver import Receiver


@pytest.fixture
def fresh() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_finished_request(
    fresh: Receiver, start: Start, how: signal.Signals
) -> None:
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url)
    finished = [0, 0, 0, 0]
    enough = threading.Event()

    def guest(number: int) -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while True:
                try:
                    client.get("/slow?seconds=0.02").raise_for_status()
                except httpx.HTTPError:
                    return
                finished[number] += 1
                if sum(finished) > 60:
                    enough.set()

    guests = [threading.Thread(target=guest, args=(number,)) for number in range(len(finished))]
    for thread in guests:
        thread.start()
    assert enough.wait(30)
    service.stop(how)
    for thread in guests:
        thread.join()
    # A response may have been sent whose guest no longer heard it.
    assert 0 <= len(fresh.servers("/slow")) - sum(finished) <= len(finished)
    assert fresh.count("http.server.request.duration", http_route="/slow") == len(fresh.servers("/slow"))


def test_a_request_in_flight_is_awaited_and_exported(fresh: Receiver, start: Start) -> None:
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(service.get("/slow?seconds=1").status_code))
    thread.start()
    time.sleep(0.4)
    assert service.stop() == -signal.SIGTERM
    thread.join()
    assert answers == [200]
    assert len(fresh.servers("/slow")) == 1
    assert fresh.count("http.server.request.duration", http_route="/slow") == 1


def test_a_guest_who_leaves_a_stream_still_counts(fresh: Receiver, start: Start) -> None:
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url)
    with httpx.stream("GET", service.url + "/endless") as response:
        heard = response.iter_bytes(1000)
        for _ in range(5):
            next(heard)
    fresh.wait(lambda: bool(fresh.servers("/endless")), "the abandoned request's span")
    service.stop()
    (span,) = fresh.servers("/endless")
    assert span.attributes["taximeter.request.streamed"] is True
    assert fresh.count("http.server.request.duration", http_route="/endless") == 1
    assert "Taximeter failed" not in service.log()


def test_the_collector_may_be_away_for_some_seconds(fresh: Receiver, start: Start) -> None:
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url, OTEL_METRIC_EXPORT_INTERVAL="500")
    for _ in range(20):
        service.get("/plain/before")
    fresh.stop()
    until = time.monotonic() + 3
    sent = 20
    while time.monotonic() < until:
        service.get("/plain/during")
        sent += 1
        time.sleep(0.01)
    fresh.start()
    fresh.wait(lambda: len(fresh.servers()) == sent, f"all {sent} spans", seconds=40)
    service.stop()
    assert len({span.span_id for span in fresh.servers()}) == sent
    assert fresh.count("http.server.request.duration") == sent
    assert not fresh.points("taximeter.agent.dropped_spans")


def test_the_last_export_does_not_sleep_through_its_chance(fresh: Receiver, start: Start) -> None:
    """The collector is away long enough for pauses of seconds, and back while the service stops."""
    service = start(
        "light",
        OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url,
        OTEL_METRIC_EXPORT_INTERVAL="500",
        TAXIMETER_FLUSH_TIMEOUT="20",
    )
    fresh.stop()
    for _ in range(10):
        service.get("/plain/a")
    time.sleep(5)  # by now the pauses are of 4 s and longer
    timer = threading.Timer(2, fresh.start)
    timer.start()
    service.stop()
    timer.join()
    assert len(fresh.servers()) == 10
    assert fresh.count("http.server.request.duration") == 10
    assert "could not export everything" not in service.log()


def test_spans_outlast_the_exporters_patience(fresh: Receiver, start: Start) -> None:
    """With a timeout of 1 s the SDK drops a batch at its first pause; here it is tried again."""
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    fresh.stop()
    for _ in range(10):
        service.get("/plain/a")
    time.sleep(3)
    fresh.start()
    fresh.wait(lambda: len(fresh.servers()) == 10, "all spans", seconds=20)
    assert service.stop() == -signal.SIGTERM
    assert not fresh.points("taximeter.agent.dropped_spans")


def test_a_dead_collector_does_not_hold_up_the_end(start: Start) -> None:
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", TAXIMETER_FLUSH_TIMEOUT="0.5")
    assert service.get("/plain/a").status_code == 200
    assert service.stop() == -signal.SIGTERM
    assert "could not export everything within 0.5 s" in service.log()


def test_workers_are_processes_of_their_own(fresh: Receiver, start: Start) -> None:
    """``uvicorn --workers``: each worker is instrumented, and its metrics are series of their own."""
    service = start("light", OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url, WEB_CONCURRENCY="2")
    for number in range(40):
        assert service.get(f"/plain/{number}").status_code == 200
    service.stop()
    assert len(fresh.servers()) == 40
    assert fresh.count("http.server.request.duration") == 40
    instances = {span.resource["service.instance.id"] for span in fresh.servers()}
    series = fresh.points("http.server.request.duration")
    assert {point.resource["service.instance.id"] for point in series} == instances


def test_a_worker_without_lifespan_and_signal_handlers_loses_nothing(fresh: Receiver, start: Start) -> None:
    """gunicorn's uvicorn worker sets SIGTERM to its default, which ends the process at once."""
    server = (
        *("gunicorn", "-k", "tests.agent.lifespan_off.Worker", "-b", "127.0.0.1:{port}"),
        *("--workers", "1", "--log-level", "warning", "--timeout", "120"),
    )
    service = start("light", server, OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url, OTEL_BSP_SCHEDULE_DELAY="60000")
    for _ in range(5):
        assert service.get("/plain/a").status_code == 200
    service.stop()
    assert len(fresh.servers("/plain/{name}")) == 5
    assert fresh.count("http.server.request.duration", http_route="/plain/{name}") == 5
