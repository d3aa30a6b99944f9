"""Fills a span store with made-up traffic of the hotel's shape, as the collector would have written it.

Rows are made by DuckDB (seeded), cut into segments in the order in which spans end, so that traces lie
across segments as in life, and written with the collector's own schema, names, order and
compression; then the collector's own upkeep compacts them. Request mix, calls per request, map
entries and the evidence that the agent adds by default (hashes, the line that made a call) follow the demo's.
"""

# ruff: noqa: E501  (SQL reads better in its own lines)
from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taximeter_collector.store.schema import REQUESTS, SCHEMA_VERSION, SPANS, VERSION_KEY
from taximeter_collector.store.segments import segment_name, write_whole
from taximeter_collector.store.upkeep import Rules, keep

SEGMENT_ROWS = 100_000  # the exporter's max_rows
CHUNK_REQUESTS = 100_000  # made at a time: about 700,000 spans
PER_SECOND = 165  # requests: a hundred million spans are about a day
ORDER = [("trace_hi", "ascending"), ("trace_lo", "ascending"), ("start_ns", "ascending")]

#: method, route, weight, database calls, of them one statement again and again, embeddings, chats, HTTP calls
ROUTES = (
    ("POST", "/hotels/{hotel}/chat", 22, 5, 0, 1, 1, 0),
    ("POST", "/hotels/{hotel}/chat/stream", 9, 5, 0, 1, 1, 0),
    ("GET", "/hotels/{hotel}/faq/search", 12, 2, 0, 1, 0, 0),
    ("GET", "/hotels/{hotel}/rooms", 11, 13, 12, 0, 0, 0),
    ("GET", "/hotels/{hotel}/rooms/{room}", 8, 3, 0, 0, 0, 0),
    ("GET", "/hotels/{hotel}/availability", 9, 4, 0, 0, 0, 0),
    ("GET", "/hotels/{hotel}/reservations", 5, 21, 20, 0, 0, 0),
    ("POST", "/hotels/{hotel}/reservations", 3, 5, 0, 0, 0, 1),
    ("GET", "/hotels/{hotel}/reservations/{reservation}", 3, 2, 0, 0, 0, 0),
    ("DELETE", "/hotels/{hotel}/reservations/{reservation}", 1, 3, 0, 0, 0, 0),
    ("GET", "/hotels/{hotel}", 8, 1, 0, 0, 0, 0),
    ("GET", "/hotels/{hotel}/policies", 5, 2, 0, 0, 0, 0),
    ("GET", "/hotels/{hotel}/booking/external", 2, 1, 0, 0, 0, 2),
    ("GET", "/admin/hotels/{hotel}/stats", 1, 6, 0, 0, 0, 0),
    ("GET", "/health", 1, 0, 0, 0, 0, 0),
)


@dataclass(frozen=True)
class Made:
    """What was written, and how long the parts took (seconds)."""

    spans: int
    requests: int
    make_s: float
    write_s: float
    compact_s: float
    bytes_before: int
    bytes_after: int


def fill(store: Path, spans: int, *, seed: int = 1, tell: bool = False) -> Made:
    """Write a store of at least ``spans`` spans and compact it."""
    for table in ("spans", "requests"):
        (store / table).mkdir(parents=True)
    written = requests = 0
    make_s = write_s = 0.0
    sequence = 1
    begin_ns = time.time_ns() - int((spans / 7 / PER_SECOND + 7200) * 1e9)
    with duckdb.connect(config={"threads": 1, "memory_limit": "1500MB"}) as db:
        db.execute(f"SELECT setseed({(seed % 100) / 100})")
        db.execute(_ROUTES)
        db.execute(_PROMPTS)
        chunk = 0
        while written < spans:
            started = time.monotonic()
            span_rows, request_rows = _chunk(db, chunk, begin_ns)
            make_s += time.monotonic() - started
            started = time.monotonic()
            reached = 0
            for at in range(0, span_rows.num_rows, SEGMENT_ROWS):
                part = span_rows.slice(at, SEGMENT_ROWS)
                last = part.column("end_ns")[-1].as_py()
                ends = request_rows.column("end_ns")
                mine = request_rows.filter(pc.and_(pc.greater(ends, reached), pc.less_equal(ends, last)))
                reached = last
                requests += _write(store / "requests", REQUESTS, mine, sequence, last)
                written += _write(store / "spans", SPANS, part, sequence, last)
                sequence += 1
            write_s += time.monotonic() - started
            chunk += 1
            if tell and chunk % 10 == 0:
                print(f"  {written:,} spans", flush=True)
    before = size_of(store)
    started = time.monotonic()
    keep(store, Rules(), now=lambda: time.time() + 86400, grace_s=-1e9)
    compact_s = time.monotonic() - started
    return Made(written, requests, make_s, write_s, compact_s, before, size_of(store))


