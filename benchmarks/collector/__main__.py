"""``make bench-collector``: what a span costs, ours (log on disk) and the official one (queue in memory).

Each run starts a collector on core 0 with the same file, ours synced as shipped; the sender and the sink
share core 1. Runs take turns (ours, official, ours, ...), so that a busy machine slows both. Counted is the
CPU time of the collector's process, user and system, from ready to the last span delivered; peak memory is
the kernel's VmHWM.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.collector import load
from benchmarks.collector.peers import OFFICIAL, OURS, Peer, official_binary, running
from benchmarks.collector.report import write
from benchmarks.collector.traffic import requests
from tests.collector.support import free_port

POLICIES = [
    {"name": "failed", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    {"name": "slow", "type": "latency", "latency": {"threshold_ms": 300}},
    {
        "name": "hotel",
        "type": "string_attribute",
        "string_attribute": {"key": "tenant", "values": ["hotel-7"]},
    },
    {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": 5}},
]


@dataclass(frozen=True)
class Scenario:
    """One line of the table."""

    name: str
    protocol: str  # in and out
    compression: str  # out
    spans: int  # a request
    requests: int
    sampling: bool = False
    target: float = 0.0  # at least so many times the official collector's spans per CPU-second
    memory_target: float = 0.0  # at most this share of its memory


SCENARIOS = [
    Scenario("HTTP, gzip out (the default)", "http", "gzip", 512, 1600, target=4),
    Scenario("HTTP, uncompressed out", "http", "none", 512, 1600, target=4),
    Scenario("gRPC, gzip out (the default)", "grpc", "gzip", 512, 1600, target=1.5),
    Scenario("gRPC, uncompressed out", "grpc", "none", 512, 1600, target=1.5),
    Scenario("HTTP, 32 spans a request", "http", "gzip", 32, 8000),
    Scenario(
        "tail sampling, four policies", "http", "gzip", 512, 1000, sampling=True, target=2, memory_target=0.25
    ),
]


@dataclass(frozen=True)
class Run:
    """What one run of one collector cost."""

    cpu_s: float
    seconds: float
    peak_mib: float
    spans: int  # sent
    delivered: int
    exports: int  # requests the sink was sent
    refused: int  # requests, before they were taken
    traces: frozenset[bytes] | None = None

    @property
    def per_cpu_s(self) -> float:
        return self.spans / self.cpu_s


def config(scenario: Scenario, ports: dict[str, int]) -> dict[str, Any]:
    """The file for both. The limits are wide enough that neither refuses for memory."""
    kind = f"otlp_{scenario.protocol}"
    address = f"127.0.0.1:{ports['sink']}"
    exporter: dict[str, Any] = {
        "endpoint": address if scenario.protocol == "grpc" else f"http://{address}",
        "compression": scenario.compression,
        "tls": {"insecure": True},
    }
    processors: dict[str, Any] = {
        "memory_limiter": {"check_interval": "1s", "limit_mib": 8000},
        "batch": {},
    }
    if scenario.sampling:
        processors["tail_sampling"] = {"decision_wait": "8s", "num_traces": 200_000, "policies": POLICIES}
    order = [name for name in ("memory_limiter", "tail_sampling", "batch") if name in processors]
    own = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": ports["own"]}}}}
    inbound: dict[str, Any] = {"grpc": {"max_recv_msg_size_mib": 16}, "http": {}}[scenario.protocol]
    inbound["endpoint"] = f"127.0.0.1:{ports['in']}"
    return {
        "receivers": {"otlp": {"protocols": {scenario.protocol: inbound}}},
        "processors": processors,
        "exporters": {kind: exporter},
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{ports['health']}"}},
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"metrics": {"readers": [own]}, "logs": {"level": "warn"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "processors": order, "exporters": [kind]}},
        },
    }


async def drive(peer: Peer, scenario: Scenario, ports: dict[str, int], start: int) -> Run:
    """Send everything, wait until the sink has it (or nothing more comes), and read the meters."""
    sink, sent = load.Sink(by_trace=scenario.sampling), load.Sent()
    http = scenario.protocol == "http"
    server: Any = await (load.serve_http if http else load.serve_grpc)(sink, ports["sink"])
    send = load.send_http if http else load.send_grpc
    total = scenario.spans * scenario.requests
    peer.forget_peak()
    cpu, begun = peer.cpu_s(), time.monotonic()
    await send(requests(scenario.spans, scenario.requests, start), ports["in"], 8, sent)
    last, since = -1, time.monotonic()
    patience = 15.0 if scenario.sampling else 8.0
    while sink.spans < total and time.monotonic() - since < patience:
        if sink.spans != last:
            last, since = sink.spans, time.monotonic()
        await asyncio.sleep(0.05)
    spent = peer.cpu_s() - cpu
    seconds = time.monotonic() - begun
    peak = peer.peak_mib()
    if http:
        server.close()
    else:
        await server.stop(0)
    traces = None if sink.traces is None else frozenset(sink.traces)
    return Run(spent, seconds, peak, total, sink.spans, sink.requests, sent.refused, traces)


def run(name: str, scenario: Scenario, folder: Path, start: int, profile: str) -> Run:
    ports = {key: free_port() for key in ("in", "sink", "health", "own")}
    with running(name, folder, config(scenario, ports), ports["health"]) as peer:
        if not profile:
            return asyncio.run(drive(peer, scenario, ports, start))
        pid = str(peer.process.pid)
        if profile.endswith(".txt"):
            record = [
                "py-spy",
                "record",
                "-d",
                "600",
                "-r",
                "400",
                "--gil",
                "-f",
                "raw",
                "-o",
                profile,
                "-p",
                pid,
            ]
        else:
            record = ["perf", "record", "-q", "-F", "499", "-g", "-o", profile, "-p", pid]
        with subprocess.Popen(record, stdout=subprocess.DEVNULL) as recorder:
            try:
                return asyncio.run(drive(peer, scenario, ports, start))
            finally:
                recorder.send_signal(signal.SIGINT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-collector", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--ours", action="store_true", help="Taximeter alone, nothing written")
    parser.add_argument("--official", action="store_true", help="the official one alone, nothing written")
    parser.add_argument("--share", type=float, default=1.0, help="of the requests")
    parser.add_argument("--profile", default="", help="a file for `perf record` of the collector")
    args = parser.parse_args()
    peers = [OURS] if args.ours else [OFFICIAL] if args.official else [OURS, OFFICIAL]
    if OFFICIAL in peers and official_binary() is None:
        print("no official collector: `make official-tools` builds it, or set TAXIMETER_OTELCOL")
        return 2
    os.sched_setaffinity(0, {1})
    results: dict[tuple[str, str], list[Run]] = {}
    scenarios = [s for s in SCENARIOS if args.only in s.name]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-collector-") as temp:
        for turn in range(args.rounds):
            for scenario in scenarios:
                sized = Scenario(
                    **{**scenario.__dict__, "requests": max(8, int(scenario.requests * args.share))}
                )
                for name in peers:
                    folder = Path(temp) / f"{turn}-{scenarios.index(scenario)}-{peers.index(name)}"
                    done = run(name, sized, folder, turn << 32, args.profile)
                    results.setdefault((scenario.name, name), []).append(done)
                    print(
                        f"{time.monotonic() - begun:5.0f} s  {scenario.name:30s} {name:15s} "
                        f"{done.per_cpu_s:9,.0f} spans/CPU-s  {done.cpu_s / done.spans * 1e6:5.2f} CPU-s/M  "
                        f"{done.peak_mib:6.0f} MiB  {done.seconds:4.1f} s  "
                        f"delivered {done.delivered:,} of {done.spans:,} in {done.exports} requests"
                        + (f"  refused {done.refused}" if done.refused else ""),
                        flush=True,
                    )
    if args.ours or args.official or args.only or args.share != 1.0:
        return 0
    write(scenarios, results, Path("/proc/loadavg").read_text().rpartition(" ")[0].rsplit(" ", 1)[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
