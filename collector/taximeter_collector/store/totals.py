"""What the requests of a compacted segment come to, by service, version, route and tenant.

Compaction keeps these sums in the segment's metadata, so that a report over many whole segments adds up
some hundred rows of each instead of reading all. The same text makes them there and in the reader
(`COLUMNS`), so both mean the same.

Only where they can be exact: every request of the segment carries its whole account, so that nothing about it
depends on what other segments hold but the ``seen_*`` and ``split_*`` sums, and the reader knows by how much.
"""

from __future__ import annotations

import base64
from pathlib import Path

import duckdb
import pyarrow as pa

from taximeter_collector.store import sums
from taximeter_collector.store.schema import SCHEMA_VERSION

TOTALS_KEY = f"taximeter.totals.{SCHEMA_VERSION}"  # in the Parquet metadata of a segment of requests
SLOW_NS = 2_000_000_000  # of ``slow``
_MOST = 4_000  # groups: more would be rows under another name

COUNTS = (
    "db_calls", "model_calls", "model_attempts", "embedding_calls", "input_tokens", "output_tokens",
    "cached_tokens", "unpriced_calls", "cache_lookups", "cache_hits", "embedding_inputs",
    "embedding_duplicates", "seen_db_calls", "seen_model_calls", "seen_embedding_calls", "seen_input_tokens",
    "seen_output_tokens", "seen_cached_tokens", "duration_ns",
)  # fmt: skip
REALS = (
    "db_s", "cost_usd", "split_db_s", "split_model_s", "split_http_s", "seen_cost_usd",
)  # fmt: skip
#: The figures whose deviation is kept.
SPREAD = ("db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens", "cost_usd")

#: The sums of some requests (columns of the reader's ``req``); ``{slow_ns}`` is from where on one is slow.
COLUMNS = f"""
count(*) AS requests, count(*) FILTER (failed) AS errors,
count(*) FILTER (streamed) AS streams, count(streamed) AS streamable, max(duration_ns) AS longest_ns,
count(*) FILTER (derived) AS derived, count(*) FILTER (duration_ns >= {{slow_ns}}) AS slow,
count(first_byte_s) AS first_bytes, min(start_ns) AS first_ns, max(end_ns) AS last_ns,
{", ".join(f"sum({name}) AS {name}" for name in COUNTS)},
{", ".join(f"fsum({name}) AS {name}" for name in REALS)},
{", ".join(f"count({name}) AS n_{name}, var_pop({name}) AS var_{name}" for name in SPREAD)}"""

FAILED = "coalesce(error, false) OR coalesce(http_status >= 500, false)"

_ACCOUNT = (
    "db_calls", "db_duration_s", "model_calls", "embedding_calls", "input_tokens", "output_tokens",
    "cached_tokens", "cost_usd", "unpriced_calls",
)  # fmt: skip
_WHOLE = " AND ".join(
    f"coalesce(isfinite({name}), false)" if name in ("db_duration_s", "cost_usd") else f"{name} IS NOT NULL"
    for name in _ACCOUNT
)
_REQ = f"""
SELECT * EXCLUDE (start_ns, duration_ns, first_byte_s, error), http_method AS method, http_route AS route,
    {FAILED} AS failed, false AS derived, db_duration_s AS db_s, start_ns + duration_ns AS end_ns, start_ns,
    duration_ns, {sums.finite("first_byte_s")}, busy_db_ns / 1e9 AS split_db_s,
    busy_model_ns / 1e9 AS split_model_s, busy_http_ns / 1e9 AS split_http_s
FROM (SELECT * EXCLUDE (start_ns, duration_ns), {sums.SANE} FROM rows)"""


def totals_of(db: duckdb.DuckDBPyConnection, table: str) -> str | None:
    """The text for the metadata of a segment with these summed-up rows; None where it would not be exact.

    Sums beyond 64 bits are refused as well: whoever sent them will be read row by row.
    """
    [(partial,)] = db.execute(f"SELECT count(*) FROM {table} WHERE NOT ({_WHOLE})").fetchall()
    if partial:
        return None
    whole = ", ".join(f"{name}::BIGINT AS {name}" for name in COUNTS)
    request = _REQ.replace("FROM rows", f"FROM {table}")
    try:
        found = db.sql(
            f"SELECT * REPLACE ({whole}) FROM (SELECT service, version, method, route, tenant, "
            f"{COLUMNS.format(slow_ns=SLOW_NS)} FROM ({request}) GROUP BY ALL)"
        ).to_arrow_table()
    except duckdb.ConversionException:
        return None
    if found.num_rows > _MOST:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(found)
    return base64.b64encode(sink.getvalue()).decode()


def read_totals(db: duckdb.DuckDBPyConnection, files: list[Path]) -> dict[str, pa.Table]:
    """The totals of those segments that have them, by file name."""
    if not files:
        return {}
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    found = db.execute(
        f"SELECT file_name, value FROM parquet_kv_metadata([{names}]) WHERE key::VARCHAR = '{TOTALS_KEY}'"
    ).fetchall()
    return {name: pa.ipc.open_stream(base64.b64decode(value)).read_all() for name, value in found}
