"""The span store's segments: columns, duplicates, and what a crash leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter import semconv
from taximeter_collector.config.components import EXPORTERS
from taximeter_collector.config.fields import Notes, read_section
from taximeter_collector.export.base import Origin
from taximeter_collector.log import Batch, Row
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.signals import SIGNALS
from taximeter_collector.store import writer
from taximeter_collector.store.rows import ACCOUNT_COLUMNS, MAX_ATTRIBUTES, MAX_TEXT, SPAN_COLUMNS, rows_of
from taximeter_collector.store.schema import REQUESTS, SCHEMA_VERSION, SPANS
from taximeter_collector.store.window import RecentKeys
from taximeter_collector.store.writer import SpanStoreExporter
from tests.collector.support import set_value, trace_request

ORIGIN = Origin(SIGNALS["traces"], "traces/main", "0123456789abcdef")


def one_span(kind: int = 2, status: int = 0, **attributes: Any) -> Any:
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in {"service.name": "s", "service.instance.id": "i", "service.version": "1"}.items():
        set_value(resource.resource.attributes.add(key=key).value, value)
    scope = resource.scope_spans.add()
    scope.scope.name = "lib"
    span = scope.spans.add(trace_id=bytes(range(16)), span_id=bytes(range(8)), name="n", kind=kind)
    span.start_time_unix_nano, span.end_time_unix_nano = 1000, 3500
    span.status.code = status  # type: ignore[assignment]
    for key, value in attributes.items():
        target = span.attributes.add(key=key).value
        if isinstance(value, list):
            for item in value:
                set_value(target.array_value.values.add(), item)
        else:
            set_value(target, value)
    return request


def rows(request: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    spans, requests, _ = rows_of(request, lambda key: True)
    return spans[0], requests[0] if requests else None


def test_what_a_stranger_makes_huge_is_cut() -> None:
    many: dict[str, Any] = {f"k{n}": "v" for n in range(MAX_ATTRIBUTES + 50)}
    request = one_span(**{"db.query.text": "x" * 50_000, "a": "y" * 50_000, **many})
    request.resource_spans[0].resource.attributes[0].value.string_value = "z" * 50_000
    span, account = rows(request)
    texts = [span["service"], span["db_statement"], dict(span["attributes"])["a"]]
    assert [len(text) for text in texts] == [MAX_TEXT] * 3
    assert len(span["attributes"]) == MAX_ATTRIBUTES
    assert account is not None
    assert len(account["service"]) == MAX_TEXT


def test_the_tables_of_names_match_the_schema() -> None:
    assert {column for column, _ in SPAN_COLUMNS.values()} <= set(SPANS.names)
    assert {column for column, _ in ACCOUNT_COLUMNS.values()} <= set(REQUESTS.names)
    account = {value for name, value in vars(semconv).items() if name.startswith("REQUEST_")}
    account.discard(semconv.REQUEST_CACHE_REPEATS)  # a metric only
    assert account <= set(ACCOUNT_COLUMNS), "an attribute of the account has no column"


def test_a_server_span_with_an_account() -> None:
    attributes: dict[str, Any] = {
        semconv.HTTP_ROUTE: "/chat",
        semconv.HTTP_RESPONSE_STATUS_CODE: 500,
        semconv.TENANT: "hotel-1",
        semconv.REQUEST_DB_CALLS: 7,
        semconv.REQUEST_COST: 0.25,
        semconv.REQUEST_STREAMED: True,
        semconv.REQUEST_TOKENS_INPUT: 100,
        "url.path": "/chat",
        "list": ["a", "b"],
        "flag": True,
    }
    span, request = rows(one_span(status=2, **attributes))
    assert span["trace_hi"] == int.from_bytes(bytes(range(8)))
    assert span["trace_lo"] == int.from_bytes(bytes(range(8, 16)))
    assert (span["kind"], span["status"], span["duration_ns"], span["parent_id"]) == (
        "server",
        "error",
        2500,
        None,
    )
    assert dict(span["attributes"]) == {"url.path": "/chat", "list": '["a","b"]', "flag": "true"}
    assert request is not None
    assert (request["http_route"], request["http_status"], request["error"]) == ("/chat", 500, True)
    assert (request["service"], request["instance"], request["version"]) == ("s", "i", "1")
    assert (request["db_calls"], request["cost_usd"], request["streamed"]) == (7, 0.25, True)
    assert request["input_tokens"] == 100
    assert "cache_hits" not in request


@pytest.mark.parametrize(
    ("attributes", "column", "value"),
    [
        ({semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: 5}, "ai_cache_write_tokens", 5),
        ({semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 6}, "ai_cache_write_tokens", 6),
        (
            {
                semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 6,
                semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: 5,
            },
            "ai_cache_write_tokens",
            5,
        ),
        ({semconv.GEN_AI_USAGE_COST_AMOUNT: 1}, "cost_usd", 1.0),
        ({"http.status_code": "404"}, "http_status", 404),
        ({"http.response.status_code": 10**12}, "http_status", None),
        ({semconv.DB_RESPONSE_RETURNED_ROWS: "many"}, "db_rows", None),
        ({semconv.DB_RESPONSE_RETURNED_ROWS: float("inf")}, "db_rows", None),
        ({semconv.DB_RESPONSE_RETURNED_ROWS: True}, "db_rows", None),
    ],
)
def test_promotion(attributes: dict[str, Any], column: str, value: Any) -> None:
    span, request = rows(one_span(kind=3, **attributes))
    assert span.get(column) == value
    assert request is None
    if value is None:
        assert list(attributes) == [name for name, _ in span["attributes"]], (
            "what does not fit stays in the map"
        )


def batch(*numbers: int, first: int = 1) -> Batch:
    made = [Row(first + i, 1, 10, trace_request(n, 10)) for i, n in enumerate(numbers)]
    return Batch(made, made[0].seq, made[-1].seq)


async def store(folder: Path) -> SpanStoreExporter:
    values = read_section(EXPORTERS["span_store"], {"directory": str(folder)}, "x", Notes())
    exporter = SpanStoreExporter("span_store", values, OwnMetrics())
    await exporter.start()
    return exporter


def count(folder: Path, table: str) -> int:
    return sum(pq.read_table(path).num_rows for path in (folder / table).glob("*.parquet"))


async def test_segments_are_sorted_typed_and_named_by_range(tmp_path: Path) -> None:
    exporter = await store(tmp_path)
    await exporter.export(ORIGIN, batch(500, 100, first=7))
    [path] = (tmp_path / "spans").glob("*")
    assert path.name == "01234567-traces~main-0000000000000007-0000000000000008.parquet"
    table = pq.read_table(path)
    assert table.schema.equals(SPANS)
    assert table["trace_lo"].to_pylist() == [n + 1 for n in (*range(100, 110), *range(500, 510))]
    assert pq.read_table(tmp_path / "requests" / path.name).schema.equals(REQUESTS)
    assert json.loads(pq.read_schema(path).metadata[b"taximeter.schema_version"]) == SCHEMA_VERSION


async def test_a_span_is_stored_once_even_after_a_restart(tmp_path: Path) -> None:
    exporter = await store(tmp_path)
    await exporter.export(ORIGIN, batch(0, 5, first=1))  # 0-9 and 5-14
    assert count(tmp_path, "spans") == count(tmp_path, "requests") == 15
    again = await store(tmp_path)
    await again.export(ORIGIN, batch(10, first=3))  # 10-19
    assert count(tmp_path, "spans") == count(tmp_path, "requests") == 20
    assert 'duplicate_spans{exporter="span_store"} 5' in again._own.render()


async def test_the_files_say_how_far_the_store_is(tmp_path: Path) -> None:
    exporter = await store(tmp_path)
    assert exporter.position(ORIGIN, 3) == 3
    await exporter.export(ORIGIN, batch(0, 10, first=4))
    assert exporter.position(ORIGIN, 3) == 5
    assert exporter.position(Origin(SIGNALS["traces"], "traces", ORIGIN.log_id), 3) == 3
    assert exporter.position(Origin(SIGNALS["traces"], "traces/main", "f" * 16), 3) == 3, "another log"


async def test_a_crash_between_the_two_tables_is_made_good(tmp_path: Path) -> None:
    exporter = await store(tmp_path)
    await exporter.export(ORIGIN, batch(0, first=1))
    await exporter.export(ORIGIN, batch(10, first=2))
    [spans] = (tmp_path / "spans").glob("*-0000000000000002-*")
    spans.rename(tmp_path / "spans" / f".{spans.name}.tmp")
    again = await store(tmp_path)
    assert again.position(ORIGIN, 1) == 1
    await again.export(ORIGIN, batch(10, 20, first=2))
    assert count(tmp_path, "requests") == count(tmp_path, "spans") == 30
    assert not list((tmp_path / "spans").glob(".*"))


def test_the_window_forgets_by_time_and_by_number() -> None:
    now = 0.0
    keys = RecentKeys(600, 4, lambda: now)
    keys.add([b"a"])
    now = 601
    keys.add([b"b"])
    assert b"a" in keys
    now = 1202
    keys.add([b"c"])
    assert b"a" not in keys
    assert b"b" in keys
    for name in (b"d", b"e", b"f", b"g"):
        keys.add([name])
    assert len(keys) <= 4
    assert b"g" in keys


def test_an_absurd_time_fits_its_column() -> None:
    request = one_span()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.end_time_unix_nano = (1 << 64) - 1
    span.attributes.add(key="http.response.status_code").value.string_value = "²"
    [row], [asked], _ = rows_of(request, lambda key: True)
    assert row["duration_ns"] == asked["duration_ns"] == (1 << 63) - 1
    assert asked["http_status"] is None


def test_a_segment_that_cannot_be_made_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests without their spans would be delivered again under another name: money twice."""
    values = read_section(EXPORTERS["span_store"], {"directory": str(tmp_path)}, "x", Notes())
    exporter = SpanStoreExporter("span_store", values, OwnMetrics())
    for table in ("spans", "requests"):
        (tmp_path / table).mkdir()
    whole = writer._table

    def broken(rows: Any, schema: Any) -> Any:
        if schema is SPANS:
            raise OverflowError("too big")
        return whole(rows, schema)

    monkeypatch.setattr(writer, "_table", broken)
    row = Row(1, 1, 1, one_span().SerializeToString())
    with pytest.raises(OverflowError):
        exporter._write(ORIGIN, Batch([row], 1, 1))
    assert list(tmp_path.rglob("*.parquet")) == []


