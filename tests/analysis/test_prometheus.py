"""A report from a real Prometheus, held against the span store's of the same run.

The recorded run's metrics go through the collector and are scraped; its spans through the store. Counts
must be equal, money equal to 1e-9, and every exact quantile of the store's must lie in the bucket that
Prometheus's report names (a metric is measured some microseconds off its span: `SLACK_S`).
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from taximeter_analysis import Filters, NothingToReport, Report, StoreError, render
from taximeter_analysis.model import Quantiles, Usage
from taximeter_analysis.readers.opened import report_from
from taximeter_analysis.readers.promql import Buckets
from taximeter_cli.main import main
from tests.analysis import raw
from tests.analysis.recording import RUN
from tests.collector.prometheus_binary import Prometheus, prometheus
from tests.collector.support import collector, free_port, wait_for

SLACK_S = 0.003
pytestmark = pytest.mark.prometheus


@dataclass(frozen=True)
class Run:
    """A Prometheus that has seen the recorded run, and when it began to."""

    url: str
    began: float
    metrics: Report
    store: Report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    exporters = {"prometheus": {"endpoint": f"127.0.0.1:{port}", "enable_open_metrics": True}}
    with (
        collector(folder, exporters, {"metrics": ["prometheus"]}) as made,
        prometheus(folder / "server", f"127.0.0.1:{port}") as server,
    ):
        made.start()
        began = time.time()
        for message in raw.messages(RUN / "metrics.otlp.gz"):
            assert made.post(message, "/v1/metrics").status_code == 200
        wait_for(made.settled, "the collector has applied all metrics")
        store = report_from(f"file:{RUN / 'traces.otlp.gz'}")
        query = "sum(http_server_request_duration_seconds_count)"
        wait_for(lambda: server.value(query) == store.totals.requests, "Prometheus has scraped all of it")
        time.sleep(0.5)  # one scrape more
        yield Run(
            server.url,
            began,
            report_from(f"prometheus+{server.url}", Filters(since=began - 30)),
            store,
        )


def same_usage(ours: Usage, theirs: Usage) -> None:
    for item in fields(Usage):
        found, expected = getattr(ours, item.name), getattr(theirs, item.name)
        if isinstance(expected, float):
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), item.name
        else:
            assert found == expected, item.name


def test_totals_are_the_stores(run: Run) -> None:
    same_usage(run.metrics.totals, run.store.totals)
    assert run.metrics.error_rate == run.store.error_rate
    assert run.metrics.services == run.store.services
    assert run.metrics.totals_from_spans.model_calls == run.store.totals_from_spans.model_calls
    assert run.metrics.totals_from_spans.cost_usd == pytest.approx(run.store.totals.cost_usd, rel=1e-9)


def test_it_is_a_side_of_compare(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "store.json"
    saved.write_text(render.json(run.store), encoding="utf-8")
    since = datetime.fromtimestamp(run.began - 30, UTC).isoformat()
    assert main(["compare", f"prometheus+{run.url}@{since}..", str(saved), "--format", "json"]) == 0
    total = {item["name"]: item for item in json.loads(capsys.readouterr().out)["total"]["figures"]}
    assert {"db_calls", "cost", "error_rate"} <= total.keys()
    assert "latency_p95" not in total  # buckets hold no single request
    for item in total.values():
        assert item["before"] == pytest.approx(item["after"], rel=1e-9)


def test_every_route_is_the_stores(run: Run) -> None:
    by_route = defaultdict(list)
    for route in run.store.routes:
        by_route[route.route].append(route)
    assert {route.route for route in run.metrics.routes} == set(by_route)
    for route in run.metrics.routes:
        parts = by_route[route.route]
        assert route.label.split(" ", 1)[0].split(",")[0] in {part.method for part in parts}
        for item in fields(Usage):
            values = [getattr(part.usage, item.name) for part in parts]
            found = getattr(route.usage, item.name)
            assert found == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-12), (route.label, item.name)
        if len(parts) == 1:
            contained(route.latency, parts[0].latency)
            contained(route.first_byte, parts[0].first_byte)
            assert route.slow_requests == parts[0].slow_requests
            assert route.streamed_share == pytest.approx(parts[0].streamed_share)


def contained(within: Quantiles, exact: Quantiles) -> None:
    assert within.count == exact.count
    for each, name in zip(within.within, ("p50", "p95", "p99"), strict=False):
        value = getattr(exact, name)
        assert value >= each.low - SLACK_S, (each, value)
        assert each.high is None or value <= each.high + SLACK_S, (each, value)
        assert each.low <= each.value <= (each.high or math.inf)


def test_quantiles_lie_in_their_buckets(run: Run) -> None:
    contained(run.metrics.latency, run.store.latency)
    assert len(run.metrics.latency.within) == 3
    assert run.metrics.slow.requests_total == run.store.slow.requests_total == 3


def test_models_are_the_stores(run: Run) -> None:
    def key(item: object) -> str:
        return f"{item.model} {item.provider} {item.operation}"  # type: ignore[attr-defined]

    theirs = {key(item): item for item in run.store.models}
    assert {key(item) for item in run.metrics.models} == set(theirs)
    for item in run.metrics.models:
        other = theirs[key(item)]
        assert (item.calls, item.errors, item.input_tokens) == (other.calls, other.errors, other.input_tokens)
        assert (item.output_tokens or 0) == (other.output_tokens or 0)
        assert item.cost_usd == pytest.approx(other.cost_usd, rel=1e-9)
        assert item.unpriced_calls == other.unpriced_calls
        contained(item.latency, other.latency)


def test_the_timeline_adds_up(run: Run) -> None:
    buckets = run.metrics.timeline.buckets
    assert sum(bucket.requests for bucket in buckets) == run.store.totals.requests
    assert math.fsum(bucket.cost_usd for bucket in buckets) == pytest.approx(
        run.store.totals.cost_usd, rel=1e-9
    )


def test_all_formats_take_such_a_report(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--{kind}={tmp_path / kind}" for kind in ("json", "html", "markdown", "csv")]
    assert main(["report", "--from", f"prometheus+{run.url}", "--since", "5m", *files]) == 0
    told = capsys.readouterr().out
    assert "from Prometheus: counts, tokens and money are exact" in told.replace("\n", " ")
    assert all((tmp_path / kind).stat().st_size > 1000 for kind in ("json", "html", "markdown", "csv"))


def test_top_reads_it_too(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--from", f"prometheus+{run.url}", "--since", "10m"]) == 0
    told = capsys.readouterr().out
    assert "312 requests" in told and "POST /hotels/{hotel}/chat " in told
    assert main(["top", "--from", "file:x"]) == 2
    assert "cannot be asked every second" in capsys.readouterr().err


def test_a_window_before_the_run_holds_nothing(run: Run) -> None:
    source = f"prometheus+{run.url}"
    with pytest.raises(NothingToReport, match=r"did not grow\); does it scrape the collector"):
        report_from(source, Filters(since=run.began - 7200, until=run.began - 3600))
    with pytest.raises(NothingToReport, match="did not grow"):
        report_from(source, Filters(since=run.began - 60, service="other"))
    with pytest.raises(ValueError, match="not labelled by tenant in Prometheus; ask the span store"):
        report_from(source, Filters(tenant="grand-meridian"))


def test_what_is_no_prometheus_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no answer to GET /api/v1/query"):
        report_from(f"prometheus+http://127.0.0.1:{free_port()}")


def test_a_process_that_began_anew_counts_on(tmp_path: Path) -> None:
    """A reset inside the window: what was counted before it and after it."""
    port, value = free_port(), [5]
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    from taximeter_analysis.readers.place import parse
    from taximeter_analysis.readers.promql import Growth
    from taximeter_analysis.readers.web import Web

    def scraped(server: Prometheus, now: int) -> bool:
        return server.value("things_total") == now

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"# TYPE things_total counter\nthings_total {value[0]}\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    page = ThreadingHTTPServer(("127.0.0.1", port), Page)
    Thread(target=page.serve_forever, daemon=True).start()
    try:
        with prometheus(tmp_path, f"127.0.0.1:{port}") as server:
            since = time.time() - 10
            for now in (5, 9, 2, 3):
                value[0] = now
                wait_for(partial(scraped, server, now), f"{now} is scraped")
            with Web(parse(f"prometheus+{server.url}")) as web:
                assert Growth(web, since, time.time() + 1).of("things_total") == {(): 9 + 3}
    finally:
        page.shutdown()
        page.server_close()


def test_a_histograms_quantile_is_the_nearest_ranks_bucket() -> None:
    found = Buckets.of({"0.1": 50, "0.5": 94, "1": 95, "+Inf": 100, "1.0": 0})
    assert (found.within(0.5).low, found.within(0.5).high) == (0.0, 0.1)
    assert (found.within(0.95).low, found.within(0.95).high) == (0.5, 1.0)
    assert (found.within(0.99).low, found.within(0.99).high) == (1.0, None)
    assert (found.over(0.5), found.over(0.7)) == (6, None)
    assert Buckets((), ()).quantiles().p95 is None
