"""What went wrong in single requests: slow ones, slow queries, and statements sent again and again.

Everything names a trace id, so that a person can look at the case itself.
"""

from __future__ import annotations

from typing import Any

from taximeter_analysis.figures import LABEL, split_of
from taximeter_analysis.model import Repeated, RepeatedStatements, Slow, SlowQuery, SlowRequest
from taximeter_analysis.store import Store

MIN_REPEATS = 5


def hex_trace(high: int, low: int) -> str:
    """The 32 hex digits of a trace id stored as two integers."""
    return f"{high:016x}{low:016x}"


def slow(store: Store, threshold_s: float, top: int) -> Slow:
    """Requests and queries that took ``threshold_s`` or longer: their number, and the ``top`` longest."""
    requests = store.rows(
        f"""
        SELECT trace_hi, trace_lo, service, {LABEL}, start_ns / 1e9, duration_s, status, failed, tenant,
            split_db_s, split_model_s, db_calls, model_calls, cost_usd, count(*) OVER ()
        FROM req WHERE duration_s >= ? ORDER BY duration_ns DESC, rid LIMIT ?
        """,
        [threshold_s, top],
    )
    queries = store.rows(
        f"""
        SELECT c.trace_hi, c.trace_lo, c.span_id, c.service, CASE WHEN r.rid IS NOT NULL THEN {LABEL} END,
            c.start_ns / 1e9, c.duration_ns / 1e9, c.statement, c.db_rows, count(*) OVER ()
        FROM calls c LEFT JOIN req r USING (rid)
        WHERE c.family = 'db' AND c.duration_ns / 1e9 >= ?
        ORDER BY c.duration_ns DESC, c.start_ns, c.span_id LIMIT ?
        """,
        [threshold_s, top],
    )
    return Slow(
        threshold_s=threshold_s,
        requests_total=requests[0][-1] if requests else 0,
        queries_total=queries[0][-1] if queries else 0,
        requests=tuple(_slow_request(row) for row in requests),
        queries=tuple(SlowQuery(hex_trace(row[0], row[1]), f"{row[2]:016x}", *row[3:-1]) for row in queries),
    )


def _slow_request(row: tuple[Any, ...]) -> SlowRequest:
    high, low, service, label, start, duration_s, status, failed, tenant, db_s, model_s, *counts, _ = row
    return SlowRequest(
        hex_trace(high, low),
        service,
        label,
        start,
        duration_s,
        status,
        failed,
        tenant,
        split_of(db_s, model_s, duration_s),
        *counts,
    )


def repeated(store: Store, top: int, min_repeats: int = MIN_REPEATS) -> RepeatedStatements:
    """Statements sent at least ``min_repeats`` times within one request, by route: the ``top`` costliest."""
    found = store.rows(
        f"""
        WITH runs AS (
            SELECT rid, statement, count(*) AS repeats, sum(duration_ns) / 1e9 AS seconds
            FROM calls WHERE family = 'db' AND rid IS NOT NULL AND statement IS NOT NULL
            GROUP BY rid, statement HAVING count(*) >= ?
        )
        SELECT r.service, {LABEL} AS label, u.statement, count(*), median(u.repeats), max(u.repeats),
            fsum(u.seconds) / count(*), fsum(u.seconds), sum(u.repeats),
            arg_max(r.trace_hi, (u.repeats, u.seconds, r.rid)),
            arg_max(r.trace_lo, (u.repeats, u.seconds, r.rid)),
            count(*) OVER ()
        FROM runs u JOIN req r USING (rid)
        GROUP BY r.service, label, u.statement
        ORDER BY fsum(u.seconds) DESC, label, u.statement LIMIT ?
        """,
        [min_repeats, top],
    )
    return RepeatedStatements(
        min_repeats=min_repeats,
        total=found[0][-1] if found else 0,
        shown=tuple(Repeated(*[*row[:9], hex_trace(row[9], row[10])]) for row in found),
    )
