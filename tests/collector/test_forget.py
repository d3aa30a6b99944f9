"""``taximeter collector forget``: nothing of a trace or a tenant is left in any byte on the disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter_collector.segments import Damaged, scan
from tests.collector.support import (
    Collector,
    GrpcBackend,
    backend_exporter,
    collector,
    free_port,
    set_value,
    span_store,
    wait_for,
)

TENANT = "taximeter.tenant"
LOST, KEPT = b"LOST-TRACE-ID-16", b"KEPT-TRACE-ID-16"


def trace(trace_id: bytes, secret: str, tenant: str) -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    set_value(resource.resource.attributes.add(key="service.name").value, "shop")
    scope = resource.scope_spans.add()
    for number in (1, 2):
        span = scope.spans.add(trace_id=trace_id, span_id=bytes([number]) * 8, name="s", kind=2)
        span.start_time_unix_nano = 10**18
        span.end_time_unix_nano = 10**18 + 10**6
        set_value(span.attributes.add(key="note").value, secret)
        if number == 1:  # the other span of the trace does not name the tenant
            set_value(span.attributes.add(key=TENANT).value, tenant)
    return request.SerializeToString()


def metric(trace_id: bytes, tenant: str) -> bytes:
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    set_value(resource.resource.attributes.add(key="service.name").value, "shop")
    made = resource.scope_metrics.add().metrics.add(name="seconds")
    made.histogram.aggregation_temporality = 2  # type: ignore[assignment]
    for name in (tenant, "everybody"):
        point = made.histogram.data_points.add(count=1, sum=1, time_unix_nano=1, start_time_unix_nano=1)
        point.explicit_bounds.extend([1.0])
        point.bucket_counts.extend([1, 0])
        set_value(point.attributes.add(key=TENANT).value, name)
        point.exemplars.add(trace_id=trace_id, span_id=b"x" * 8, as_double=1, time_unix_nano=1)
    return request.SerializeToString()


def log(trace_id: bytes, secret: str) -> bytes:
    request = logs_service_pb2.ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(trace_id=trace_id)
    record.body.string_value = secret
    return request.SerializeToString()


def places(folder: Path, *needles: bytes) -> list[str]:
    """Every file with one of these bytes in it."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".yaml", ".log"):
            content = path.read_bytes()
            if path.suffix == ".seg":  # what the log has packed is looked into as well
                content += b"".join(r[0].payload for r in scan(path) if not isinstance(r, Damaged))
            found += [f"{path.name}: {needle!r}" for needle in needles if needle in content]
    return found


