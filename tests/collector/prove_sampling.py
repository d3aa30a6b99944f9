"""`make prove-sampling`: the same 20,000 traces through the official collector's tail_sampling and ours.

One official collector, a pipeline for each policy, all fed by one receiver; each has a sink of its own.
Beside the two stands the independent implementation of the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.collector import load, peers
from tests.collector.support import free_port
from tests.collector.test_tail_sampling import ORACLE, POLICIES, kept_by, sampler, traffic, whole

_OURS_ALONE = {"expensive", "n_plus_one"}
NAMES = [name for name, policy in POLICIES.items() if policy["type"] not in _OURS_ALONE]
WAIT_S = 20


def configuration(inbound: int, health: int, sinks: dict[str, int]) -> dict[str, Any]:
    """A pipeline a policy."""
    config: dict[str, Any] = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{inbound}"}}}},
        "processors": {},
        "exporters": {},
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            "pipelines": {},
        },
    }
    for number, name in enumerate(NAMES):
        config["processors"][f"tail_sampling/{number}"] = {
            "decision_wait": f"{WAIT_S}s",
            "num_traces": 200_000,
            "policies": [{"name": name, **POLICIES[name]}],
        }
        config["exporters"][f"otlphttp/{number}"] = {
            "traces_endpoint": f"http://127.0.0.1:{sinks[name]}/v1/traces",
            "sending_queue": {"queue_size": 1_000_000},
        }
        config["service"]["pipelines"][f"traces/{number}"] = {
            "receivers": ["otlp"],
            "processors": [f"tail_sampling/{number}"],
            "exporters": [f"otlphttp/{number}"],
        }
    return config


async def official(bodies: list[bytes]) -> dict[str, set[bytes]]:
    """The traces that the official collector kept, by policy."""
    sinks = {name: load.Sink(by_trace=True) for name in NAMES}
    ports = {name: free_port() for name in NAMES}
    servers = [await load.serve_http(sinks[name], ports[name]) for name in NAMES]
    inbound, health = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory(prefix="taximeter-") as folder,
        peers.running(peers.OFFICIAL, Path(folder), configuration(inbound, health, ports), health, core=None),
    ):
        await load.send_http(iter(bodies), inbound, 1, load.Sent())  # one sender: the order counts
        last, quiet_since = -1, time.monotonic()
        while time.monotonic() - quiet_since < WAIT_S + 15:
            arrived = sum(sink.spans for sink in sinks.values())
            if arrived != last:
                last, quiet_since = arrived, time.monotonic()
            await asyncio.sleep(0.2)
    for server in servers:
        server.close()
    return {name: set(sink.traces or ()) for name, sink in sinks.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--traces", type=int, default=20_000, help="how many traces (default: %(default)s)")
    traces = parser.parse_args().traces
    if peers.official_binary() is None:
        print(
            "no official collector: `make official-tools` builds one; name it in TAXIMETER_OTELCOL",
            file=sys.stderr,
        )
        return 2
    rows = traffic(traces)
    held = whole(rows)
    theirs = asyncio.run(official([row.payload for row in rows]))
    table = Table(title=f"{len(held):,} traces, kept by policy", title_justify="left", box=None)
    for title in ("policy", "Taximeter", "official", "independent", "only ours", "only theirs"):
        table.add_column(title, justify="left" if title == "policy" else "right")
    differing = 0
    for name in NAMES:
        ours = kept_by(sampler(name), rows)
        expected = {trace_id for trace_id, trace in held.items() if ORACLE[name](trace_id, trace)}
        differing += ours != theirs[name] or ours != expected
        only_ours, only_theirs = len(ours - theirs[name]), len(theirs[name] - ours)
        figures = (len(ours), len(theirs[name]), len(expected), only_ours, only_theirs)
        table.add_row(name, *(f"{figure:,}" for figure in figures))
    Console(width=110).print(table)
    print(f"\n{differing} policies differ." if differing else "\nHolds: every policy keeps the same set.")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
