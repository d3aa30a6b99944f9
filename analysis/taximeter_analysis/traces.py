"""Single requests and their traces: a route's slowest or latest requests, and one trace as a waterfall."""

from __future__ import annotations

import re
from typing import Any

from taximeter_analysis.figures import LABEL
from taximeter_analysis.findings import hex_trace
from taximeter_analysis.model import Bar, Waterfall
from taximeter_analysis.rollup import roll_up
from taximeter_analysis.store import Store

MAX_BARS = 200
_ORDERS = {"slowest": "duration_ns DESC", "latest": "start_ns DESC", "costliest": "cost_usd DESC NULLS LAST"}


def parse_trace(text: str) -> tuple[int, int] | None:
    """The two halves of a trace id of 32 hex digits; None for anything else."""
    found = re.fullmatch(r"[0-9a-f]{32}", text)
    return (int(text[:16], 16), int(text[16:], 16)) if found else None


def requests_of(
    store: Store, key: tuple[str | None, str | None, str | None], order: str, limit: int = 50
) -> list[dict[str, Any]]:
    """Requests of a route (service, method, route): the ``slowest``, ``latest`` or ``costliest`` selected."""
    names = ("trace_hi", "trace_lo", "start", "duration_s", "status", "failed", "tenant", "db_calls",
             "model_calls", "cost_usd")  # fmt: skip
    rows = store.rows(
        f"""
        SELECT trace_hi, trace_lo, start_ns / 1e9, duration_s, status, failed, tenant, db_calls, model_calls,
            cost_usd
        FROM req WHERE service IS NOT DISTINCT FROM ? AND method IS NOT DISTINCT FROM ?
          AND route IS NOT DISTINCT FROM ?
        ORDER BY {_ORDERS[order]}, start_ns DESC, trace_hi, trace_lo LIMIT {limit:d}
        """,
        list(key),
    )
    return [
        {"trace_id": hex_trace(row[0], row[1]), **dict(zip(names[2:], row[2:], strict=True))} for row in rows
    ]


def longest(store: Store) -> Waterfall | None:
    """The longest request's trace; None when no request was selected."""
    roll_up(store)
    [(most,)] = store.rows("SELECT max(longest_ns) FROM rolled")
    if most is None:
        return None
    found = store.rows(  # a constant: most row groups are passed over by their statistics
        f"SELECT trace_hi, trace_lo FROM req WHERE duration_ns >= {most:d} "
        "ORDER BY start_ns, trace_hi, trace_lo LIMIT 1"
    )
    return waterfall(store, *found[0]) if found else None


def waterfall(store: Store, high: int, low: int) -> Waterfall | None:
    """A trace, span by span; None when the store has no span of it.

    Its label and times are those of its longest request, else of its longest span.
    """
    spans = store.rows(
        """
        SELECT span_id, parent_id, name, service, kind, start_ns, duration_ns, status = 'error',
            db_system, ai_operation, coalesce(db_statement, ai_response_model, ai_request_model), http_method,
            CASE WHEN isfinite(cost_usd) THEN cost_usd END
        FROM spans WHERE trace_hi = ? AND trace_lo = ?
        """,
        [high, low],
    )
    if not spans:
        return None
    head = store.rows(
        f"SELECT start_ns, duration_ns, {LABEL} FROM "
        "(SELECT *, http_method AS method, http_route AS route FROM requests "
        "WHERE trace_hi = ? AND trace_lo = ?) "
        "ORDER BY duration_ns DESC LIMIT 1",
        [high, low],
    )
    longest_span = max(spans, key=lambda row: row[6])
    start_ns, duration_ns, label = head[0] if head else (longest_span[5], longest_span[6], longest_span[2])
    parent = {row[0]: row[1] for row in spans}
    begins = {row[0]: row[5] for row in spans}

    def chain(span_id: int) -> list[int]:
        found = [span_id]
        while (above := parent.get(found[-1])) in parent and above not in found:
            assert above is not None
            found.append(above)
        return found[::-1]

    # Parents before their children, siblings by start: the order in which a person reads a trace.
    paths = {row[0]: chain(row[0]) for row in spans}
    spans.sort(key=lambda row: [(begins[span], span) for span in paths[row[0]]])
    bars = tuple(_bar(row, len(paths[row[0]]) - 1, start_ns) for row in spans[:MAX_BARS])
    return Waterfall(hex_trace(high, low), label or "(no name)", duration_ns / 1e9, len(spans), bars)


def _bar(row: tuple[Any, ...], depth: int, start_ns: int) -> Bar:
    name, service, kind, begin, duration, failed, database, operation, detail, method, cost = row[2:]
    return Bar(
        name=name or "(no name)",
        detail=detail,
        service=service,
        group=_group(kind, operation, database, method),
        depth=depth,
        offset_s=(begin - start_ns) / 1e9,
        duration_s=duration / 1e9,
        error=failed,
        cost_usd=cost,
    )


def _group(kind: str | None, operation: str | None, database: str | None, method: str | None) -> str:
    if kind == "server":
        return "request"
    if operation:
        return "model"
    if database:
        return "db"
    return "http" if kind == "client" and method else "other"