def size_of(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*.parquet"))


def _write(folder: Path, schema: pa.Schema, rows: pa.Table, sequence: int, last_ns: int) -> int:
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    metadata = {VERSION_KEY: str(SCHEMA_VERSION)}
    table = pa.Table.from_arrays(columns, schema=schema.with_metadata(metadata)).sort_by(ORDER)
    path = folder / segment_name("0badcafe-traces", sequence, sequence)
    write_whole(path, lambda file: pq.write_table(table, file, compression="zstd"))
    os.utime(path, (last_ns / 1e9, last_ns / 1e9))
    return int(table.num_rows)


def _chunk(db: duckdb.DuckDBPyConnection, number: int, begin_ns: int) -> tuple[pa.Table, pa.Table]:
    db.execute(_REQUESTS, {"n": CHUNK_REQUESTS, "offset": number * CHUNK_REQUESTS, "begin": begin_ns})
    db.execute(_CALLS)
    spans = db.sql(_SPANS).to_arrow_table()
    requests = db.sql(_ACCOUNTS).to_arrow_table()
    return spans, requests


_ROUTES = f"""
CREATE TABLE routes AS SELECT *, sum(weight) OVER (ORDER BY method, route) AS upto FROM (VALUES {
    ", ".join(str(row) for row in ROUTES)
}) t(method, route, weight, dbs, again, embeds, chats, https)"""
#: A hotel's instructions: the same blocks in every prompt of its.
_PROMPTS = """
CREATE TABLE prompts AS SELECT hotel, string_agg('s128:' || lpad(to_hex(hash(hotel // 8, block, 9)), 16, '0'), ' ' ORDER BY block) AS prompt
FROM range(41) h(hotel), range(12) b(block) GROUP BY hotel"""
_TOTAL = sum(row[2] for row in ROUTES)
_NORMAL = "sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())"
_REQUESTS = f"""
CREATE OR REPLACE TEMP TABLE drawn AS
SELECT $offset + i AS id, hash($offset + i, 1) AS trace_hi, hash($offset + i, 2) AS trace_lo,
    hash($offset + i, 3) AS span_id, $begin + (($offset + i) * 1e9 / {PER_SECOND})::BIGINT AS start_ns,
    random() * {_TOTAL} AS draw, (random() ** 2 * 40)::INT AS hotel, random() < 0.006 AS failed,
    random() < 0.43 AS hit, hash((random() ** 3 * 200000)::INT, 7) AS asked
FROM range($n) t(i)"""
_CALLS = f"""
CREATE OR REPLACE TEMP TABLE chosen AS
SELECT d.*, r.* EXCLUDE (weight, upto) FROM drawn d ASOF JOIN routes r ON d.draw < r.upto;
CREATE OR REPLACE TEMP TABLE calls AS
WITH each AS (
    SELECT c.*, k, CASE WHEN k < embeds * (NOT hit)::INT THEN 'embeddings'
        WHEN k < embeds * (NOT hit)::INT + dbs THEN 'db' WHEN k < embeds * (NOT hit)::INT + dbs + https THEN 'http'
        ELSE 'chat' END AS what,
        k >= embeds * (NOT hit)::INT + dbs - again AS repeats, {_NORMAL} AS z, random() AS u
    FROM chosen c, LATERAL (SELECT unnest(range((embeds * (NOT hit)::INT + dbs + https + chats)::BIGINT)) AS k)
)
SELECT *, (exp(CASE what WHEN 'db' THEN 0.3 + 0.6 * z WHEN 'embeddings' THEN 3.9 + 0.3 * z
        WHEN 'http' THEN 6.5 + 0.5 * z ELSE 6.8 + 0.4 * z END) * 1e6)::BIGINT AS took,
    hash(id, k, 4) AS call_id,
    CASE what WHEN 'embeddings' THEN 6 + (u * 20)::INT WHEN 'chat' THEN 1400 + (u * 1200)::INT END AS tokens_in,
    CASE what WHEN 'chat' THEN 60 + (z * z * 60)::INT END AS tokens_out
FROM each;
CREATE OR REPLACE TEMP TABLE placed AS
SELECT *, start_ns + 500000 + coalesce(sum(took + 150000) OVER (
    PARTITION BY id ORDER BY k ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::BIGINT AS call_start,
    CASE what WHEN 'embeddings' THEN tokens_in * 0.02e-6
         WHEN 'chat' THEN tokens_in * 0.25e-6 + tokens_out * 2e-6 END AS cost
FROM calls;
CREATE OR REPLACE TEMP TABLE served AS
SELECT c.*, 900000 + coalesce(p.took, 0)::BIGINT AS duration_ns, p.* EXCLUDE (id, took) FROM chosen c LEFT JOIN (
    SELECT id, sum(took + 150000) AS took, sum(took) FILTER (what = 'db') / 1e9 AS db_s,
        count(*) FILTER (what = 'embeddings') AS embedded, coalesce(sum(tokens_in), 0) AS tin,
        coalesce(sum(tokens_out), 0) AS tout, coalesce(fsum(cost), 0) AS cost
    FROM placed GROUP BY id) p USING (id)"""
_ACCOUNTS = """
SELECT trace_hi, trace_lo, span_id, 'hotel-chat' AS service, 'one' AS instance, '1' AS version, start_ns,
    duration_ns, start_ns + duration_ns AS end_ns, method AS http_method, route AS http_route,
    CASE WHEN failed THEN 500 ELSE 200 END AS http_status, failed AS error, 'hotel-' || hotel AS tenant, '' AS flags,
    dbs AS db_calls, coalesce(db_s, 0) AS db_duration_s, greatest(again - 1, 0) AS db_repeated,
    chats AS model_calls, chats + coalesce(embedded, 0) AS model_attempts, coalesce(embedded, 0) AS embedding_calls,
    coalesce(tin, 0)::BIGINT AS input_tokens, coalesce(tout, 0)::BIGINT AS output_tokens, 0 AS cached_tokens,
    coalesce(cost, 0) AS cost_usd, 0 AS unpriced_calls, embeds AS cache_lookups,
    embeds - coalesce(embedded, 0) AS cache_hits, duration_ns * 0.98 / 1e9 AS first_byte_s,
    route LIKE '%/stream' AS streamed, CASE WHEN embeds > 0 THEN 'cd9e6d53' END AS evidence_key,
    coalesce(embedded, 0) AS embedding_inputs, 0 AS embedding_duplicates,
    CASE WHEN embeds > 0 THEN 'embedding=' || CASE WHEN hit THEN '+' ELSE '-' END || lpad(to_hex(asked), 16, '0')
        || '/' || lpad(to_hex(hash(asked, 8)), 16, '0') END AS cache_keys
FROM served"""
_SPANS = """
SELECT * FROM (
SELECT trace_hi, trace_lo, span_id, NULL::UBIGINT AS parent_id, method || ' ' || route AS name, 'server' AS kind,
    'hotel-chat' AS service, 'one' AS instance, '1' AS version, 'opentelemetry.instrumentation.asgi' AS scope,
    start_ns, duration_ns, start_ns + duration_ns AS end_ns, CASE WHEN failed THEN 'error' ELSE 'unset' END AS status,
    'hotel-' || hotel AS tenant, method AS http_method, route AS http_route,
    CASE WHEN failed THEN 500 ELSE 200 END AS http_status, NULL AS db_system, NULL AS db_operation,
    NULL AS db_summary, NULL AS db_statement, NULL AS ai_operation, NULL AS ai_provider, NULL AS ai_request_model,
    NULL AS ai_response_model, NULL AS ai_input_tokens, NULL AS ai_output_tokens, NULL AS ai_cache_read_tokens,
    NULL AS cost_usd, NULL AS evidence_key, NULL::BIGINT AS embedding_inputs, NULL AS embedding_exact,
    NULL AS embedding_normalised, NULL AS prompt_blocks, NULL AS db_parameters, NULL AS code_path,
    NULL::BIGINT AS code_line, NULL AS code_function, NULL AS code_callers,
    MAP {'url.path': replace(route, '{hotel}', hotel::VARCHAR), 'server.address': '127.0.0.1', 'server.port': '8000',
         'network.protocol.version': '1.1', 'user_agent.original': 'python-httpx/0.28.1'} AS attributes
FROM served
UNION ALL
SELECT trace_hi, trace_lo, call_id, span_id,
    CASE what WHEN 'db' THEN 'SELECT hotel' WHEN 'http' THEN 'GET' ELSE what || ' model' END, 'client', 'hotel-chat',
    'one', '1', CASE what WHEN 'db' THEN 'opentelemetry.instrumentation.psycopg' WHEN 'http'
        THEN 'opentelemetry.instrumentation.httpx' ELSE 'opentelemetry.instrumentation.genai' END,
    call_start, took, call_start + took, 'unset', 'hotel-' || hotel, CASE what WHEN 'http' THEN 'GET' END, NULL,
    CASE what WHEN 'http' THEN 200 END, CASE what WHEN 'db' THEN 'postgresql' END,
    CASE what WHEN 'db' THEN 'SELECT' END, CASE what WHEN 'db' THEN 'SELECT things' END,
    CASE what WHEN 'db' THEN 'SELECT id, name, description, created_at, updated_at FROM ' ||
        CASE WHEN repeats THEN 'details' ELSE 'table_' || (k % 4)::VARCHAR END || ' WHERE hotel_id = %s AND ' ||
        split_part(route, '/', -1) || '_id = %s ORDER BY created_at' END,
    CASE WHEN what IN ('chat', 'embeddings') THEN what END, CASE WHEN what IN ('chat', 'embeddings') THEN 'openai' END,
    CASE what WHEN 'chat' THEN 'gpt-5-mini' WHEN 'embeddings' THEN 'text-embedding-3-small' END,
    CASE what WHEN 'chat' THEN 'gpt-5-mini' WHEN 'embeddings' THEN 'text-embedding-3-small' END,
    tokens_in, tokens_out, CASE what WHEN 'chat' THEN 0 END, cost, CASE WHEN what <> 'http' THEN 'cd9e6d53' END,
    CASE what WHEN 'embeddings' THEN 1 END, CASE what WHEN 'embeddings' THEN lpad(to_hex(asked), 16, '0') END,
    CASE what WHEN 'embeddings' THEN lpad(to_hex(hash(asked, 8)), 16, '0') END,
    CASE what WHEN 'chat' THEN prompt || ' u' || (u * 20)::INT || ':' || lpad(to_hex(hash(id, 10)), 16, '0') END,
    CASE what WHEN 'db' THEN lpad(to_hex(hash(hotel, route, k, (u * 200)::INT)), 16, '0') END,
    CASE WHEN what <> 'http' THEN 'app/' || split_part(route, '/', 2) || '.py' END,
    CASE WHEN what <> 'http' THEN (hash(route, k) % 400)::BIGINT END,
    CASE WHEN what <> 'http' THEN what || '_of_' || split_part(route, '/', -1) END,
    CASE WHEN what <> 'http' THEN 'app/main.py:' || (hash(route) % 400) || ' handle' END,
    CASE what WHEN 'db' THEN MAP {'db.namespace': 'hotel', 'server.address': '127.0.0.1', 'server.port': '5432'}
        WHEN 'http' THEN MAP {'server.address': 'booking.example', 'url.full': 'https://booking.example/v1'}
        ELSE MAP {'server.address': 'api.openai.com', 'gen_ai.response.id': 'resp-' || to_hex(call_id)} END
FROM placed LEFT JOIN prompts USING (hotel)
) ORDER BY end_ns"""
