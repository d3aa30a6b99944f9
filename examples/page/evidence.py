"""The traces that the links of a page lead to, looked up in the span store.

The alert carries a search (TraceQL, for Tempo); the store answers the same question here, so that
a rehearsal shows a trace although no Tempo runs. Exemplars of the route give trace ids as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taximeter_analysis import open_store


@dataclass(frozen=True)
class Repeats:
    """One trace with the statement that it repeats most."""

    trace_id: str
    times: int
    statement: str

    def __str__(self) -> str:
        return f"trace {self.trace_id}: {self.times} x {self.statement}"


def repeated_statements(store: Path, route: str, trace_ids: list[str]) -> Repeats | None:
    """Of these traces of the route, the one that repeats a statement most; None if none is stored."""
    with open_store(store) as spans:
        found = spans.rows(
            "SELECT printf('%016x%016x', s.trace_hi, s.trace_lo) AS trace, any_value(s.db_statement), "
            "count(*) AS times FROM spans s JOIN requests r USING (trace_hi, trace_lo) "
            "WHERE s.db_statement IS NOT NULL AND r.http_route = $route "
            "AND list_contains($traces, printf('%016x%016x', s.trace_hi, s.trace_lo)) "
            "GROUP BY trace, s.db_statement HAVING times > 1 ORDER BY times DESC, trace LIMIT 1",
            {"route": route, "traces": trace_ids},
        )
    return Repeats(found[0][0], found[0][2], " ".join(found[0][1].split())) if found else None
