"""The same questions in SQLite: the same rows, indexed, and the figures a report is made of.

Durations in nanoseconds, as in the store. SQLite has no quantiles: they are ordered and counted by window
functions, which is how one asks for them there.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import duckdb

VERSION = sqlite3.sqlite_version

_SPANS = (
    "trace_hi", "trace_lo", "span_id", "parent_id", "kind", "start_ns", "duration_ns", "status", "db_system",
    "db_statement", "ai_operation", "ai_provider", "ai_response_model", "ai_input_tokens", "ai_output_tokens",
    "cost_usd",
)  # fmt: skip
_REQUESTS = (
    "trace_hi", "trace_lo", "span_id", "start_ns", "duration_ns", "http_method", "http_route", "http_status",
    "error", "tenant", "db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens",
    "cost_usd", "cache_lookups", "cache_hits", "first_byte_s", "streamed",
)  # fmt: skip
_SUMS = "count(*), sum(error), sum(db_calls), sum(model_calls), sum(embedding_calls), sum(input_tokens), " \
    "sum(output_tokens), sum(cost_usd), sum(cache_lookups), sum(cache_hits)"  # fmt: skip

QUESTIONS = {
    "sums by route": f"SELECT http_method, http_route, {_SUMS} FROM requests GROUP BY 1, 2",
    "P50, P95, P99 by route": """
        SELECT http_method, http_route, max(CASE WHEN place = (n * 50 + 99) / 100 THEN duration_ns END),
            max(CASE WHEN place = (n * 95 + 99) / 100 THEN duration_ns END),
            max(CASE WHEN place = (n * 99 + 99) / 100 THEN duration_ns END) FROM (
            SELECT http_method, http_route, duration_ns,
                row_number() OVER (PARTITION BY http_method, http_route ORDER BY duration_ns) AS place,
                count(*) OVER (PARTITION BY http_method, http_route) AS n FROM requests) GROUP BY 1, 2""",
    "money by tenant": f"SELECT tenant, {_SUMS} FROM requests GROUP BY 1",
    "calls, tokens, money by model": """
        SELECT ai_response_model, ai_provider, ai_operation, count(*), sum(ai_input_tokens),
            sum(ai_output_tokens), sum(cost_usd), max(duration_ns) FROM spans
        WHERE ai_operation IS NOT NULL GROUP BY 1, 2, 3""",
    "slow requests and queries": """
        SELECT count(*) FROM requests WHERE duration_ns >= 2000000000 UNION ALL
        SELECT count(*) FROM spans WHERE db_system IS NOT NULL AND duration_ns >= 2000000000""",
    "repeated statements": """
        SELECT db_statement, count(*), sum(times) FROM (
            SELECT trace_hi, trace_lo, db_statement, count(*) AS times FROM spans
            WHERE db_system IS NOT NULL GROUP BY 1, 2, 3 HAVING count(*) >= 5) GROUP BY 1""",
    "the course of time": """
        SELECT start_ns / 600000000000, count(*), sum(error), sum(cost_usd) FROM requests GROUP BY 1""",
}


def fill(store: Path, database: Path) -> float:
    """Copy the store's rows; returns the seconds it took."""
    begin = time.monotonic()
    with sqlite3.connect(database) as db, duckdb.connect(config={"threads": 1}) as source:
        db.executescript("PRAGMA journal_mode = off; PRAGMA synchronous = off;")
        for table, columns in (("spans", _SPANS), ("requests", _REQUESTS)):
            # ids as SQLite has them: signed
            wanted = ", ".join(
                f"({name}::HUGEINT - 9223372036854775808)::BIGINT" if name.endswith(("_hi", "_lo", "_id"))
                else name
                for name in columns
            )  # fmt: skip
            db.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            rows = source.execute(f"SELECT {wanted} FROM read_parquet('{store}/{table}/*.parquet')")
            marks = ", ".join("?" * len(columns))
            while part := rows.fetchmany(50_000):
                db.executemany(f"INSERT INTO {table} VALUES ({marks})", part)
        db.execute("CREATE INDEX by_route ON requests (http_method, http_route, duration_ns)")
        db.execute("CREATE INDEX by_trace ON spans (trace_hi, trace_lo)")
    return time.monotonic() - begin


def ask(database: Path) -> dict[str, float]:
    """Seconds of each question."""
    took = {}
    with sqlite3.connect(database) as db:
        for name, sql in QUESTIONS.items():
            begin = time.monotonic()
            db.execute(sql).fetchall()
            took[name] = time.monotonic() - begin
    return took
