"""``make prove-durable``: what is acknowledged arrives, whatever happens; the official collector beside it.

Every row sends requests of five spans, each span with its own price, over several connections that repeat a
request until it is acknowledged, and then compares what the backend and the span store have with that.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.collector.peers import official_binary
from taximeter_collector.export.dead_letters import read
from tests.collector.proving import (
    DEFAULTS,
    OURS,
    SPANS,
    STORAGE,
    Outcome,
    Sender,
    any_code,
    forwarding,
    judge,
    request,
    spans_of,
    subject,
    wait_delivered,
)
from tests.collector.support import Collector, GrpcBackend, HttpBackend, free_port, run_collector, wait_for

RETRYABLE = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
PERMANENT = (
    "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED", "INTERNAL",
    "FAILED_PRECONDITION", "UNIMPLEMENTED", "UNKNOWN", "RESOURCE_EXHAUSTED",
)  # fmt: skip
LIMIT_S = 3
SYSTEM = "Debian 12, x86-64"


def letters(made: Collector) -> set[int]:
    """The numbers of the spans in the dead letters."""
    found: set[int] = set()
    for path in (made.folder / "data" / "dead-letters").glob("*"):
        for _, payload in read(path):
            message = ExportTraceServiceRequest.FromString(payload)
            found |= {int(span.name[5:]) for _, _, span in spans_of(message)}
    return found


def killed(kind: str, folder: Path, kills: int) -> Outcome:
    port = free_port()
    rnd = random.Random(11)
    with GrpcBackend(port) as backend, subject(kind, folder, forwarding(port)) as made:
        made.start()
        sender = Sender(made, pause_s=0.01)
        sender.begin()
        for _ in range(kills):
            time.sleep(rnd.uniform(0.05, 0.6))
            made.kill()
            made.start()
        sender.end()
        wait_delivered(made, backend, kind)
        time.sleep(1)
        return judge(kind, sender, backend, folder, note=f"{kills} kills")


def backend_down(kind: str, folder: Path) -> Outcome:
    port = free_port()
    retry = {"initial_interval": "100ms", "max_interval": "300ms", "max_elapsed_time": f"{LIMIT_S}s"}
    with subject(kind, folder, forwarding(port, retry_on_failure=retry)) as made:
        made.start()
        sender = Sender(made, pause_s=0.02)
        sender.begin()
        time.sleep(2 * LIMIT_S)
        with GrpcBackend(port) as backend:
            time.sleep(2)
            sender.end()
            wait_delivered(made, backend, kind)
            buried = letters(made) if kind == OURS else set()
            note = ""
            if kind == OURS:
                config = str(made.folder / "collector.yaml")
                words = [sys.executable, "-m", "taximeter_collector", "dead-letters", "replay", "otlp"]
                subprocess.run([*words, "--config", config], check=True, capture_output=True, timeout=300)
                note = f"{len(buried)} spans were dead letters, then replayed"
            return judge(
                kind, sender, backend, folder, dead=letters(made) if kind == OURS else None, note=note
            )


def retryable_codes(kind: str, folder: Path) -> Outcome:
    port = free_port()
    with GrpcBackend(port) as backend, subject(kind, folder, forwarding(port)) as made:
        backend.received.answer = any_code(*(grpc.StatusCode[name] for name in RETRYABLE), times=3)
        made.start()
        sender = Sender(made)
        sender.begin(2, 20)
        sender.join()
        wait_delivered(made, backend, kind)
        return judge(kind, sender, backend, folder, note="gRPC " + ", ".join(RETRYABLE).lower())


def retryable_statuses(kind: str, folder: Path) -> Outcome:
    with HttpBackend() as backend:
        backend.statuses = [429, 502, 503, 504] * 3
        values = {
            "endpoint": f"http://127.0.0.1:{backend.port}",
            "retry_on_failure": {"initial_interval": "100ms"},
        }
        with subject(kind, folder, values) as made:
            made.config["exporters"]["otlp_http"] = made.config["exporters"].pop("otlp")
            names = made.config["service"]["pipelines"]["traces"]["exporters"]
            names[names.index("otlp")] = "otlp_http"
            made.start()
            sender = Sender(made)
            sender.begin(2, 20)
            sender.join()
            wait_delivered(made, backend, kind)
            return judge(kind, sender, backend, folder, note="HTTP 429, 502, 503, 504")


def permanent_codes(kind: str, folder: Path) -> Outcome:
    """Each code refuses for good whatever holds its own marked span; the rest is taken."""
    port = free_port()
    marked = {
        f"span-{(9 + index * 3) * SPANS + 2}": grpc.StatusCode[code] for index, code in enumerate(PERMANENT)
    }

    def answer(message: Any) -> grpc.StatusCode | None:
        found = (marked[span.name] for _, _, span in spans_of(message) if span.name in marked)
        return next(found, None)

    with GrpcBackend(port) as backend, subject(kind, folder, forwarding(port)) as made:
        backend.received.answer = answer
        made.start()
        sender = Sender(made)
        sender.begin(1, 60)
        sender.join()
        wait_delivered(made, backend, kind)
        dead = letters(made) if kind == OURS else None
        return judge(kind, sender, backend, folder, dead=dead, note="gRPC " + ", ".join(PERMANENT).lower())


def slow_backend(kind: str, folder: Path) -> Outcome:
    port = free_port()
    with GrpcBackend(port) as backend, subject(kind, folder, forwarding(port)) as made:
        backend.received.answer = lambda _: time.sleep(0.3)
        made.start()
        sender = Sender(made, pause_s=0.005)
        sender.begin(3, 60)
        sender.join()
        wait_delivered(made, backend, kind)
        return judge(kind, sender, backend, folder, note="0.3 s an answer")


def twice_as_fast(kind: str, folder: Path) -> Outcome:
    """The queue is bounded: ours to 1 MiB of log, theirs to 100 requests (default 1000)."""
    port = free_port()
    options: dict[str, Any] = {"storage": {"max_size_mib": 1}} if kind == OURS else {}
    values = forwarding(port) if kind == OURS else forwarding(port, **{"sending_queue": {"queue_size": 100}})
    with GrpcBackend(port) as backend, subject(kind, folder, values, **options) as made:
        backend.received.answer = lambda _: time.sleep(0.05 if kind == OURS else 0.1)
        made.start()
        sender = Sender(made, make=lambda first: request(first, pad=2000))
        sender.begin(6, 100)
        sender.join()
        wait_delivered(made, backend, kind)
        note = "log of 1 MiB" if kind == OURS else "queue of 100 requests"
        return judge(kind, sender, backend, folder, note=note)


def sigterm(kind: str, folder: Path) -> Outcome:
    port = free_port()
    with GrpcBackend(port) as backend, subject(kind, folder, forwarding(port)) as made:
        backend.received.answer = lambda _: time.sleep(0.02)
        made.start()
        sender = Sender(made, pause_s=0.005)
        sender.begin(4)
        for _ in range(5):
            time.sleep(0.7)
            assert made.process is not None
            made.process.terminate()
            made.process.wait(180)
            made.start()
        sender.end()
        wait_delivered(made, backend, kind)
        time.sleep(1)
        return judge(kind, sender, backend, folder, note="5 times")


def disk_full(kind: str, folder: Path) -> Outcome:
    """A small file system of its own, filled by somebody else and freed again. As root."""
    port = free_port()
    disk = folder / "disk"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)], check=True)
    try:
        with (
            GrpcBackend(port) as backend,
            subject(kind, folder, forwarding(port), data=disk / "data") as made,
        ):
            made.start()
            sender = Sender(made, pause_s=0.002)
            sender.begin()
            time.sleep(1)
            ballast = disk / "ballast"
            with ballast.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            before = len(sender.acknowledged)
            refused = sender.refused
            time.sleep(3)
            during = len(sender.acknowledged) - before
            told = sender.refused - refused
            ballast.unlink()
            wait_for(lambda: len(sender.acknowledged) > before + during + 50, "it takes data again", 200)
            sender.end()
            wait_delivered(made, backend, kind)
            time.sleep(1)
            note = f"while full: {told} refusals, {during} spans taken; went on when freed"
            return judge(kind, sender, backend, folder, note=note)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def damaged(kind: str, folder: Path, index: bool) -> Outcome:
    port = free_port()
    rnd = random.Random(3)
    with subject(kind, folder, forwarding(port)) as made:
        del made.config["exporters"]["span_store"]
        made.config["service"]["pipelines"]["traces"]["exporters"] = ["otlp"]
        made.start()
        sender = Sender(made)
        sender.begin(3, 150)
        sender.join()
        made.stop()
        log = folder / "data" / "log"
        path = log / "traces.sqlite" if index else max(log.glob("traces.segments/*.seg"))
        content = bytearray(path.read_bytes())
        for _ in range(40):
            content[rnd.randrange(64, len(content))] ^= rnd.randrange(1, 256)
        path.write_bytes(content)
        with GrpcBackend(port) as backend:
            made.start()
            wait_delivered(made, backend, kind)
            told = int(made.own("taximeter_collector_log_damaged_items"))
            note = "40 random bytes of the " + ("index" if index else "segment")
            note = f"{note}: {told} spans said damaged"
            return judge(kind, sender, backend, folder, damaged=told, note=note)


def two_owners(kind: str, folder: Path) -> Outcome:
    port = free_port()
    with GrpcBackend(port) as backend, subject(kind, folder, forwarding(port)) as made:
        made.start()
        sender = Sender(made)
        sender.begin()
        rival = folder / "rival.yaml"
        text = (folder / "collector.yaml").read_text()
        for used in made.ports.values():
            text = text.replace(str(used), str(free_port()))
        rival.write_text(text)
        codes = []
        for _ in range(3):
            process = run_collector("run", "--config", str(rival), log=folder / "rival.log")
            codes.append(process.wait(180))
        sender.end()
        wait_delivered(made, backend, kind)
        said = "is in use by another collector" in (folder / "rival.log").read_text()
        note = f"the second ends with {codes[0]}" + (" and says why" if said else "")
        return judge(kind, sender, backend, folder, note=note)


def endless(kind: str, folder: Path) -> Outcome:
    """One trace gets a span in every request, for ever; the others end."""
    port = free_port()
    with GrpcBackend(port) as backend, subject(kind, folder, forwarding(port)) as made:
        policies = [{"name": "all", "type": "always_sample"}]
        made.config["processors"] = {"tail_sampling": {"decision_wait": "1s", "policies": policies}}
        made.config["service"]["pipelines"]["traces"]["processors"] = ["tail_sampling"]
        made.start()

        def with_endless(first: int) -> bytes:
            return request(first).replace((first + 1).to_bytes(16), (0xE0D).to_bytes(16))

        sender = Sender(made, pause_s=0.01, make=with_endless)
        sender.begin(3)
        time.sleep(6)
        opened = made.own("otelcol_processor_tail_sampling_sampling_traces_on_memory")
        sender.end()
        time.sleep(2)
        wait_for(
            lambda: len(set(backend.received.span_names())) >= len(sender.acknowledged), "all delivered", 200
        )
        wait_delivered(made, backend, kind)
        time.sleep(1)
        return judge(kind, sender, backend, folder, note=f"{opened:.0f} traces open at most a wait's worth")


Row = tuple[str, Callable[[str, Path], Outcome]]


def rows(kills: int) -> list[Row]:
    found: list[Row] = [
        (f"kill -9, {kills} times", lambda kind, folder: killed(kind, folder, kills)),
        ("backend down for twice the retry limit", backend_down),
        ("retryable codes, gRPC", retryable_codes),
        ("retryable statuses, HTTP", retryable_statuses),
        ("permanent codes", permanent_codes),
        ("slow backend", slow_backend),
        ("disk full, then freed", disk_full),
        ("a segment damaged", lambda kind, folder: damaged(kind, folder, index=False)),
        ("the index damaged", lambda kind, folder: damaged(kind, folder, index=True)),
        ("two owners", two_owners),
        ("SIGTERM under load", sigterm),
        ("sender twice as fast as the backend", twice_as_fast),
        ("a trace that never ends", endless),
    ]
    return found


OFFICIAL_ROWS = {
    "backend down for twice the retry limit", "retryable codes, gRPC", "permanent codes", "slow backend",
    "SIGTERM under load", "sender twice as fast as the backend",
}  # fmt: skip


def line(kind: str, name: str, o: Outcome) -> str:
    return (
        f"{kind:23s} {name:39s} {o.acknowledged:8,d} {o.delivered:9,d} {o.duplicated:6,d} {o.refused:8,d} "
        f"{o.dead:6,d} {o.lost:6,d}  {o.counted:24s} {o.note}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make prove-durable", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--without-official", action="store_true")
    args = parser.parse_args()
    print(
        f"make prove-durable, {datetime.now(UTC):%Y-%m-%d}, {SYSTEM}, 2 cores, "
        f"Python {platform.python_version()}\n\n"
        "Spans; `refused`: answers that asked for a retry, and failures to connect; `counted`: whether the\n"
        "count and money of what is stored (ours: the span store; theirs: the backend) are what was sent.\n"
        f"Retry limit {LIMIT_S} s. The official collector: the same exporter and receiver settings.\n\n"
        f"{'':23s} {'':39s} {'acknowl.':>8s} {'delivered':>9s} {'twice':>6s} {'refused':>8s} {'dead':>6s} "
        f"{'lost':>6s}  counted",
        flush=True,
    )
    failed = 0
    plan: list[tuple[str, Row]] = [(OURS, row) for row in rows(args.kills)]
    if not args.without_official and official_binary():
        few = [row for row in rows(5) if row[0] in OFFICIAL_ROWS or row[0].startswith("kill")]
        plan += [(kind, row) for kind in (DEFAULTS, STORAGE) for row in few]
    for kind, (name, prove) in plan:
        if args.only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="prove-durable-") as temp:
            try:
                outcome = prove(kind, Path(temp))
            except Exception as error:
                failed += kind == OURS
                print(
                    f"{kind:23s} {name:39s} FAILED: {type(error).__name__}: {str(error)[-700:]}", flush=True
                )
                continue
        print(line(kind, name, outcome), flush=True)
        if kind == OURS and (outcome.lost != outcome.expected_loss or outcome.counted != "equal"):
            failed += 1
    print("\nEvery row of Taximeter holds." if not failed else f"\n{failed} rows of Taximeter do not hold.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
