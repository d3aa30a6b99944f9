"""Remote write, into a real Prometheus: every sample once, at its time, whatever happens in between."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from taximeter_collector.export.base import Permanent
from taximeter_collector.prometheus.remote_write import _Refused, without_refused
from taximeter_collector.prometheus.samples import Line
from tests.collector.prometheus_binary import Prometheus, prometheus, require_prometheus
from tests.collector.support import Collector, collector, free_port, set_value, wait_for
from tests.collector.test_prometheus import points
from tests.official import newer_prometheus

SECOND = 10**9


@pytest.fixture(params=["installed", "newer"])
def binary(request: pytest.FixtureRequest) -> str:
    """Debian's 2.42 everywhere; another one where it is named."""
    if request.param == "installed":
        return require_prometheus()
    return newer_prometheus()


def writer(port: int, **values: Any) -> dict[str, Any]:
    fast = {"initial_interval": "50ms", "max_interval": "200ms"}
    return {
        "prometheus_remote_write": {
            "endpoint": f"http://127.0.0.1:{port}/api/v1/write",
            "retry_on_failure": fast,
            "external_labels": {"site": "here"},
            **values,
        }
    }


def at(request: Any, time_ns: int, *, exemplar: bool = False, version: str = "", flags: int = 0) -> bytes:
    """The same request with all its points at one time."""
    for resource in request.resource_metrics:
        if version:
            set_value(resource.resource.attributes.add(key="service.version").value, version)
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    point.time_unix_nano = time_ns
                    point.flags = flags
                    if exemplar:
                        point.exemplars.add(
                            as_double=1.5, time_unix_nano=time_ns, trace_id=b"t" * 16, span_id=b"s" * 8
                        )
    encoded: bytes = request.SerializeToString()
    return encoded


def send(made: Collector, payload: bytes) -> None:
    assert made.post(payload, "/v1/metrics").status_code == 200


def test_series_exemplars_and_ends(tmp_path: Path, binary: str) -> None:
    port = free_port()
    with (
        prometheus(tmp_path / "p", binary=binary, port=port, takes_writes=True) as server,
        collector(tmp_path, writer(port), {"metrics": ["prometheus_remote_write"]}) as made,
    ):
        made.start()
        now = time.time_ns()
        first = points(seconds=[0.5, 1.5, 9.0], requests=3.0)
        send(made, at(first, now - 30 * SECOND, exemplar=True, version="1"))
        money = points(spent=0.25)
        counter = money.resource_metrics[0].scope_metrics[0].metrics[0]
        counter.name, counter.unit = "taximeter.cost_usd", "{USD}"
        send(made, at(money, now - 20 * SECOND, version="1"))
        send(made, at(points(seconds=[0.5, 1.5, 9.0, 9.0], requests=5.0), now, version="2"))
        wait_for(lambda: server.value("requests_total") == 5, "the newest value")
        labels = server.get("query", query="requests_total")["result"][0]["metric"]
        assert {
            "job": "ns/svc",
            "instance": "i-1",
            "site": "here",
            "http_route": "/a",
        }.items() <= labels.items()
        assert server.value('seconds_bucket{le="1"}') == 1
        assert server.value('seconds_bucket{le="+Inf"}') == 4
        assert server.value("seconds_sum") == 20
        assert server.value("increase(taximeter_cost_usd_total[1m])") > 0  # type: ignore[operator]
        assert server.value("min_over_time(taximeter_cost_usd_total[1m])") == 0
        found = server.get("query", query="target_info")["result"]
        assert [entry["metric"]["service_version"] for entry in found] == ["2"], "the old version ended"
        exemplars = server.get(
            "query_exemplars", query="seconds_bucket", start=now / 1e9 - 60, end=now / 1e9 + 60
        )
        assert exemplars[0]["exemplars"][0]["labels"]["trace_id"] == (b"t" * 16).hex()
        send(made, at(points(requests=0.0), time.time_ns(), flags=1))  # no recorded value
        wait_for(lambda: server.value("requests_total") is None, "its end, at once")
        assert server.value("seconds_count") == 4
        assert made.stop() == 0


