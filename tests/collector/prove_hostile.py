"""``make prove-hostile``: what a stranger can send, in process and over sockets, and what it costs.

Every request must be answered 2xx (what is left of it is valid OTLP) or refused for good (4xx), and counted;
nothing may crash, hang, grow, or harm the good requests sent between. Of spans with wrong ids, or an end
before the start, exactly these must be rejected: the whole request, or by partial success the good ones kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import platform
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import grpc
import httpx
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter_collector.config.sampling import policies as read_policies
from taximeter_collector.log import Row
from taximeter_collector.memory import resident_bytes
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.process.policies import build
from taximeter_collector.process.tail_sampling import Sampler
from taximeter_collector.receive.http import otlp_http
from taximeter_collector.receive.intake import Intake
from taximeter_collector.signals import SIGNALS
from tests.collector.hostile import PATHS, Hostile, Shot, good
from tests.collector.support import Collector, collector, free_port, span_store, wait_for

_POLICIES = [
    {"name": "failed", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    {"name": "text", "type": "string_attribute", "string_attribute": {"key": "k", "values": ["a"]}},
    {"name": "loop", "type": "n_plus_one", "n_plus_one": {"min_calls": 4}},
    {"name": "dear", "type": "expensive", "expensive": {"min_usd": 0.1}},
]
_PROTOBUF = {"content-type": "application/x-protobuf"}
_JSON = {"content-type": "application/json"}
Table = dict[str, Counter[str]]


class Swallow:
    """A log that keeps nothing but passes traces to a sampler, as the real one's cursor would."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._seq = 0
        self._sampler = Sampler(
            build(read_policies(_POLICIES, "policies")),
            wait_s=1, wait_after_root_s=0, max_traces=1000, remembered=(1000, 1000),
        )  # fmt: skip

    async def append(self, payload: bytes, items: int, source: str) -> bool:
        self._seq += 1
        if self._signal == "traces":
            for _ in self._sampler.take(Row(self._seq, self._seq * 10**6, items, payload)):
                pass
        return True


async def in_process(count: int, seed: int, table: Table) -> list[str]:
    """``count`` shots at the receiver's application, in this process; returns what went wrong."""
    own = OwnMetrics()
    logs: Any = {name: Swallow(name) for name in SIGNALS}
    intake = Intake("otlp", logs, own, {})
    app = otlp_http(intake, dict(zip(PATHS, SIGNALS.values(), strict=True)), 20 << 20)
    made, problems = Hostile(seed), []
    begun = time.monotonic()
    peak = resident_bytes()
    expected = 0  # spans made wrong on purpose
    for number in range(count):
        shot = made.bomb() if number % 5000 == 4999 else made.shot()
        status, rejected = await _ask(app, shot)
        table[shot.kind][_class(shot, status, rejected)] += 1
        if _class(shot, status, rejected) == "wrong":
            problems.append(f"{shot.kind}: answered {status}, {rejected} of {shot.wrong_spans} rejected")
        expected += max(0, shot.wrong_spans)
        if number % 1000 == 0:
            peak = max(peak, resident_bytes())
            answer = await _ask(app, Shot("good", PATHS[0], good(number), _PROTOBUF))
            if answer != (200, 0):
                problems.append(f"a good request after {number} bad ones: {answer}")
        if number % 20_000 == 0 and sys.stderr.isatty():
            sys.stderr.write(f"\r{number:,} of {count:,}")
    refused = sum(c["refused"] for c in table.values())
    counted = sum(own._values["taximeter_collector_malformed_requests"].values())
    rejected = int(sum(own._values["taximeter_collector_rejected_spans"].values()))
    if rejected < expected:  # mutation by chance makes a few more
        problems.append(f"{expected} wrong spans, {rejected} counted as rejected")
    unsupported = table["headers"]["refused"]
    if not refused - unsupported <= counted <= refused:
        problems.append(f"{refused} refused, {counted} counted")
    print(
        f"in process: {count:,} requests in {time.monotonic() - begun:.0f} s, peak memory {peak >> 20} MiB, "
        f"{refused:,} refused, {counted:,.0f} counted as malformed (a wrong content-type is no OTLP at all); "
        f"{expected:,} spans made wrong on purpose, {rejected:,} counted as rejected",
        flush=True,
    )
    return problems


