"""``make prove-fleet``: a running agent, straight to Taximeter and by way of the official collector.

The hotel chat runs under the agent; all that the agent sends goes, byte for byte, to Taximeter and to an
official collector, which forwards to another Taximeter and exposes the metrics itself. A Prometheus scrapes
each of the two expositions. Compared, all of it: the rows of the two span stores, the series that the three
expositions say, the series that the two Prometheus servers hold, and the reports.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.collector import peers
from examples.demo.stack import running_stack
from taximeter_analysis import open_store, report
from tests.collector import fleet
from tests.collector.prometheus_binary import OTHER, Prometheus, prometheus
from tests.collector.support import wait_for


class Tee:
    """An OTLP/HTTP receiver on loopback that hands each body to every collector."""

    def __init__(self, started: fleet.Fleet) -> None:
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept = {name: self.headers[name] for name in ("Content-Encoding",) if self.headers[name]}
                with lock:  # in one order for all
                    started.send(self.path.rpartition("/")[2], body, kept)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def held(server: Prometheus) -> fleet.Series:
    """Every series that a Prometheus holds now, but its own."""
    found: fleet.Series = {}
    for series in server.get("query", query='{__name__=~".+"}')["result"]:
        labels = dict(series["metric"])
        name = labels.pop("__name__")
        if name != "up" and not name.startswith("scrape_"):
            found[name, frozenset(labels.items())] = float(series["value"][1])
    return found


def reported(store: Path) -> dict[str, Any]:
    """A report as paths of its JSON, without the store's place; floats but for their last digits."""
    with open_store(store) as opened:
        data = report(opened, now=0).to_dict()
    found: dict[str, Any] = {}
    todo: list[tuple[str, Any]] = [("", data)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict):
            todo += [(f"{path}.{name}", each) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            todo += [(f"{path}[{at}]", each) for at, each in enumerate(value)]
        elif path != ".store":
            found[path] = float(f"{value:.12g}") if isinstance(value, float) else value
    return found


def main() -> int:
    """Runs it; returns the exit code: 0 nothing differs."""
    if peers.official_binary() is None:
        print(
            "no official collector: `make official-tools`, or name one in TAXIMETER_OTELCOL", file=sys.stderr
        )
        return 2
    wrong = 0

    def tell(what: str, of: int, differing: list[str]) -> None:
        nonlocal wrong
        wrong += bool(differing)
        print(
            f"{'holds' if not differing else 'differs'}  {what}: {of:,} compared, {len(differing):,} differ"
        )
        print(*(f"         {line[:300]}" for line in differing[:10]), sep="\n", end="\n" if differing else "")

    with tempfile.TemporaryDirectory(prefix="taximeter-") as folder, fleet.fleet(Path(folder)) as started:
        tee = Tee(started)
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": tee.url}
        print("the hotel chat under the agent, 20 s of guests", file=sys.stderr)
        try:
            with running_stack(scale="small", latency_scale=0.4, service_env=environment) as stack:
                guests = stack.start_guests(duration=20, rate=20, guests=40)
                if guests.popen.wait(180) != 0:
                    raise SystemExit(guests.tail())
                stack.supervisor.stop("service")  # it flushes
        finally:
            tee.close()
        started.settle()
        direct = started.series("direct")
        for name, what in (
            ("behind", "agent -> official -> Taximeter, /metrics against the direct way"),
            ("official", "agent -> official, its own /metrics against the direct way"),
        ):
            tell(what, len(direct), fleet.differences(direct, started.series(name)))
        ours, theirs = (fleet.rows(started.stores[name]) for name in ("direct", "behind"))
        for table, rows in ours.items():
            differing = [str(row) for row in set(map(str, rows)) ^ set(map(str, theirs[table]))]
            tell(f"agent -> official -> Taximeter, {table} of the span store", len(rows), differing)
        first, second = (reported(started.stores[name]) for name in ("direct", "behind"))
        tell(
            "figures of the two stores' reports",
            len(first),
            [
                f"{key}: {first.get(key)} and {second.get(key)}"
                for key in first.keys() | second.keys()
                if first.get(key) != second.get(key)
            ],
        )
        for binary, version in (("", "2.42"), (os.environ.get(OTHER), "3")):
            if binary is None:
                print(f"not run  Prometheus {version}: none in {OTHER}")
                continue
            sides = []
            for name in ("direct", "official"):
                target = f"127.0.0.1:{started.expositions[name]}"
                with prometheus(Path(folder) / f"{name}-{version}", target, binary=binary) as server:
                    wait_for(lambda server=server: len(held(server)) >= len(direct), "scraped", 60)  # type: ignore[misc]
                    sides.append(held(server))
            what = f"agent -> official -> Prometheus {version}, against agent -> Taximeter -> Prometheus"
            tell(what, len(sides[0]), fleet.differences(*sides))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