def test_nothing_is_missing_after_an_outage_and_kills(tmp_path: Path, binary: str) -> None:
    """Each of 30 samples, deltas among them, though the receiver came late and the collector was killed."""
    port = free_port()
    begun = time.time_ns() - 60 * SECOND
    with collector(tmp_path, writer(port), {"metrics": ["prometheus_remote_write"]}) as made:

        def some(first: int) -> None:
            for number in range(first, first + 10):
                send(made, at(points(total=float(number)), begun + number * SECOND))
                send(made, at(points(delta=True, added=2.0), begun + number * SECOND))

        made.start()
        some(0)
        made.kill()
        made.start()
        with prometheus(tmp_path / "p", binary=binary, port=port, takes_writes=True) as server:
            some(10)
            wait_for(made.settled, "everything is sent")
            made.kill()
            made.start()
            some(20)
            wait_for(made.settled, "everything is sent")
            check(server)
        assert made.own("taximeter_collector_dead_letters") == 0
        assert made.stop() == 0


def check(server: Prometheus) -> None:
    def values(query: str) -> list[float]:
        found = server.get("query", query=query)["result"]
        assert len(found) == 1
        return [float(value) for _, value in found[0]["values"]]

    assert values("total[5m]") == [float(number) for number in range(30)]
    assert values("added_total[5m]") == [2.0 * number for number in range(1, 31)]


def test_samples_that_are_too_old_block_nobody(tmp_path: Path, binary: str) -> None:
    port = free_port()
    with (
        prometheus(tmp_path / "p", binary=binary, port=port, takes_writes=True) as server,
        collector(tmp_path, writer(port), {"metrics": ["prometheus_remote_write"]}) as made,
    ):
        made.start()
        now = time.time_ns()
        send(made, at(points(fresh=1.0), now))
        wait_for(lambda: server.value("fresh_total") == 1, "a first sample")
        for number in range(20):
            send(made, at(points(instance=f"i-{number}", old=1.0), now - 9 * 3600 * SECOND + number * SECOND))
            send(made, at(points(instance=f"i-{number}", young=1.0), now - number * SECOND))
        wait_for(lambda: server.value("count(young_total)") == 20, "the young ones")
        wait_for(made.settled, "the queue is empty")
        name = "taximeter_collector_dropped_points"
        dropped = made.own(name, reason="refused_sample")
        taken = sum(
            float(e["value"][1])
            for e in server.get("query", query="count_over_time(old_total[12h])")["result"]
        )
        assert dropped > 0
        assert dropped >= 20 - taken
        assert made.own("taximeter_collector_dead_letters") == 0


class Picky:
    """A receiver that takes nothing older than a bound, and nothing of some series."""

    def __init__(self, oldest: int, bad: set[str]) -> None:
        self.oldest, self.bad, self.taken, self.requests = oldest, bad, set[tuple[str, int]](), 0

    async def post(self, part: list[Line]) -> None:
        self.requests += 1
        for line in part:
            for time_ms, _ in line.samples:
                if time_ms < self.oldest:
                    raise _Refused("out of bounds", too_old=True)
            if line.labels[0][1] in self.bad:
                raise _Refused("out of order", too_old=False)
        self.taken |= {(line.labels[0][1], at) for line in part for at, _ in line.samples}


@pytest.mark.parametrize(("oldest", "bad"), [(0, set()), (500, set()), (2000, set()), (300, {"s3", "s77"})])
def test_exactly_the_refused_samples_are_found(oldest: int, bad: set[str]) -> None:
    part = [Line((("__name__", f"s{n}"),), [(t, 1.0) for t in range(n % 7, 1000, 100)]) for n in range(100)]
    receiver = Picky(oldest, bad)
    dropped = asyncio.run(without_refused(part, _Refused("x", too_old=oldest > 0), receiver.post))
    every = {(line.labels[0][1], at) for line in part for at, _ in line.samples}
    assert receiver.taken == {(name, at) for name, at in every if at >= oldest and name not in bad}
    assert dropped == len(every) - len(receiver.taken)
    assert receiver.requests < 80


def test_a_receiver_that_refuses_everything_is_not_asked_for_ever() -> None:
    part = [Line((("__name__", f"s{n}"),), [(1, 1.0)]) for n in range(2000)]
    receiver = Picky(0, {f"s{n}" for n in range(2000)})
    with pytest.raises(Permanent, match="more than 500 requests"):
        asyncio.run(without_refused(part, _Refused("x", too_old=False), receiver.post))