async def _ask(app: Any, shot: Shot) -> tuple[int, int]:
    """The status, and how many items the answer says were rejected."""
    statuses: list[int] = []
    answer = b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": shot.body, "more_body": False}

    async def send(event: Any) -> None:
        nonlocal answer
        if event["type"] == "http.response.start":
            statuses.append(event["status"])
        else:
            answer += event["body"]

    headers = [(k.encode(), v.encode()) for k, v in shot.headers.items()]
    try:
        await app({"type": "http", "path": shot.path, "method": "POST", "headers": headers}, receive, send)
    except Exception as error:
        print(f"{shot.kind}: {type(error).__name__}: {error}; body {shot.body[:80]!r}", flush=True)
        return 599, 0
    return statuses[0], _rejected(shot, answer) if statuses[0] == 200 else 0


def _rejected(shot: Shot, answer: bytes) -> int:
    if shot.headers == _JSON or shot.path != PATHS[0]:
        return 0
    response = trace_service_pb2.ExportTraceServiceResponse.FromString(answer)
    return response.partial_success.rejected_spans


def _class(shot: Shot, status: int, rejected: int) -> str:
    """How the answer is to be judged."""
    if not (200 <= status < 300 or 400 <= status < 500):
        return "wrong"
    taken = status < 300
    if shot.wrong_spans >= 0:  # it is known what had to come
        all_wrong = not shot.good_spans
        if taken == all_wrong or (taken and rejected != shot.wrong_spans):
            return "wrong"
    return ("in part" if rejected else "accepted") if taken else "refused"


