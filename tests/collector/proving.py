"""What the long proofs share: a collector (ours or the official one), a patient sender, the truth."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import grpc
import httpx
import yaml

from benchmarks.collector.peers import official_binary
from tests.collector.support import (
    Collector,
    Config,
    GrpcBackend,
    HttpBackend,
    backend_exporter,
    collector,
    span_store,
    trace_request,
    wait_for,
)

OURS, DEFAULTS, STORAGE = "Taximeter", "official, defaults", "official, file_storage"
SPANS = 5  # a request


def money(number: int) -> float:
    """What span ``number`` cost; sums of these are exact."""
    return (number % 64) / 64


def request(first: int, count: int = SPANS, pad: int = 0) -> bytes:
    """A request of spans, each with its own price (and so many bytes more)."""
    parts = []
    for number in range(first, first + count):
        attributes: dict[str, str | int | float | bool] = {"gen_ai.usage.cost.amount": money(number)}
        if pad:
            attributes["pad"] = random.randbytes(pad // 2).hex()  # packs to half, no further
        parts.append(trace_request(number, 1, **attributes))
    return b"".join(parts)


def spans_of(message: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Resource, scope and span of a decoded request."""
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield resource, scope, span


class Official(Collector):
    """The official collector under the same roof."""

    def start(self, *, wait: bool = True) -> Official:
        binary = official_binary()
        assert binary is not None
        path = self.folder / "collector.yaml"
        path.write_text(yaml.safe_dump(self.config))
        with (self.folder / "collector.log").open("ab") as output:
            self.process = subprocess.Popen(
                [binary, "--config", str(path)], stdout=output, stderr=subprocess.STDOUT
            )
        if wait:
            wait_for(self.healthy, "the official collector is ready", 180)
        return self


@contextmanager
def subject(kind: str, folder: Path, exporter: Config, **options: Any) -> Iterator[Collector]:
    """A collector that forwards to a backend (ours also into a store); not yet started, killed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    store = {"span_store": span_store(folder)} if kind == OURS else {}
    exporters = {"otlp": exporter, **store}
    data = options.pop("data", None)
    with collector(folder, exporters, {"traces": list(exporters)}, **options) as ours:
        if data:
            ours.config["extensions"]["file_storage"]["directory"] = str(data)
        if kind == OURS:
            yield ours
            return
        config = ours.config
        if kind == DEFAULTS:
            del config["extensions"]["file_storage"]
            config["service"]["extensions"].remove("file_storage")
        else:
            config["extensions"]["file_storage"] = {
                "directory": str(folder / "queue"),
                "create_directory": True,
            }
            exporter.setdefault("sending_queue", {})["storage"] = "file_storage"
        official = Official(folder, config, ours.ports)
        try:
            yield official
        finally:
            if official.process is not None and official.process.poll() is None:
                official.kill()


@dataclass
class Sender:
    """As SDKs send, with more patience: each request until it is acknowledged or refused for good."""

    made: Collector
    acknowledged: set[int] = field(default_factory=set)
    refused: int = 0  # answers that asked for a retry, and failures to connect
    permanent: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    pause_s: float = 0.0
    make: Callable[[int], bytes] = request

    def begin(self, senders: int = 3, requests: int | None = None, first: int = 0) -> None:
        """``requests`` for each sender; None: until told to stop."""
        for worker in range(senders):
            thread = threading.Thread(target=self._work, args=(first + worker * 1_000_000, requests))
            self.threads.append(thread)
            thread.start()

    def end(self) -> None:
        self.stop.set()
        self.join()

    def join(self) -> None:
        for thread in self.threads:
            thread.join()
        self.threads.clear()

    def _work(self, number: int, requests: int | None) -> None:
        done = 0
        with httpx.Client(headers={"content-type": "application/x-protobuf"}, timeout=120) as client:
            while not self.stop.is_set() and (requests is None or done < requests):
                body = self.make(number)
                while True:
                    try:
                        status = client.post(self.made.url(), content=body).status_code
                    except httpx.TransportError:
                        status = 0
                    if status == 200:
                        self.acknowledged.update(range(number, number + SPANS))
                        break
                    if 400 <= status < 500 and status != 429:
                        self.permanent += 1
                        break
                    self.refused += 1
                    time.sleep(0.05)
                    if self.stop.is_set() and status == 0:
                        return  # nobody listens any more: this request was never acknowledged
                number += SPANS
                done += 1
                if self.pause_s:
                    time.sleep(self.pause_s)


@dataclass
class Outcome:
    """One row of the table; spans except where said."""

    acknowledged: int
    delivered: int
    duplicated: int
    refused: int  # answers to retry later, in requests
    dead: int
    lost: int
    counted: str  # whether count and money of what was stored equal the truth
    note: str = ""
    expected_loss: int = 0


def wait_delivered(
    made: Collector, backend: GrpcBackend | HttpBackend, kind: str, seconds: float = 400
) -> None:
    """Until everything acknowledged is passed on, or (the official one does not say) nothing more comes."""
    if kind == OURS:
        wait_for(made.settled, "everything is delivered", seconds)
        return
    deadline, last, since = time.monotonic() + seconds, -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < 8:
        now = len(backend.received.requests)
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.2)


def judge(
    kind: str,
    sender: Sender,
    backend: GrpcBackend | HttpBackend,
    folder: Path,
    *,
    dead: set[int] | None = None,
    damaged: int | None = None,
    note: str = "",
) -> Outcome:
    """Hold what the backend and the store have against what was acknowledged."""
    names = Counter(backend.received.span_names())
    numbers = {int(name.removeprefix("span-")) for name in names}
    dead = dead or set()
    lost = len(sender.acknowledged - numbers - dead)
    if kind == OURS and damaged is None:
        found = duckdb.sql(f"SELECT name, cost_usd FROM '{folder}/store/spans/*.parquet'")
        rows = found.fetchall() if found is not None else []
        truth = sender.acknowledged | dead
        extra = {int(n.removeprefix("span-")) for n, _ in rows} - truth
        equal = len(rows) - len(extra) == len(truth) and sum(c for _, c in rows) == sum(
            money(n) for n in truth | extra
        )
        counted = "equal" if equal else f"{len(rows)} spans for {len(truth)}"
    elif kind == OURS:
        counted = "equal" if lost == damaged else f"says {damaged} damaged"
    else:
        total, cash = sum(names.values()), sum(money(int(n[5:])) * c for n, c in names.items())
        truth_cash = sum(money(n) for n in sender.acknowledged)
        equal = total == len(sender.acknowledged) and cash == truth_cash
        counted = (
            "equal" if equal else f"{total} spans for {len(sender.acknowledged)}, ${cash - truth_cash:+.2f}"
        )
    return Outcome(
        len(sender.acknowledged), len(numbers & sender.acknowledged), sum(names.values()) - len(names),
        sender.refused, len(dead), lost, counted, note, damaged or 0,
    )  # fmt: skip


def forwarding(port: int, **values: Any) -> Config:
    return backend_exporter(port, **values)


def any_code(*codes: grpc.StatusCode, times: int) -> Any:
    """An ``answer`` that gives each code ``times`` times, then takes everything."""
    left = [code for code in codes for _ in range(times)]
    lock = threading.Lock()

    def answer(_: Any) -> grpc.StatusCode | None:
        with lock:
            return left.pop() if left else None

    return answer
