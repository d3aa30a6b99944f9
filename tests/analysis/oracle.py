"""The report's figures computed a second time, in plain Python, from the rows themselves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Rows = list[dict[str, Any]]


def nearest_rank(values: Iterable[float], percent: int) -> float:
    """The ceil(percent/100 * n)-th smallest, in integers so that nothing rounds."""
    ordered = sorted(values)
    return ordered[-(-percent * len(ordered) // 100) - 1]


def total(rows: Rows, column: str) -> float | int | None:
    """Sum of a column, None when no row has it."""
    values = [row[column] for row in rows if row.get(column) is not None]
    if not values:
        return None
    return math.fsum(values) if any(isinstance(value, float) for value in values) else sum(values)


def failed(row: dict[str, Any]) -> bool:
    return bool(row["error"]) or (row["http_status"] or 0) >= 500


def group(rows: Rows, *columns: str) -> dict[tuple[Any, ...], Rows]:
    groups: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(column) for column in columns)].append(row)
    return groups


def covered(spells: Iterable[tuple[int, int]]) -> int:
    """How many nanoseconds at least one of the spells covers."""
    length, reach = 0, -(2**62)
    for begin, end in sorted(spells):
        length += max(0, end - max(begin, reach))
        reach = max(reach, end)
    return length


def is_db(span: dict[str, Any]) -> bool:
    return span.get("db_system") is not None


def is_ai(span: dict[str, Any]) -> bool:
    return span.get("ai_operation") is not None


def is_http(span: dict[str, Any]) -> bool:
    return span.get("http_method") is not None and not is_db(span) and not is_ai(span)


def split(request: dict[str, Any], spans: Rows) -> tuple[float, float, float, float]:
    """Database, model, other calls' and own seconds of one request, from the spans of its trace."""
    begin, end = request["start_ns"], request["start_ns"] + request["duration_ns"]

    def spells(chosen: Rows) -> list[tuple[int, int]]:
        clipped = [
            (max(begin, span["start_ns"]), min(end, span["start_ns"] + span["duration_ns"]))
            for span in chosen
        ]
        return [spell for spell in clipped if spell[1] > spell[0]]

    mine = [span for span in spans if span["trace_hi"] == request["trace_hi"] and span["kind"] == "client"]
    model = covered(spells([span for span in mine if is_ai(span)]))
    either = covered(spells([span for span in mine if is_ai(span) or is_db(span)]))
    busy = covered(spells([span for span in mine if is_ai(span) or is_db(span) or is_http(span)]))
    parts = (either - model, model, busy - either, request["duration_ns"] - busy)
    db_s, model_s, http_s, own_s = (part / 1e9 for part in parts)
    return db_s, model_s, http_s, own_s
