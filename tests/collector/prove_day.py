"""``make prove-day``: a day of traffic in eight minutes, with the collector's own clock as fast.

The collector runs under libfaketime (Debian: ``faketime``), so that its flushes, waits, compactions and
retention happen as often as in a whole day, as shipped. Two equal waves of traffic, a restart of a service
every six hours, and two outages of a backend. Watched: the memory of the process, the bytes of log and store,
the number of their files, and how far the cursors are behind.

Holds when the second wave needs no more memory and no more files than the first, the log stays within its
bound, the store within its retention, and at the end every cursor is at the end and each span accounted for.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from rich.console import Console
from rich.table import Table

from benchmarks.collector import traffic
from taximeter_analysis.store import Check, open_store
from tests.collector.support import Collector, collector, free_port, wait_for

HOUR = 3600.0
DAY = 24 * HOUR
SPANS = 64  # a request
LOG_MIB = 64
KEPT_HOURS = 6
OUTAGES = ((8.0, 8.5), (20.0, 20.5))  # hours
_SLACK = 1.10
_CONTENT = {"content-type": "application/x-protobuf"}


class Backend:
    """Counts the spans that arrive; answers 503 during its outages."""

    def __init__(self) -> None:
        self.spans = 0
        self.down = False
        self.refused = 0
        backend, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    if backend.down:
                        backend.refused += 1
                    else:
                        backend.spans += _count(body)
                self.send_response(503 if backend.down else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _count(body: bytes) -> int:
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


@dataclass(frozen=True)
class Look:
    """What was seen at one moment. Sizes in MiB."""

    hour: float
    sent: int
    memory: float
    log: float
    store: float
    files: int
    behind: float


class Fast(Collector):
    """A collector whose clock runs ``pace`` times as fast."""

    pace = 1

    def start(self, *, wait: bool = True) -> Fast:
        path = self.folder / "collector.yaml"
        path.write_text(yaml.safe_dump(self.config))
        words = [sys.executable, "-m", "tests.collector.fast_clock", "run", "--config", str(path)]
        with (self.folder / "collector.log").open("ab") as output:
            argv = ["faketime", "-f", f"+0 x{self.pace}", *words]
            self.process = subprocess.Popen(
                argv, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        if wait:
            wait_for(self.healthy, "the collector is ready", 180)
        return self

    @property
    def pid(self) -> int:
        """The collector's: ``faketime`` is its parent, which waits for it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def end(self) -> int:
        """SIGTERM, and what the process answers."""
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(60)

    def memory(self) -> float:
        """Resident memory of the process, without the helpers it starts to compact."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


@contextmanager
def running(folder: Path, pace: int, backend: Backend, kept: Backend) -> Iterator[Fast]:
    """The collector with all its parts, on the clock of ``pace``."""

    def forwarding(port: int) -> dict[str, Any]:
        return {
            "endpoint": f"http://127.0.0.1:{port}",
            "compression": "none",
            "timeout": "1h",  # of the fast clock: the backend's is the ordinary one
            "retry_on_failure": {"max_elapsed_time": "0s"},
        }

    exporters = {
        "span_store": {"directory": str(folder / "store"), "retention": {"max_age": f"{KEPT_HOURS}h"}},
        "otlp_http": forwarding(backend.port),
        "otlp_http/kept": forwarding(kept.port),
        "prometheus": {"endpoint": f"127.0.0.1:{free_port()}"},
    }
    pipelines = {"traces": ["span_store", "otlp_http"], "metrics": ["prometheus"]}
    storage = {"max_size_mib": LOG_MIB}
    with collector(folder, exporters, pipelines, storage=storage) as plain:
        policies = [
            {"name": "slow", "type": "latency", "latency": {"threshold_ms": 300}},
            {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": 10}},
        ]
        plain.config["processors"] = {"tail_sampling": {"policies": policies}}
        plain.config["service"]["pipelines"]["traces/kept"] = {
            "receivers": ["otlp"], "processors": ["tail_sampling"], "exporters": ["otlp_http/kept"],
        }  # fmt: skip
        made = Fast(plain.folder, plain.config, plain.ports)
        made.pace = pace
        try:
            yield made.start()
        finally:
            if made.process is not None and made.process.poll() is None:
                os.killpg(made.process.pid, signal.SIGKILL)
                made.process.wait()


def wave(hour: float) -> float:
    """How busy it is, of 1: two equal waves a day, least at 0, 12 and 24 o'clock."""
    return 0.1 + 0.9 * math.sin(math.pi * hour / 12) ** 2


