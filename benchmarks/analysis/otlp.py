"""Rows of a span store as the OTLP they came from: what the collector's writer, and a peer, are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from taximeter import semconv as names
from taximeter_collector.store.rows import SPAN_COLUMNS

_KINDS = {"server": 2, "client": 3}
_ATTRIBUTES = {column: name for name, (column, _) in reversed(SPAN_COLUMNS.items())}


def requests_of(store: Path, spans: int, each: int = 500) -> Iterator[tuple[int, bytes]]:
    """About so many spans of a store in requests of ``each``: (spans, serialised)."""
    done = 0
    for path in sorted((store / "spans").glob("*.parquet")):
        for group in range(pq.ParquetFile(path).num_row_groups):
            rows = pq.ParquetFile(path).read_row_group(group)
            for at in range(0, rows.num_rows, each):
                if done >= spans:
                    return
                part = rows.slice(at, each)
                done += part.num_rows
                yield part.num_rows, _request(part).SerializeToString()


def _request(rows: pa.Table) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    _put(resource.resource.attributes, names.SERVICE_NAME, "hotel-chat")
    spans = resource.scope_spans.add().spans
    for row in rows.to_pylist():
        span = spans.add(
            trace_id=row["trace_hi"].to_bytes(8) + row["trace_lo"].to_bytes(8),
            span_id=row["span_id"].to_bytes(8),
            parent_span_id=b"" if row["parent_id"] is None else row["parent_id"].to_bytes(8),
            name=row["name"],
            kind=_KINDS.get(row["kind"], 1),
            start_time_unix_nano=row["start_ns"],
            end_time_unix_nano=row["start_ns"] + row["duration_ns"],
        )
        if row["status"] == "error":
            span.status.code = Status.STATUS_CODE_ERROR
        for column, name in _ATTRIBUTES.items():
            if row.get(column) is not None:
                _put(span.attributes, name, row[column])
        for name, value in row["attributes"] or ():
            _put(span.attributes, name, value)
    return request


def _put(attributes: Any, name: str, value: Any) -> None:
    field = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}[type(value)]
    setattr(attributes.add(key=name).value, field, value)
