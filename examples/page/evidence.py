"""The traces that the links of a page lead to, and the N+1 in one of them.

The page links a search (TraceQL). Where a Tempo runs, that very search is sent to it. Elsewhere the span
store is asked for the traces that exemplars of the page's route name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from examples.page.tempo import Tempo
from taximeter_analysis import open_store


@dataclass(frozen=True)
class Repeats:
    """One trace with the statement that it repeats most, and who found it."""

    found: str
    trace_id: str
    times: int
    statement: str

    def __str__(self) -> str:
        return f"{self.found}: trace {self.trace_id}: {self.times} x {self.statement}"


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
    if not found:
        return None
    trace_id, statement, times = found[0]
    return Repeats("by exemplars, in the span store", trace_id, times, _short(statement))


def followed(link: str, tempo: Tempo) -> Repeats | None:
    """The page's own link followed into Tempo: of the traces it finds, the one that repeats most."""
    best = None
    for trace_id in tempo.search(query_of(link)):
        for statement, times in tempo.statements(trace_id).most_common(1):
            if times > 1 and (best is None or times > best.times):
                best = Repeats("by the page's link, in Tempo", trace_id, times, _short(statement))
    return best


def query_of(link: str) -> str:
    """The TraceQL in a link to Grafana's Explore page."""
    (panes,) = parse_qs(urlsplit(link).query)["panes"]
    return str(json.loads(panes)["t"]["queries"][0]["query"])


def _short(statement: str) -> str:
    return " ".join(statement.split())