def metrics(hour: float, now_ns: int, total: int) -> bytes:
    """What a service exports every minute; it begins anew every six hours."""
    life = int(hour // 6)
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    for key, value in (("service.name", "hotel-chat"), ("service.instance.id", f"life-{life}")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_metrics.add()
    scope.scope.name = "taximeter"
    for name in ("taximeter.request.db.calls", "taximeter.request.model.calls", "taximeter.cost_usd"):
        metric = scope.metrics.add(name=name)
        metric.sum.aggregation_temporality, metric.sum.is_monotonic = 2, True  # type: ignore[assignment]
        for route in range(74):
            point = metric.sum.data_points.add(time_unix_nano=now_ns, as_double=float(total + route))
            point.attributes.add(key="http.route").value.string_value = f"/api/route-{route}"
    return bytes(request.SerializeToString())


def size(folder: Path) -> tuple[float, int]:
    """MiB and number of the files below."""
    total = number = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total, number = total + path.stat().st_size, number + 1
        except OSError:
            continue  # gone meanwhile
    return total / 2**20, number


def live(made: Fast, backend: Backend, peak: float, folder: Path) -> tuple[list[Look], int]:
    """The day: what was seen, and the spans sent. ``peak``: spans a second of ours, at the busiest."""
    pool = traffic.requests(SPANS, 10**9)
    client = httpx.Client(trust_env=False, timeout=60)

    def post(url: str, body: bytes) -> None:
        """Again where a connection was closed meanwhile: idle for a minute of the collector's is soon."""
        for _ in range(20):
            with contextlib.suppress(httpx.TransportError):
                answer = client.post(url, content=body, headers=_CONTENT)
                if answer.status_code == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{url}: not accepted in 20 tries")

    began, first_ns = time.monotonic(), time.time_ns()
    looks: list[Look] = []
    sent = 0
    owed = 0.0
    last = minute = look = 0.0
    while (past := (time.monotonic() - began) * made.pace) < DAY:
        hour = past / HOUR
        backend.down = any(start <= hour < end for start, end in OUTAGES)
        owed += (past - last) / made.pace * peak * wave(hour)
        last = past
        while owed >= SPANS:
            post(made.url(), next(pool))
            sent, owed = sent + SPANS, owed - SPANS
        if past >= minute:
            minute = past + 60
            body = metrics(hour, first_ns + int(past * 1e9), sent)
            post(made.url("/v1/metrics"), body)
        if past >= look:
            look = past + 180
            looks.append(_look(made, folder, hour, sent))
            if len(looks) % 40 == 1:
                print(f"  {hour:4.1f} h, {sent:,} spans", file=sys.stderr)
        time.sleep(0.02)
    return looks, sent


def _look(made: Fast, folder: Path, hour: float, sent: int) -> Look:
    store, files = size(folder / "store")
    log, more = size(folder / "data")
    return Look(hour, sent, made.memory(), log, store, files + more, own(made, "otelcol_exporter_queue_size"))


def own(made: Fast, name: str) -> float:
    """One of the collector's own metrics; asked again where the connection was closed, as above."""
    return wait_for(lambda: (made.own(name),), name, 10)[0]


def show(looks: list[Look]) -> None:
    """A line an hour: the most of each figure within it."""
    table = Table(title="a day, the most within each two hours", title_justify="left", box=None)
    for name in ("hours", "spans so far", "memory MiB", "log MiB", "store MiB", "files", "requests behind"):
        table.add_column(name, justify="right")
    for start in range(0, 24, 2):
        part = [look for look in looks if start <= look.hour < start + 2]
        if part:
            most = [
                max(getattr(look, name) for look in part)
                for name in ("memory", "log", "store", "files", "behind")
            ]
            figures = (
                f"{most[0]:.1f}",
                f"{most[1]:.1f}",
                f"{most[2]:.1f}",
                f"{most[3]:,}",
                f"{most[4]:,.0f}",
            )
            table.add_row(f"{start}-{start + 2}", f"{part[-1].sent:,}", *figures)
    Console(width=110).print(table)


def main() -> int:
    """Runs it; returns the exit code: 0 all hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pace", type=int, default=180, help="how many times as fast (default: %(default)s)")
    parser.add_argument(
        "--peak", type=float, default=4000, help="spans a second, ours (default: %(default)s)"
    )
    args = parser.parse_args()
    if shutil.which("faketime") is None:
        print("no `faketime` on PATH (Debian: apt-get install faketime)", file=sys.stderr)
        return 2
    backend, kept = Backend(), Backend()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="taximeter-") as name,
            running(Path(name), args.pace, backend, kept) as made,
        ):
            folder = Path(name)
            looks, sent = live(made, backend, args.peak, folder)
            backend.down = False
            wait_for(made.settled, "every cursor is at the end", 120)
            letters = own(made, "taximeter_collector_dead_letters")
            accepted = own(made, "otelcol_receiver_accepted_spans")
            code = made.end()
            with open_store(folder / "store") as store:
                stored = store.check()
    finally:
        backend.close()
        kept.close()
    show(looks)
    return judge(looks, sent, accepted, backend, kept, letters, code, stored)


def judge(  # noqa: PLR0917  (what the day came to, each once)
    looks: list[Look],
    sent: int,
    accepted: float,
    backend: Backend,
    kept: Backend,
    letters: float,
    code: int,
    stored: Check,
) -> int:
    """Prints what holds; returns 1 when something does not."""

    def most(name: str, start: float, end: float) -> float:
        return float(max(getattr(look, name) for look in looks if start <= look.hour < end))

    def last_hours(hours: float) -> int:
        return sent - next((look.sent for look in looks if look.hour >= 24 - hours), 0)

    pairs = [(name, most(name, 6, 12), most(name, 18, 24)) for name in ("memory", "store", "files")]
    checks = [
        (
            f"the second wave needs no more {name} than the first: {one:,.1f}, then {two:,.1f}",
            two <= one * _SLACK,
        )
        for name, one, two in pairs
    ]
    log = most("log", 0, 24)
    least, most_rows = last_hours(KEPT_HOURS), last_hours(KEPT_HOURS * 1.25 + 0.5)
    rows, doubled = stored.spans, stored.duplicate_spans
    checks += [
        (f"the log stays within {LOG_MIB} MiB a signal: {log:.1f} MiB", log <= LOG_MIB * 1.1 + 8),
        (
            f"the store holds the last {KEPT_HOURS} hours: {rows:,} spans, {least:,} to {most_rows:,} wanted",
            least * 0.98 <= rows <= most_rows,
        ),
        (f"nothing is stored twice: {doubled}", doubled == 0),
        (f"accepted is what was sent: {accepted:,.0f} of {sent:,}", accepted == sent),
        (f"forwarded is what was sent, through two outages ({backend.refused} refusals): {backend.spans:,}",
         backend.spans == sent),
        (f"tail sampling has decided all: {kept.spans:,} spans kept", 0 < kept.spans < sent),
        (f"no dead letters: {letters:.0f}", letters == 0),
        (f"ended when told to: exit code {code}", code in (0, 143)),
    ]  # fmt: skip
    print()
    for text, good in checks:
        print(f"{'holds' if good else 'does not hold'}: {text}")
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
