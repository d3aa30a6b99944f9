"""An existing fleet: what an agent sends, straight to Taximeter and by way of an official collector.

Both ways end in a span store and an exposition of ours; the official collector also exposes the metrics
itself, for the Prometheus that a fleet has already. All of them must say the same.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from benchmarks.collector import peers
from examples.demo.figures import Sample, parse_exposition
from taximeter_analysis.store import open_store
from taximeter_collector.store.schema import REQUESTS, SPANS
from tests.analysis.recording import RUN
from tests.collector.support import Collector, collector, free_port, span_store, wait_for

_OPEN = {"accept": "application/openmetrics-text;version=1.0.0"}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Fleet:
    """Three collectors: ``direct``, and ``behind`` the official one."""

    direct: Collector
    behind: Collector
    official: int  # its OTLP/HTTP port
    expositions: dict[str, int]  # whose -> port
    stores: dict[str, Path]

    def send(self, signal: str, body: bytes, more: Mapping[str, str] = MappingProxyType({})) -> None:
        """The same bytes both ways, as an agent sends them."""
        headers = {"content-type": "application/x-protobuf", **more}
        for port in (self.direct.ports["http"], self.official):
            httpx.post(
                f"http://127.0.0.1:{port}/v1/{signal}", content=body, headers=headers, timeout=30
            ).raise_for_status()

    def settle(self) -> None:
        """Wait until all that was sent has come through."""
        wait_for(self.direct.settled, "the direct way is through", 60)
        for name in ("spans", "metric_points"):
            counter = f"otelcol_receiver_accepted_{name}"
            sent = self.direct.own(counter)
            wait_for(
                lambda counter=counter, sent=sent: self.behind.own(counter) == sent,  # type: ignore[misc]
                f"the official collector has forwarded {sent} {name}",
                60,
            )
        wait_for(self.behind.settled, "the official way is through", 60)

    def series(self, whose: str) -> Series:
        """Everything that one of the three expositions says."""
        text = httpx.get(
            f"http://127.0.0.1:{self.expositions[whose]}/metrics", headers=_OPEN, timeout=30
        ).text
        return {_key(sample): sample.value for sample in parse_exposition(text)}


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(
        (name, value) for name, value in sample.labels.items() if value
    )  # "" is none


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Start the three; stopped at the end."""
    places = {name: folder / name for name in ("direct", "behind", "official")}
    expositions = {name: free_port() for name in places}
    shown: dict[str, dict[str, Any]] = {
        name: {"endpoint": f"127.0.0.1:{port}", "enable_open_metrics": True, "metric_expiration": "30m"}
        for name, port in expositions.items()
    }
    with ExitStack() as stack:
        made = {}
        for name in ("direct", "behind"):
            places[name].mkdir(parents=True)
            exporters = {"span_store": span_store(places[name]), "prometheus": shown[name]}
            pipelines = {"traces": ["span_store"], "metrics": ["prometheus"]}
            made[name] = stack.enter_context(collector(places[name], exporters, pipelines)).start()
        inbound, health = free_port(), free_port()
        behind = {"endpoint": f"http://127.0.0.1:{made['behind'].ports['http']}"}
        config = {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{inbound}"}}}},
            "processors": {"batch": {}},
            "exporters": {"otlp_http": behind, "prometheus": shown["official"]},
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
            "service": {
                "extensions": ["health_check"],
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlp_http"]},
                    "metrics": {
                        "receivers": ["otlp"],
                        "processors": ["batch"],
                        "exporters": ["otlp_http", "prometheus"],
                    },
                },
            },
        }
        stack.enter_context(peers.running(peers.OFFICIAL, places["official"], config, health, core=None))
        stores = {name: places[name] / "store" for name in made}
        yield Fleet(made["direct"], made["behind"], inbound, expositions, stores)


def recorded() -> Iterator[tuple[str, bytes]]:
    """What the agent of the recorded run sent, in the order it sent each signal."""
    for signal in ("traces", "metrics"):
        data = gzip.decompress((RUN / f"{signal}.otlp.gz").read_bytes())
        at = 0
        while at < len(data):  # each message after its length
            end = at + 4 + int.from_bytes(data[at : at + 4])
            yield signal, data[at + 4 : end]
            at = end


def rows(store: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a store, in an order of their own."""
    with open_store(store) as opened:
        return {
            table: opened.rows(f"SELECT {', '.join(schema.names)} FROM {table} ORDER BY ALL")
            for table, schema in (("spans", SPANS), ("requests", REQUESTS))
        }


def differences(ours: Series, theirs: Series) -> list[str]:
    """Series of which only one side knows, or that have another value; readable, sorted."""
    found = []
    for name, labels in sorted(ours.keys() | theirs.keys(), key=str):
        sides = ours.get((name, labels)), theirs.get((name, labels))
        if sides[0] != sides[1]:
            shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels))
            found.append(f"{name}{{{shown}}}: {sides[0]} and {sides[1]}")
    return found