def forget(made: Collector, *args: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "taximeter_collector",
        "forget",
        "--config",
        str(made.folder / "collector.yaml"),
    ]
    return subprocess.run([*command, *args], capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def holding(folder: Path, port: int) -> Iterator[Collector]:
    """Everything is somewhere: in logs whose destination is away, dead letters, the state, the store."""
    prometheus = {"endpoint": f"127.0.0.1:{free_port()}"}
    exporters = {
        "otlp_grpc": backend_exporter(port),
        "span_store": span_store(folder),
        "prometheus": prometheus,
        "debug": None,
    }
    pipelines = {
        "traces": ["otlp_grpc", "span_store"],
        "metrics": ["prometheus", "otlp_grpc"],
        "logs": ["otlp_grpc"],
    }
    with collector(folder, exporters, pipelines) as made:
        made.config["processors"] = {
            "tail_sampling": {
                "decision_wait": "100ms",
                "policies": [{"name": "all", "type": "always_sample"}],
            }
        }
        made.config["service"]["pipelines"]["traces/sampled"] = {
            "receivers": ["otlp"],
            "processors": ["tail_sampling"],
            "exporters": ["otlp_grpc"],
        }
        yield made


@pytest.mark.parametrize("by", ["trace", "tenant"])
def test_no_byte_is_left(tmp_path: Path, by: str) -> None:
    port = free_port()
    rejecting: Any = lambda request: grpc.StatusCode.INVALID_ARGUMENT  # noqa: E731
    with holding(tmp_path, port) as made:
        made.start()
        with GrpcBackend(port) as backend:
            backend.received.answer = rejecting
            for trace_id, word in ((LOST, "first"), (KEPT, "other")):  # these become dead letters
                assert made.post(trace(trace_id, f"{word}-secret", f"{word}-guest")).status_code == 200
                assert made.post(log(trace_id, f"{word}-secret"), "/v1/logs").status_code == 200
            # Two pipelines, and logs; the sampled traces may have been decided, and passed on, together.
            for items, times in (("spans", 2), ("log_records", 1)):
                wait_for(
                    lambda items=items, times=times: (  # type: ignore[misc]
                        made.own(f"otelcol_exporter_send_failed_{items}")
                        == times * made.own(f"otelcol_receiver_accepted_{items}")
                        > 0
                    ),
                    "dead letters",
                )
        for trace_id, word in ((LOST, "first"), (KEPT, "other")):  # and these wait in the log
            request = trace_service_pb2.ExportTraceServiceRequest.FromString(
                trace(trace_id, f"{word}-secret", f"{word}-guest")
            )
            for span in request.resource_spans[0].scope_spans[0].spans:
                span.span_id = b"w" + span.span_id[1:]
            assert made.post(request.SerializeToString()).status_code == 200
            assert made.post(log(trace_id, f"{word}-secret, late"), "/v1/logs").status_code == 200
            assert made.post(metric(trace_id, f"{word}-guest"), "/v1/metrics").status_code == 200
        rows = f"SELECT count(*) FROM '{tmp_path}/store/spans/*.parquet'"
        wait_for(lambda: list((tmp_path / "store" / "spans").glob("*.parquet")), "a segment")
        wait_for(lambda: duckdb.connect().execute(rows).fetchone() == (8,), "all spans in the store")
        wait_for(lambda: made.own("otelcol_exporter_queue_size", exporter="prometheus") == 0, "the state")
        running = forget(made, "--trace", LOST.hex())
        assert running.returncode == 1
        assert "is in use by another collector" in running.stderr
        assert made.stop() == 0
        needles = [LOST, LOST.hex().encode(), b"first-secret"] + ([b"first-guest"] if by == "tenant" else [])
        assert len(places(tmp_path, *needles)) > 6
        arguments = ("--trace", LOST.hex()) if by == "trace" else ("--tenant", "first-guest")
        dry = forget(made, *arguments, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert "would be erased" in dry.stdout
        assert len(places(tmp_path, *needles)) > 6
        done = forget(made, *arguments)
        assert done.returncode == 0, done.stderr
        assert "of 1 traces" in done.stdout
        assert places(tmp_path, *needles) == []
        others = duckdb.connect().execute(
            f"SELECT DISTINCT trace_hi, trace_lo, tenant FROM '{tmp_path}/store/*/*.parquet' "
            "WHERE tenant IS NOT NULL"
        )
        kept = (int.from_bytes(KEPT[:8]), int.from_bytes(KEPT[8:]), "other-guest")
        assert others.fetchall() == [kept]
        again = forget(made, *arguments)
        assert again.stdout.startswith("0 spans")
        with GrpcBackend(port) as backend:  # the rest is delivered as ever
            made.start()
            wait_for(lambda: made.own("otelcol_exporter_queue_size") == 0, "delivery")
            text = b"".join(request.SerializeToString() for request in backend.received.requests)
            assert b"other-secret" in text
            assert b"first-secret" not in text
            letters = [made.folder / "data" / "dead-letters"]
            assert b"other-secret" in b"".join(p.read_bytes() for p in letters[0].glob("*.dead"))
            assert made.stop() == 0


def test_what_is_no_trace_id_is_said(tmp_path: Path) -> None:
    with holding(tmp_path, free_port()) as made:
        made.start()
        assert made.stop() == 0
        wrong = forget(made, "--trace", "abc")
        assert wrong.returncode == 2
        assert "--trace abc: is no trace id of 32 hex digits" in wrong.stderr
