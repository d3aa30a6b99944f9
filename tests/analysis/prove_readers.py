"""The readers against real servers: one recorded run, asked of the store, Tempo, Prometheus and files.

    make prove-readers

The recorded run's spans are moved to now and sent to what is found on PATH or named by TAXIMETER_TEMPO,
TAXIMETER_PROMETHEUS and TAXIMETER_OTELCOL; what is not found is said. Every leaf of each report is held
against the span store's. Ends with 1 when one differs beyond the bounds that the report itself states.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taximeter_analysis import Filters, Report
from taximeter_analysis.model import Quantiles
from taximeter_analysis.readers.opened import report_from
from taximeter_cli.supervise import Spec, Supervisor, free_port, http_healthy, port_open
from tests.analysis import leaves, raw
from tests.analysis.recording import RUN, framed

PROTOBUF = {"Content-Type": "application/x-protobuf"}
SLACK_S = 0.003  # a metric is measured some microseconds off its span
_TIME = ("start_time_unix_nano", "end_time_unix_nano")


@dataclass
class Run:
    """What is to be found: the run moved to now, and the store's report of it."""

    messages: list[bytes]
    report: Report
    since: float


def moved_to_now(folder: Path, before_s: float = 45) -> Run:
    """The recorded run as if it had begun ``before_s`` ago."""
    requests = [ExportTraceServiceRequest.FromString(body) for body in raw.messages(RUN / "traces.otlp.gz")]
    spans = [
        span
        for each in requests
        for res in each.resource_spans
        for scope in res.scope_spans
        for span in scope.spans
    ]
    shift = time.time_ns() - int(before_s * 1e9) - min(span.start_time_unix_nano for span in spans)
    for span in spans:
        for name in _TIME:
            setattr(span, name, getattr(span, name) + shift)
    messages = [request.SerializeToString() for request in requests]
    path = folder / "run.otlp"
    path.write_bytes(framed(messages))
    return Run(messages, report_from(f"file:{path}"), time.time() - before_s - 5)


def program(variable: str, *names: str) -> str | None:
    """A binary by its variable, else on PATH."""
    return os.environ.get(variable) or next((found for name in names if (found := shutil.which(name))), None)


def differences(ours: Report, theirs: Report) -> tuple[int, list[str]]:
    """Leaves compared, and those that differ; about the run only."""
    one, two = ours.to_dict(), theirs.to_dict()
    for data in (one, two):
        data["window"] |= {"since": None, "until": None}
        data["ranked"] = [{**item, "first": 0} for item in data["ranked"]]
    return len(dict(leaves.leaves(two))), leaves.differences(one, two)


@contextmanager
def tempo(binary: str, folder: Path) -> Iterator[tuple[str, str]]:
    """A single Tempo on loopback: its HTTP address and its OTLP/HTTP address."""
    web, rpc, otlp = free_port(), free_port(), free_port()
    config = {
        "server": {"http_listen_address": "127.0.0.1", "http_listen_port": web,
                   "grpc_listen_address": "127.0.0.1", "grpc_listen_port": rpc, "log_level": "warn"},
        "memberlist": {"bind_addr": ["127.0.0.1"], "bind_port": free_port()},
        "distributor": {"receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{otlp}"}}}}},
        "storage": {"trace": {"backend": "local", "wal": {"path": f"{folder}/wal"},
                              "local": {"path": f"{folder}/blocks"}}},
        "usage_report": {"reporting_enabled": False},
    }  # fmt: skip
    path = folder / "tempo.yaml"
    path.write_text(yaml.safe_dump(config))
    with Supervisor(folder / "logs") as supervisor:
        ready = http_healthy(f"http://127.0.0.1:{web}/ready")
        supervisor.start(
            Spec("tempo", [binary, f"-config.file={path}"], cwd=folder, healthy=ready, start_timeout=180)
        )
        yield f"http://127.0.0.1:{web}", f"http://127.0.0.1:{otlp}/v1/traces"


def prove_tempo(binary: str, folder: Path, run: Run) -> bool:
    say(f"Tempo: {version(binary)}")
    with tempo(binary, folder) as (url, otlp):
        for message in run.messages:
            httpx.post(
                otlp, content=message, headers=PROTOBUF, trust_env=False, timeout=60
            ).raise_for_status()
        deadline, found = time.monotonic() + 120, None
        while time.monotonic() < deadline:
            try:
                began = time.perf_counter()
                found = report_from(f"tempo+{url}", Filters(since=run.since))
                took = time.perf_counter() - began
                if (
                    found.totals.requests == run.report.totals.requests
                    and not differences(found, run.report)[1]
                ):
                    break
            except Exception as error:
                say(f"  not yet: {error}")
            time.sleep(3)
        if found is None:
            say("  nothing was found within two minutes")
            return False
        compared, wrong = differences(found, run.report)
        say(f"  search and {found.totals.requests} requests' traces in {took:.1f} s")
        say(f"  {compared} figures of the report compared, {len(wrong)} differ from the span store's")
        for line in wrong[:10]:
            say(f"    {line}")
        for note in found.notes:
            say(f"  note: {note}")
        return traceql(url, run) and not wrong


