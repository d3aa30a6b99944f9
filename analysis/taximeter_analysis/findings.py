"""What went wrong in single requests: slow ones, slow queries, and statements sent again and again.

Everything names a trace id, so that a person can look at the case itself.
"""

from __future__ import annotations

import math
from typing import Any

from taximeter_analysis.figures import LABEL, split_of
from taximeter_analysis.model import Repeated, RepeatedStatements, Slow, SlowQuery, SlowRequest
from taximeter_analysis.ranks import ranks
from taximeter_analysis.rollup import roll_up
from taximeter_analysis.store import Store
from taximeter_collector.store.schema import MIN_REPEATS, SLOW_STATEMENT_NS

#: Statements slow enough that requests carry them, and those of no request.
_SLOW_STATEMENTS = f"""
SELECT trace_hi, trace_lo, service, label, unnest(slow_statements, recursive := true) FROM (
    SELECT trace_hi, trace_lo, service, {LABEL} AS label, slow_statements FROM req
    WHERE slow_statements IS NOT NULL)
UNION ALL BY NAME
SELECT trace_hi, trace_lo, span_id, service, NULL AS label, start_ns, duration_ns AS ns, statement,
    db_rows AS rows
FROM outside WHERE family = 'db'"""

#: All statements, from the spans.
_STATEMENTS = f"""
SELECT c.trace_hi, c.trace_lo, c.span_id, c.service,
    CASE WHEN r.span_id IS NOT NULL THEN {LABEL} END AS label,
    c.start_ns, c.duration_ns AS ns, c.statement, c.db_rows AS rows
FROM (SELECT * FROM calls WHERE family = 'db') c
LEFT JOIN req r ON r.trace_hi = c.trace_hi AND r.trace_lo = c.trace_lo AND r.span_id = c.owner_id"""


def hex_trace(high: int, low: int) -> str:
    """The 32 hex digits of a trace id stored as two integers."""
    return f"{high:016x}{low:016x}"


def slow(store: Store, threshold_s: float, top: int) -> Slow:
    """Requests and queries that took ``threshold_s`` or longer: their number, and the ``top`` longest."""
    threshold_ns = round(threshold_s * 1e9)
    roll_up(store)
    [(requests_total,)] = store.rows("SELECT coalesce(sum(slow), 0)::BIGINT FROM rolled")
    # The narrow questions first: a slow service has a million slow requests, and ten are shown. They are
    # among the slowest hundredth, whose bound is known, if that has so many.
    held = ranks(store).of_all
    least_ns = threshold_ns
    if held and held[-1].count > 200 * top:
        least_ns = max(least_ns, math.floor(held[-1].value * 1e9) - 1)
    [(shown_from,)] = store.rows(
        f"SELECT list_last(max(duration_ns, {max(1, top):d})) FROM req WHERE duration_ns >= {least_ns:d}"
    )
    requests = store.rows(
        f"""
        SELECT trace_hi, trace_lo, service, {LABEL}, start_ns / 1e9, duration_s, status, failed, tenant,
            split_db_s, split_model_s, split_http_s, db_calls, model_calls, cost_usd
        FROM req WHERE duration_ns >= {shown_from or least_ns:d}
        ORDER BY duration_ns DESC, start_ns, trace_hi, trace_lo LIMIT {top:d}
        """
    )
    queries = store.rows(
        f"""
        SELECT trace_hi, trace_lo, span_id, service, label, start_ns / 1e9, ns / 1e9, statement, rows,
            count(*) OVER ()
        FROM ({_SLOW_STATEMENTS if threshold_ns >= SLOW_STATEMENT_NS else _STATEMENTS}) WHERE ns >= ?
        ORDER BY ns DESC, start_ns, span_id LIMIT ?
        """,
        [threshold_ns, top],
    )
    return Slow(
        threshold_s=threshold_s,
        requests_total=requests_total,
        queries_total=queries[0][-1] if queries else 0,
        requests=tuple(_slow_request(row) for row in requests),
        queries=tuple(SlowQuery(hex_trace(row[0], row[1]), f"{row[2]:016x}", *row[3:-1]) for row in queries),
    )


def _slow_request(row: tuple[Any, ...]) -> SlowRequest:
    (
        high,
        low,
        service,
        label,
        start,
        duration_s,
        status,
        failed,
        tenant,
        db_s,
        model_s,
        http_s,
        *counts,
    ) = row
    return SlowRequest(
        hex_trace(high, low),
        service,
        label,
        start,
        duration_s,
        status,
        failed,
        tenant,
        split_of(db_s, model_s, http_s, duration_s),
        *counts,
    )


def repeated(store: Store, top: int) -> RepeatedStatements:
    """Statements sent at least MIN_REPEATS times within one request, by route: the ``top`` costliest."""
    found = store.rows(
        f"""
        WITH runs AS (
            SELECT service, label, trace_hi, trace_lo, run.statement AS statement, run.times AS repeats,
                run.ns / 1e9 AS seconds
            FROM (SELECT service, {LABEL} AS label, trace_hi, trace_lo, unnest(repeated) AS run
                FROM req WHERE repeated IS NOT NULL)
        )
        SELECT service, label, statement, count(*), median(repeats), max(repeats),
            fsum(seconds) / count(*), fsum(seconds), sum(repeats),
            arg_max(trace_hi, (repeats, seconds, trace_hi, trace_lo)),
            arg_max(trace_lo, (repeats, seconds, trace_hi, trace_lo)),
            count(*) OVER ()
        FROM runs GROUP BY service, label, statement
        ORDER BY fsum(seconds) DESC, label, statement LIMIT ?
        """,
        [top],
    )
    return RepeatedStatements(
        min_repeats=MIN_REPEATS,
        total=found[0][-1] if found else 0,
        shown=tuple(Repeated(*[*row[:9], hex_trace(row[9], row[10])]) for row in found),
    )
