"""The rules of two peers, on spans as the store has them.

*Sentry*: its published rules (documentation, and the behaviour of its open detector), written down here anew.
A transaction's spans are visited in order of their start. A database span becomes the source; database spans
with another statement, one statement among themselves, and the source's parent repeat it; any other span
breaks the row off. Five repetitions and 50 ms in all make an N+1. Spans of pools count as database spans only
with a statement.

*perf-sentinel*: the real program, where ``TAXIMETER_PERF_SENTINEL`` or PATH has it, with its defaults.
Statements are given with ``?`` for parameters, which is the form for which it has a heuristic.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from taximeter_analysis.store import Store

COUNT, TOTAL_MS = 5, 50.0
#: takes each statement whose literals are hidden for an N+1, instead of guessing by timing
ALWAYS = '[detection]\nsanitizer_aware_classification = "always"\n'
VARIABLE = "TAXIMETER_PERF_SENTINEL"


@dataclass(frozen=True)
class Span:
    """What a peer sees of a span."""

    trace: str
    span: str
    parent: str
    name: str
    start_ns: int
    duration_ns: int
    statement: str | None  # of a database span


def spans(store: Store) -> dict[str, list[Span]]:
    """Every trace's spans in order of their start; server spans of the remote parent first."""
    rows = store.rows(
        """
        SELECT trace_hi, trace_lo, span_id, parent_id, name, start_ns, duration_ns,
            CASE WHEN db_system IS NOT NULL THEN coalesce(db_statement, name) END
        FROM spans ORDER BY start_ns, span_id
        """
    )
    found: dict[str, list[Span]] = defaultdict(list)
    for high, low, span, parent, name, start, duration, statement in rows:
        trace = f"{high:016x}{low:016x}"
        found[trace].append(
            Span(trace, f"{span:016x}", f"{parent or 0:016x}", name, start, duration, statement)
        )
    return found


def sentry(trace: Sequence[Span], total_ms: float = TOTAL_MS) -> bool:
    """Whether Sentry's rules see an N+1."""
    known: set[str] = set()
    source: Span | None = None
    row: list[Span] = []

    def enough() -> bool:
        return len(row) >= COUNT and _union_ms(row) >= total_ms

    def continues(span: Span) -> bool:
        if source is None or span.parent != source.parent or span.statement == source.statement:
            return False
        return not row or row[-1].statement == span.statement

    for span in trace:
        if span.statement is None:
            if enough():
                return True
            source, row = None, []
            known.add(span.span)
        elif source is None:
            source = span if span.parent in known else None
        elif continues(span):
            row.append(span)
        else:
            if enough():
                return True
            last = row[-1] if row else None
            source, row = (last if last and last.parent in known else None), []
            if source is not None and continues(span):
                row.append(span)
            else:
                source = span if span.parent in known else None
    return enough()


def _union_ms(row: Sequence[Span]) -> float:
    """Time in which at least one of them ran."""
    total, reach = 0, 0
    for span in sorted(row, key=lambda each: each.start_ns):
        end = span.start_ns + span.duration_ns
        total += max(0, end - max(span.start_ns, reach))
        reach = max(reach, end)
    return total / 1e6


def perf_sentinel(traces: dict[str, list[Span]], settings: str = "") -> set[str] | None:
    """Ids of the traces in which perf-sentinel sees an N+1 of SQL; None where it is not there.

    ``settings``: the text of its configuration file, for others than its defaults.
    """
    program = os.environ.get(VARIABLE) or shutil.which("perf-sentinel")
    if not program:
        return None
    events = [
        {
            "timestamp": datetime.fromtimestamp(span.start_ns / 1e9, UTC).isoformat(timespec="microseconds")[
                :-6
            ]
            + "Z",
            "trace_id": span.trace,
            "span_id": span.span,
            "parent_span_id": span.parent,
            "service": "hotel",
            "type": "sql",
            "operation": span.statement.split()[0],
            "target": re.sub(r"%s|%\(\w+\)s|\$\d+(?:::\w+)?", "?", span.statement),
            "duration_us": span.duration_ns // 1000,
            "source": {"endpoint": _endpoint(trace), "method": "GET"},
        }
        for trace in traces.values()
        for span in trace
        if span.statement is not None
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(settings)
        config.flush()
        done = subprocess.run(
            [program, "analyze", "--format", "json", "--config", config.name],
            input=json.dumps(events),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    findings = json.loads(done.stdout)["findings"]
    return {each["trace_id"] for each in findings if each["type"] == "n_plus_one_sql"}


def _endpoint(trace: Sequence[Span]) -> str:
    return next((span.name for span in trace if span.statement is None), "?")