def traceql(url: str, run: Run) -> bool:
    """Tempo's own TraceQL metrics, where switched on, against the store's figures."""
    first, last = run.report.window.first, run.report.window.last
    window = {"start": int(first) - 1, "end": int(last) + 2}
    well = True

    def ask(query: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"{url}/api/metrics/query", params={"q": query, **window}, trust_env=False, timeout=60
        )
        if answer.status_code != 200:
            say(f"  TraceQL metrics answer {answer.status_code}: {answer.text.strip()[:120]}")
            return []
        return list(answer.json().get("series") or [])

    counted = ask("{ kind = server } | count_over_time()")
    if counted:
        number = sum(float(series.get("value") or 0) for series in counted)
        say(f"  TraceQL count of server spans {number:.0f}, store {run.report.totals.requests}")
        well = number == run.report.totals.requests
    for series in ask("{ kind = server } | quantile_over_time(duration, .5, .95, .99)"):
        label = series["labels"][0]["value"]
        q = float(next(iter(label.values())))
        exact = {0.5: "p50", 0.95: "p95", 0.99: "p99"}[q]
        value, told = float(series.get("value") or 0), getattr(run.report.latency, exact)
        # Tempo's quantiles come from buckets by powers of two: within a factor of two of the true one.
        say(f"  TraceQL {exact} {value:.4g} s, store {told:.4g} s (its buckets are powers of two)")
        well = well and told / 2 <= value <= told * 2
    return well


def prove_prometheus(binary: str, folder: Path, run: Run) -> bool:
    from tests.analysis.test_prometheus import contained
    from tests.collector.support import collector, wait_for
    from tests.e2e.harness import start_prometheus

    say(f"Prometheus: {version(binary)}")
    port = free_port()
    exporters = {"prometheus": {"endpoint": f"127.0.0.1:{port}", "enable_open_metrics": True}}
    began, wrong = time.time(), []
    with (
        collector(folder, exporters, {"metrics": ["prometheus"]}) as made,
        Supervisor(folder / "logs") as supervisor,
    ):
        made.start()
        server = start_prometheus(supervisor, binary, folder / "prometheus", [port])
        for message in raw.messages(RUN / "metrics.otlp.gz"):
            made.post(message, "/v1/metrics").raise_for_status()
        wait_for(made.settled, "the collector has applied all metrics")
        query = "sum(http_server_request_duration_seconds_count)"
        wait_for(
            lambda: [each.value for each in server.query(query)] == [run.report.totals.requests],
            "Prometheus has scraped all of it", 60,
        )  # fmt: skip
        time.sleep(2)
        started = time.perf_counter()
        found = report_from(f"prometheus+{server.url}", Filters(since=began - 30))
        say(f"  {time.perf_counter() - started:.1f} s")
    for name, value in found.totals.__dict__.items():
        told = getattr(run.report.totals, name)
        if abs((value or 0) - (told or 0)) > 1e-9 * abs(told or 0):
            wrong.append(f"{name}: Prometheus {value!r}, store {told!r}")
    say(f"  {len(found.totals.__dict__)} totals compared (counts equal, money to 1e-9), {len(wrong)} differ")
    exact = {route.route: route for route in run.report.routes}
    single = [route for route in found.routes if route.method is not None]
    pairs: list[tuple[Quantiles, Quantiles]] = [(found.latency, run.report.latency)]
    pairs += [(route.latency, exact[route.route].latency) for route in single]
    outside = 0
    for within, true in pairs:
        try:
            contained(within, true)
        except AssertionError:
            outside += 1
    say(
        f"  {3 * len(pairs)} quantiles in their stated bucket (+- {SLACK_S * 1e3:g} ms), "
        f"but for {outside} histogram(s)"
    )
    for line in wrong:
        say(f"    {line}")
    return not wrong and not outside


def prove_files(binary: str, folder: Path, run: Run) -> bool:
    """The official collector's ``file`` exporter, in its forms."""
    say(f"official collector: {version(binary)}")
    well = True
    for name, options in (
        ("json", {}),
        ("proto", {"format": "proto"}),
        ("proto, zstd", {"format": "proto", "compression": "zstd"}),
        ("json, zstd", {"compression": "zstd"}),
    ):
        place = folder / name.replace(", ", "-")
        place.mkdir()
        port = free_port()
        config = {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
            "exporters": {"file": {"path": str(place / "traces"), **options}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
            },
        }
        (place / "config.yaml").write_text(yaml.safe_dump(config))
        with Supervisor(place / "logs") as supervisor:
            argv = [binary, f"--config={place / 'config.yaml'}"]
            supervisor.start(Spec("otelcol", argv, cwd=place, healthy=port_open(port)))
            for message in run.messages:
                url = f"http://127.0.0.1:{port}/v1/traces"
                httpx.post(url, content=message, headers=PROTOBUF, trust_env=False).raise_for_status()
            supervisor.stop("otelcol")
        compared, wrong = differences(report_from(f"file:{place / 'traces'}"), run.report)
        size = (place / "traces").stat().st_size
        say(f"  {name}: {size} bytes, {compared} figures compared, {len(wrong)} differ")
        well = well and not wrong
    return well


def version(binary: str) -> str:
    import subprocess

    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False)
    told = (done.stdout + done.stderr).strip().splitlines()
    return told[0].strip() if told and not done.returncode else Path(binary).name


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


PROOFS: tuple[tuple[str, tuple[str, ...], Callable[[str, Path, Run], bool]], ...] = (
    ("TAXIMETER_TEMPO", ("tempo",), prove_tempo),
    ("TAXIMETER_PROMETHEUS", ("prometheus",), prove_prometheus),
    ("TAXIMETER_OTELCOL", ("otelcol-contrib", "otelcol"), prove_files),
)


def main() -> int:
    well = True
    for variable, names, prove in PROOFS:
        binary = program(variable, *names)
        if binary is None:
            say(f"{' or '.join(names)}: not on PATH, and {variable} names none: not tried")
            continue
        with tempfile.TemporaryDirectory(prefix="prove-") as folder:
            well = prove(binary, Path(folder), moved_to_now(Path(folder))) and well
    say("every figure agrees within its stated bounds" if well else "NOT every figure agrees")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
