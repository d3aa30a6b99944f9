"""Puts the report together: one selection, then every section from it."""

from __future__ import annotations

import time

from taximeter_analysis import course, figures, findings, traces
from taximeter_analysis.model import RepeatedStatements, Report, Slow, Timeline, Usage, Window
from taximeter_analysis.ranks import ranks
from taximeter_analysis.selection import Selection, select
from taximeter_analysis.store import NothingToReport, Store
from taximeter_analysis.window import Filters, iso
from taximeter_collector.store.schema import MIN_REPEATS

SLOW_S = 2.0
TOP = 10


def report(
    store: Store,
    filters: Filters | None = None,
    *,
    slow_s: float = SLOW_S,
    top: int = TOP,
    now: float | None = None,
    brief: bool = False,
) -> Report:
    """Read everything that ``filters`` select and say what it came to.

    Args:
        store: an open store; it may be written to meanwhile.
        filters: window, service, tenant, version; by default all that is in the store.
        slow_s: from how many seconds on a request or query is slow.
        top: how many slow requests, slow queries and repeated statements to list.
        now: the instant of ``generated_at``, Unix seconds; by default the clock's.
        brief: leave out what a live screen does not show: bounds, slow and repeated ones, the course of time.

    Raises:
        NothingToReport: nothing was found in the window or under the filters.
        StoreError: the store cannot be read.
    """
    filters = filters or Filters()
    selection = select(store, filters, slow_s)
    if selection.empty or selection.first_ns is None or selection.last_ns is None:
        raise NothingToReport(_nothing(store, filters))
    observed_s = (selection.last_ns - selection.first_ns) / 1e9
    timeline = (  # before all others: it has the order statistics of its steps read along with theirs
        Timeline(1.0, ()) if brief else course.timeline(store, selection.first_ns, selection.last_ns)
    )
    totals, latency, split, spread = figures.totals(store)
    spans = figures.span_totals(store)
    services = store.rows(
        "SELECT DISTINCT service FROM ("
        "SELECT service FROM rolled UNION ALL SELECT service FROM outside) "
        "WHERE service IS NOT NULL ORDER BY 1"
    )
    return Report(
        generated_at=time.time() if now is None else now,
        store=str(store.path),
        window=Window(
            filters.since, filters.until, selection.first_ns / 1e9, selection.last_ns / 1e9, observed_s
        ),
        services=tuple(row[0] for row in services),
        service_filter=filters.service,
        tenant_filter=filters.tenant,
        version_filter=filters.version,
        totals=totals,
        error_rate=figures.share(totals.errors, totals.requests),
        requests_per_second=totals.requests / observed_s if totals.requests > 1 and observed_s > 0 else None,
        spread=spread,
        latency=latency,
        ranked=() if brief else ranks(store).of_all,
        split=split,
        totals_from_spans=spans,
        routes=figures.routes(store, bounds=not brief),
        tenants=figures.tenants(store),
        models=figures.models(store),
        slow=Slow(slow_s, 0, 0, (), ()) if brief else findings.slow(store, slow_s, top),
        repeated=RepeatedStatements(MIN_REPEATS, 0, ()) if brief else findings.repeated(store, top),
        projection=course.projection(totals, spans, observed_s),
        timeline=timeline,
        slowest=None if brief else traces.longest(store),
        notes=_notes(selection, totals),
        caches=figures.caches(store, totals),
    )


def _notes(selection: Selection, totals: Usage) -> tuple[str, ...]:
    notes = []
    if selection.requests == 0:
        notes.append("no HTTP request was seen: what follows are calls made outside of requests")
    if selection.without_account:
        notes.append(
            f"{selection.without_account} of {selection.requests} requests carry no account (their service "
            "runs without Taximeter's agent): their figures are derived from the spans of their traces, and "
            "'-' is what spans cannot tell"
        )
    if totals.unpriced_calls:
        notes.append(
            f"{totals.unpriced_calls} model call(s) have no price: their money is missing from every sum"
        )
    return tuple(notes)


def _nothing(store: Store, filters: Filters) -> str:
    asked = filters.describe()
    if not asked:
        return (
            f"{store.path}: the span store holds no request and no database or model call; send some requests"
        )
    first, last = store.rows(
        "SELECT min(start_ns), max(start_ns) FROM "
        "(SELECT start_ns FROM requests UNION ALL SELECT start_ns FROM spans)"
    )[0]
    remedy = "widen the window with --since and --until"
    column = next((name for name in ("service", "tenant", "version") if getattr(filters, name)), None)
    if column is not None:
        names = [
            str(row[0])
            for row in store.rows(
                f"SELECT DISTINCT {column} FROM requests WHERE {column} IS NOT NULL ORDER BY 1 LIMIT 20"
            )
        ]
        remedy += f", or choose one of its {column}s: {', '.join(names) or '(it has none)'}"
    held = f"; the store holds {iso(first / 1e9)} to {iso(last / 1e9)}" if first is not None else ""
    return f"{store.path}: nothing found ({asked}){held}; {remedy}"
