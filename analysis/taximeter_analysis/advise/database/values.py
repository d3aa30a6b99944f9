"""Ranges of the width that they have in production, though nobody knows their values.

For ``created_at > $1`` a generic plan assumes a third of the table; what is asked for is mostly the last day.
How many rows a call returned is known, so the bounds are taken from the column's histogram such that about as
many rows are to be expected. Where the rows tell nothing (an aggregate returns one), the parameter is left
open.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taximeter_analysis.advise.database.plan import Plan, split
from taximeter_analysis.advise.database.session import Refused, Session
from taximeter_analysis.advise.database.workload import Statement, renumbered

_RANGE = re.compile(r'^(\w+|"[^"]+")\.(\w+|"[^"]+")$')
_WIDTHS = (0, 1, 3, 10, 30, 50)  # of a hundred histogram buckets
_ENOUGH = 2.0  # the estimate is this near already


@dataclass(frozen=True)
class _Range:
    schema: str
    table: str
    column: str
    lower: bool
    parameter: int


def calibrated(session: Session, statement: Statement, plan: Plan) -> Statement:
    """The statement with literals in place of the parameters of its ranges, where rows tell their width."""
    ranges = _ranges(plan)
    if not ranges or statement.rows is None or _hides_rows(plan):
        return statement
    wanted = max(1.0, statement.rows)
    best, nearest = statement, _distance(plan.rows, wanted)
    if nearest <= _ENOUGH:
        return statement
    bounds = {each: _histogram(session, each) for each in ranges}
    if not all(len(each) >= 10 for each in bounds.values()):
        return statement
    for width in _WIDTHS:
        text = statement.planned
        for each, (kind, *values) in bounds.items():
            value = _bound(values, each, width, ranges)
            literal = "'" + value.replace("'", "''") + f"'::{kind}"
            text = re.sub(rf"\${each.parameter}\b(?!::)", literal.replace("\\", "\\\\"), text)
        candidate = replace(statement, planned=renumbered(text)[0])
        with contextlib.suppress(Refused):
            found = _distance(session.explain(candidate.planned).rows, wanted)
            if found < nearest:
                best, nearest = candidate, found
    return best


def _ranges(plan: Plan) -> list[_Range]:
    found = []
    for condition in plan.conditions():
        for operator in (" >= ", " <= ", " > ", " < "):
            sides = split(condition, operator)
            if len(sides) == 2:
                own = _RANGE.match(sides[0].strip())
                parameter = re.fullmatch(r"\$(\d+)", sides[1].strip())
                if own and parameter and own[1] in plan.relations:
                    schema, table = plan.relations[own[1]]
                    column = own[2].strip('"')
                    found.append(_Range(schema, table, column, ">" in operator, int(parameter[1])))
                break
    return list(dict.fromkeys(found))


def _hides_rows(plan: Plan) -> bool:
    """Whether the rows that come say nothing of the rows that were found."""
    top = plan
    while top.kind in ("Gather", "Gather Merge", "Sort", "Incremental Sort", "Result") and top.below:
        top = top.below[0]
    return top.kind in ("Aggregate", "Limit", "Group", "Unique", "ModifyTable", "WindowAgg", "SetOp")


def _distance(rows: float, wanted: float) -> float:
    return max(rows, wanted) / max(1.0, min(rows, wanted))


def _histogram(session: Session, each: _Range) -> list[str]:
    """The column's type, then its histogram's bounds; the type alone where there is none."""
    kind = session.rows(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = %s "
        "AND attrelid = format('%%I.%%I', %s::text, %s::text)::regclass",
        (each.column, each.schema, each.table),
    )
    bounds = session.rows(
        "SELECT unnest(histogram_bounds::text::text[]) FROM pg_stats WHERE schemaname = %s AND "
        "tablename = %s "
        "AND attname = %s AND NOT inherited",
        (each.schema, each.table, each.column),
    )
    return [*(name for (name,) in kind), *(value for (value,) in bounds)]


def _bound(values: Sequence[str], each: _Range, width: int, ranges: Sequence[_Range]) -> str:
    steps = (len(values) - 1) * width // 100 if width else 0
    pair = any(
        (other.table, other.column) == (each.table, each.column) and other.lower != each.lower
        for other in ranges
    )
    if pair:  # a piece out of the middle
        middle = len(values) // 2
        return values[middle] if each.lower else values[min(len(values) - 1, middle + max(0, steps))]
    return values[-1 - steps] if each.lower else values[steps]