def test_evidence_and_the_account_of_inputs_have_columns() -> None:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    from taximeter import semconv
    from taximeter_collector.store.rows import ACCOUNT_COLUMNS, SPAN_COLUMNS, rows_of

    request = trace_service_pb2.ExportTraceServiceRequest()
    span = (
        request.resource_spans.add().scope_spans.add().spans.add(kind=2, trace_id=b"t" * 16, span_id=b"s" * 8)
    )
    told: dict[str, str | int | float] = {
        semconv.EVIDENCE_KEY: "cd9e6d53",
        semconv.CACHE_LOOKUPS: "embedding=-0f1e2d3c4b5a6978",
        semconv.DB_PARAMETERS_HASH: "fcb79fbde2864067",
        semconv.CODE_LINE_NUMBER: 7,
        semconv.SEGMENT: "vip",
        semconv.REQUEST_EMBEDDING_INPUTS: 3,
        semconv.REQUEST_EMBEDDING_DUPLICATES: 1,
        semconv.REQUEST_POOL_WAIT: 0.25,
    }
    for name, value in told.items():
        told_value = AnyValue()
        setattr(
            told_value, {str: "string_value", int: "int_value", float: "double_value"}[type(value)], value
        )
        span.attributes.append(KeyValue(key=name, value=told_value))
    [row], [account], _ = rows_of(request, lambda _: True)
    assert row["evidence_key"] == account["evidence_key"] == "cd9e6d53"
    assert (row["db_parameters"], row["code_line"], row["attributes"]) == ("fcb79fbde2864067", 7, [])
    assert account["cache_keys"] == "embedding=-0f1e2d3c4b5a6978"
    assert (account["segment"], account["pool_wait_s"]) == ("vip", 0.25)
    assert (account["embedding_inputs"], account["embedding_duplicates"]) == (3, 1)
    assert {column for column, _ in SPAN_COLUMNS.values()} <= set(SPANS.names)
    assert {column for column, _ in ACCOUNT_COLUMNS.values()} <= set(REQUESTS.names)