def over_sockets(count: int, seed: int, table: Table, folder: Path) -> list[str]:
    """``count`` shots at a running collector: HTTP over several connections, a tenth by gRPC, then floods."""
    exporters = {
        "span_store": span_store(folder),
        "prometheus": {"endpoint": f"127.0.0.1:{free_port()}"},
        "debug": None,
    }
    pipelines = {"traces": ["span_store"], "metrics": ["prometheus"], "logs": ["debug"]}
    problems: list[str] = []
    with collector(folder, exporters, pipelines) as made:
        made.config["processors"] = {
            "pricing": None,
            "tail_sampling": {
                "decision_wait": "1s",
                "policies": [*_POLICIES, {"name": "all", "type": "always_sample"}],
            },
        }
        made.config["service"]["pipelines"]["traces"]["processors"] = ["pricing", "tail_sampling"]
        made.start()
        before = _memory(made)
        lock = threading.Lock()
        goods: list[int] = []

        def work(worker: int) -> None:
            hostile, rnd = Hostile(seed * 100 + worker), random.Random(worker)
            channel = grpc.insecure_channel(f"127.0.0.1:{made.ports['grpc']}")
            calls = {
                path: channel.unary_unary(signal.method)
                for path, signal in zip(PATHS, SIGNALS.values(), strict=True)
            }
            with httpx.Client(timeout=60) as client, channel:
                for number in range(count // 4):
                    shot = hostile.bomb() if number % 500 == 499 else hostile.shot()
                    protobuf = shot.headers == _PROTOBUF
                    try:
                        if protobuf and rnd.random() < 0.1:
                            status, answer = _by_grpc(calls[shot.path], shot.body)
                        else:
                            url = made.url(shot.path)
                            response = client.post(url, content=shot.body, headers=shot.headers)
                            status, answer = response.status_code, response.content
                    except httpx.TransportError as error:
                        status, answer = 599, b""
                        with lock:
                            problems.append(f"{shot.kind}: {type(error).__name__}: {error}")
                    rejected = _rejected(shot, answer) if status == 200 else 0
                    judged = _class(shot, status, rejected)
                    with lock:
                        table[shot.kind][judged] += 1
                        if judged == "wrong":
                            problems.append(
                                f"{shot.kind}: answered {status}, {rejected} of {shot.wrong_spans} rejected"
                            )
                    if number % 250 == 0:
                        one = worker * 10**6 + number + 10**9
                        body = good(one)
                        status = client.post(made.url(), content=body, headers=_PROTOBUF).status_code
                        with lock:
                            goods.append(one)
                            if status != 200:
                                problems.append(f"a good request between: {status}")

        begun = time.monotonic()
        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        refused = sum(c["refused"] for c in table.values())
        counted = made.own("taximeter_collector_malformed_requests")
        problems += slow_and_many(made, goods)
        expected = [f"good-{n}-{i}" for n in goods for i in range(3)]
        missing, names = expected, dict[str, int]()
        deadline = time.monotonic() + 300
        while missing and time.monotonic() < deadline:  # sampling decides a second after they came
            time.sleep(0.5)
            names = _stored(folder)
            missing = [name for name in expected if names.get(name) != 1]
        behind = made.own("otelcol_exporter_queue_size")
        undecided = made.own("otelcol_processor_tail_sampling_sampling_traces_on_memory")
        peak = _memory(made, "VmHWM")
        assert made.process is not None
        if made.process.poll() is not None:
            problems.append(f"the collector ended: {made.log()[-500:]}")
        made.stop()
        if missing:
            twice = sum(name in names for name in missing)
            problems.append(
                f"{len(missing)} good spans are missing or there twice ({twice}), {missing[0]} the first, "
                f"after 300 s; {behind:,.0f} requests are not exported, {undecided:,.0f} traces undecided"
            )
        print(
            f"over sockets: {count:,} requests in {took:.0f} s, memory {before} -> at most {peak} MiB, "
            f"{refused:,} refused, {counted:,.0f} counted as malformed, {len(goods) * 3} good spans, "
            f"{len(missing)} missing",
            flush=True,
        )
        if peak > 700:
            problems.append(f"memory reached {peak} MiB")
    return problems


def _stored(folder: Path) -> dict[str, int]:
    """The good spans in the store, and how often each is there."""
    files = f"{folder}/store/spans/*.parquet"
    try:
        found = duckdb.sql(f"SELECT name, count(*) FROM '{files}' WHERE name LIKE 'good-%' GROUP BY 1")
        return dict(found.fetchall()) if found is not None else {}
    except duckdb.IOException:  # no file yet, or one that compaction just replaced
        return {}


def _by_grpc(call: Any, body: bytes) -> tuple[int, bytes]:
    try:
        answer: bytes = call(body, timeout=60)
    except grpc.RpcError as error:
        code = error.code()
        permanent = code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
        return (400 if permanent else 599), b""
    return 200, answer


def slow_and_many(made: Collector, goods: list[int]) -> list[str]:
    """Senders that never finish, and more connections than are granted; good data goes through between."""
    problems = []
    with contextlib.ExitStack() as stack:
        for number in range(1500):
            try:
                one = socket.create_connection(("127.0.0.1", made.ports["http"]), timeout=10)
                stack.callback(one.close)
                one.sendall(b"POST /v1/traces HTTP/1.1\r\ncontent-len" if number % 2 else b"P")
            except OSError:
                continue
        pid = made.process.pid if made.process else 0
        open_at_most = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        closed = made.own("taximeter_collector_refused_connections")
        print(
            f"1,500 slow connections: {open_at_most} descriptors open, {closed:,.0f} connections closed",
            flush=True,
        )
        if open_at_most > 1300:
            problems.append(f"{open_at_most} descriptors are open")
    number = 1_500_000_000
    wait_for(lambda: made.post(good(number)).status_code == 200, "good data after the flood", 200)
    goods.append(number)
    return problems


def _memory(made: Collector, what: str = "VmRSS") -> int:
    assert made.process is not None
    for line in Path(f"/proc/{made.process.pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) >> 10
    return 0


def show(table: Table) -> None:
    print(f"  {'what was done to it':24s} {'accepted':>10s} {'in part':>10s} {'refused':>10s} {'wrong':>6s}")
    for kind, found in sorted(table.items()):
        counts = [found[judged] for judged in ("accepted", "in part", "refused")]
        print(f"  {kind:24s}" + "".join(f" {n:10,d}" for n in counts) + f" {found['wrong']:6,d}")
    print(flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make prove-hostile", description=__doc__)
    parser.add_argument("--in-process", type=int, default=1_000_000)
    parser.add_argument("--over-sockets", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    print(
        f"make prove-hostile, {datetime.now(UTC):%Y-%m-%d}, Debian 12, x86-64, 2 cores, "
        f"Python {platform.python_version()}, seed {args.seed}\n",
        flush=True,
    )
    inside: Table = defaultdict(Counter)
    problems = asyncio.run(in_process(args.in_process, args.seed, inside))
    show(inside)
    outside: Table = defaultdict(Counter)
    with tempfile.TemporaryDirectory(prefix="prove-hostile-") as temp:
        problems += over_sockets(args.over_sockets, args.seed, outside, Path(temp))
    show(outside)
    for problem, times in Counter(problems).most_common(20):
        print(f"PROBLEM {times} x {problem}")
    print("Holds." if not problems else f"Does not hold: {len(problems)} problems.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
