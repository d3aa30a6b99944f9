"""Picks what a report is about into two relations that every figure reads.

``req``: one row per selected request with its account. Where the sender has no agent of ours the
account is null; then what the spans show is taken instead, and what they cannot show stays null, never 0.

``calls``: one row per database, model, embedding or other HTTP call of those requests, with the
``owner_id`` (span id) of the request that made it: the nearest server span above it, within the
same service. Calls that belong to no request at all (start-up, background work) have a null ``owner_id``.

Compaction has summed up most of a store already (`taximeter_collector.store.sums`). What it has not
is worked out here by the same SQL: young segments, and requests of which some call lies in
another segment than the request (*reopened*). So both relations are views: the summed part is read
from the files, column by column, by each figure that needs it; the rest lies in temporary tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_analysis.rollup import roll_up
from taximeter_analysis.store import Store, literal
from taximeter_analysis.window import Filters, to_ns
from taximeter_collector.store import sums
from taximeter_collector.store.schema import SUMS
from taximeter_collector.store.totals import FAILED

#: A client's clock inside one process does not run backwards by more than this.
_SLACK_NS = 60 * 1_000_000_000
_EVER = 2**63 - 1
_FEW = 20_000
_STRETCHES = 200
SUMS_VERSION = 3  # of what compaction sums up; what is of an earlier one is worked out again
_SEEN = ", ".join(name for name in SUMS["requests"] if name.startswith("seen_"))
_KEY = "trace_hi, trace_lo"


@dataclass(frozen=True)
class Selection:
    """What `select` found: rows, and the bounds of what was seen (Unix nanoseconds, None if nothing)."""

    requests: int
    calls: int
    first_ns: int | None
    last_ns: int | None
    without_account: int

    @property
    def empty(self) -> bool:
        return self.requests == 0 and self.calls == 0


def select(store: Store, filters: Filters, slow_s: float = 2.0) -> Selection:
    """Make the relations ``req`` and ``calls`` for these filters, and say what is in them.

    ``slow_s``: from how many seconds on `roll_up` counts a request as slow.
    """
    choose(store, filters)
    store.set(slow_ns=round(slow_s * 1e9))
    return _selected(store)


def choose(store: Store, filters: Filters) -> None:
    """Make the relations, and read no more than that takes."""
    store.kept.clear()
    since = to_ns(filters.since) if filters.since is not None else None
    until = to_ns(filters.until) if filters.until is not None else None
    store.set(since=since, until=until, low=None, high=None)
    store.set(service=filters.service, tenant=filters.tenant, version=filters.version)
    store.rows(_PICKED)
    if since is not None or until is not None:
        # Only spans near the window are read: those of the picked requests, and the window itself.
        lowest, highest = store.rows("SELECT min(start_ns), max(start_ns + duration_ns) FROM picked")[0]
        if since is not None:
            store.set(low=min(since, since if lowest is None else lowest) - _SLACK_NS)
        if until is not None:
            store.set(high=min(max(highest or 0, until), _EVER - _SLACK_NS) + _SLACK_NS)
    for statement in _REOPEN:
        store.rows(statement)
    among = _among(store)
    for statement in _WORK_OUT:
        text = statement.replace("{among}", among)
        if "{when}" in text:
            text = text.replace("{when}", _when(store))
        if "{begun}" in text:
            text = text.replace("{begun}", _stretches(store).replace("start_ns", "began_ns"))
        store.rows(text)
    traced = store.rows("SELECT svc, db, ai, http FROM traced ORDER BY svc")
    view = _REQ
    for at, kind in enumerate(("db", "ai", "http"), start=1):
        found = ", ".join(literal(row[0]) for row in traced if row[at])
        view = view.replace(f"{{traced_{kind}}}", f"svc IN ({found})" if found else "false")
    store.rows(view)
    store.rows(_OUTSIDE)
    chosen = filters != Filters()
    store.rows(_CALLS.format(only=f"SEMI JOIN req r ON {_OWNER}" if chosen else ""))


def _selected(store: Store) -> Selection:
    roll_up(store)
    requests, without, first, last = store.rows(
        "SELECT coalesce(sum(requests), 0)::BIGINT, coalesce(sum(derived), 0)::BIGINT, min(first_ns), "
        "max(last_ns) FROM rolled"
    )[0]
    calls = 1
    if requests == 0:
        calls, first, last = store.rows(
            "SELECT count(*), min(start_ns), max(start_ns + duration_ns) FROM outside"
        )[0]
    return Selection(requests, calls, first, last, without)


def _among(store: Store) -> str:
    """The reopened traces as constants, where they are few: those skip row groups, a join does not."""
    found = store.rows(f"SELECT DISTINCT trace_lo FROM reopened LIMIT {_FEW + 1}")
    if len(found) > _FEW:
        return "true"
    return f"trace_lo IN ({', '.join(str(row[0]) for row in found)})" if found else "false"


def _when(store: Store) -> str:
    """When calls of the reopened requests can have started: a few stretches of time skip most row groups."""
    if store.rows("SELECT count(*) FROM servers WHERE stray")[0][0]:
        return "true"
    return _stretches(store)


def _stretches(store: Store) -> str:
    """When the reopened requests themselves were."""
    found = store.rows(
        f"""
        SELECT min(start_ns), max(end_ns) FROM (
            SELECT *, sum(gap) OVER (ORDER BY start_ns) AS stretch FROM (
                SELECT *, (start_ns - max(end_ns) OVER (ORDER BY start_ns
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > {_SLACK_NS})::INT AS gap
                FROM (SELECT start_ns, start_ns + duration_ns AS end_ns FROM servers)))
        GROUP BY coalesce(stretch, 0) LIMIT {_STRETCHES + 1}
        """
    )
    if not found or len(found) > _STRETCHES:
        return "true"
    times = [f"start_ns BETWEEN {first} AND {last}" for first, last in found]
    return f"({' OR '.join([*times, f'start_ns >= {sums.LATEST_NS}'])})"  # the last: held within bounds


_OWNER = "r.trace_hi = s.trace_hi AND r.trace_lo = s.trace_lo AND r.span_id = s.owner_id"

#: What is wanted of a reopened request, besides its figures: a column less is a tenth of a second.
_WANTED = """
trace_hi, trace_lo, span_id, svc, service, version, http_method, http_route, start_ns, duration_ns,
http_status, error, tenant, db_calls, db_duration_s, model_calls, model_attempts, embedding_calls,
input_tokens, output_tokens, cached_tokens, cost_usd, unpriced_calls, cache_lookups, cache_hits,
first_byte_s, streamed, embedding_inputs, embedding_duplicates, filename, """ + ", ".join(
    f"{name} AS was_{name}" for name in SUMS["requests"] if name.startswith(("seen_", "busy_"))
)
CHOSEN = " AND ".join(
    f"(getvariable('{column}') IS NULL OR {column} = getvariable('{column}'))"
    for column in ("service", "tenant", "version")
)

#: A variable that is not set folds to true before anything is read.
IN_WINDOW = (
    "(getvariable('since') IS NULL OR start_ns >= getvariable('since')::BIGINT) "
    "AND (getvariable('until') IS NULL OR start_ns < getvariable('until')::BIGINT)"
)
_NEAR = (
    "(getvariable('low') IS NULL OR start_ns >= getvariable('low')::BIGINT) "
    "AND (getvariable('high') IS NULL OR start_ns <= getvariable('high')::BIGINT)"
)

_PICKED = f"""
CREATE OR REPLACE TEMP VIEW picked AS
SELECT coalesce(service, '') AS svc,
       * EXCLUDE (start_ns, duration_ns, db_duration_s, cost_usd, first_byte_s, summed, sums),
       start_ns AS began_ns, {sums.SANE}, coalesce(sums >= {SUMS_VERSION}, false) AS summed,
       {sums.finite("db_duration_s")}, {sums.finite("cost_usd")}, {sums.finite("first_byte_s")}
FROM requests
WHERE {IN_WINDOW} AND {CHOSEN}
"""

#: Every figure passes over what is reopened, so that is told by half of the trace id alone: requests with
#: the same half are all reopened, and each trace is then worked out by its whole id.
_REOPEN = (
    # Calls that no segment knows the request of: young ones, and those beside their request's segment.
    f"""
    CREATE OR REPLACE TEMP TABLE loose AS
    SELECT {sums.CALL}, family FROM spans WHERE {_NEAR} AND loose
    UNION ALL
    SELECT {sums.CALL}, {sums.FAMILY} AS family FROM spans
    WHERE {_NEAR} AND summed IS NULL AND {sums.FAMILY} IS NOT NULL
    """,
    f"""
    CREATE OR REPLACE TEMP TABLE reopened AS
    SELECT DISTINCT {_KEY} FROM requests WHERE {_NEAR} AND trace_lo IN (
        SELECT trace_lo FROM picked WHERE NOT summed UNION ALL SELECT trace_lo FROM loose)
    """,
)
_WORK_OUT = (
    f"""
    CREATE OR REPLACE TEMP TABLE servers AS
    SELECT {_KEY}, span_id, coalesce(service, '') AS svc, {sums.SANE},
        coalesce(stray, summed AND sums IS NULL, false) AS stray
    FROM requests SEMI JOIN reopened USING ({_KEY}) WHERE {{among}}
    """,
    # All calls of those traces; with the loose ones that belong to no request.
    f"""
    CREATE OR REPLACE TEMP TABLE found AS
    SELECT {sums.CALL}, family FROM spans SEMI JOIN reopened USING ({_KEY})
    WHERE {_NEAR} AND owner_id IS NOT NULL AND family IS NOT NULL AND {{among}} AND {{when}}
    UNION ALL SELECT * FROM loose
    """,
    # A trace nearly always has one server span per service, and then the owner is plain. Where it has
    # several (a service that calls itself, a client that keeps its trace id), walk up the parents.
    f"""
    CREATE OR REPLACE TEMP TABLE traces AS
    SELECT {_KEY}, svc, count(*) AS servers, any_value(span_id) AS owner_id FROM servers GROUP BY ALL
    """,
    f"""
    CREATE OR REPLACE TEMP TABLE climbing AS
    SELECT * FROM found SEMI JOIN (SELECT * FROM traces WHERE servers > 1) USING ({_KEY}, svc)
    """,
    f"""
    CREATE OR REPLACE TEMP TABLE parents AS
    SELECT {_KEY}, span_id, parent_id FROM spans SEMI JOIN climbing USING ({_KEY})
    """,
    f"""
    CREATE OR REPLACE TEMP TABLE owned AS
    SELECT {_KEY}, span_id, min(owner_id) AS owner_id FROM (
        SELECT f.trace_hi, f.trace_lo, f.span_id, t.owner_id
        FROM found f JOIN traces t USING ({_KEY}, svc) WHERE t.servers = 1
        UNION ALL ({sums.CLIMB})
    ) GROUP BY ALL
    """.replace("GROUP BY ALL", f"GROUP BY {_KEY}, span_id"),
    f"CREATE OR REPLACE TEMP TABLE seen AS {sums.SEEN}",
    f"CREATE OR REPLACE TEMP TABLE repeats AS {sums.REPEATS}",
    f"CREATE OR REPLACE TEMP TABLE busy AS {sums.BUSY}",
    f"CREATE OR REPLACE TEMP TABLE strays AS {sums.STRAY}",
    f"CREATE OR REPLACE TEMP TABLE used AS {sums.USES}",
    f"CREATE OR REPLACE TEMP TABLE slow AS {sums.SLOW_STATEMENTS}",
    f"""
    CREATE OR REPLACE TEMP TABLE opened AS
    SELECT p.*, {sums.FIGURES}
    FROM (SELECT {_WANTED} FROM picked SEMI JOIN reopened USING ({_KEY}) WHERE {{among}} AND {{begun}}) p
    LEFT JOIN (
        SELECT * FROM seen LEFT JOIN repeats USING ({_KEY}, owner_id) LEFT JOIN busy USING ({_KEY}, owner_id)
        LEFT JOIN strays USING ({_KEY}, owner_id)
        LEFT JOIN used USING ({_KEY}, owner_id) LEFT JOIN slow USING ({_KEY}, owner_id)
    ) x ON x.trace_hi = p.trace_hi AND x.trace_lo = p.trace_lo AND x.owner_id = p.span_id
    """,
    # A service that traces a kind of call at all: there, no call means 0.
    f"""
    CREATE OR REPLACE TEMP TABLE traced AS
    SELECT svc, bool_or(db) AS db, bool_or(ai) AS ai, bool_or(http) AS http FROM (
        SELECT svc, family = 'db' AS db, family NOT IN ('db', 'http') AS ai, family = 'http' AS http
        FROM found
        UNION ALL
        SELECT coalesce(service, ''), seen_db_calls > 0,
            seen_model_calls > 0 OR seen_embedding_calls > 0 OR seen_cost_usd IS NOT NULL, busy_http_ns > 0
        FROM requests WHERE sums >= {SUMS_VERSION} AND {_NEAR}
    ) GROUP BY svc
    """,
)  # fmt: skip


def _traced(kind: str) -> str:
    return f"{{traced_{kind}}}"  # filled in by `choose`: the services that trace such calls


def _account(name: str, seen: str, kind: str) -> str:
    """The account's figure; without one, what was seen, where calls of that kind are traced at all."""
    return f"coalesce(p.{name}, CASE WHEN {_traced(kind)} THEN {seen} END)"


_REQ = f"""
CREATE OR REPLACE TEMP VIEW req AS
SELECT p.trace_hi, p.trace_lo, p.span_id, p.svc, p.service, p.version,
    p.http_method AS method, p.http_route AS route,
    p.start_ns, p.start_ns + p.duration_ns AS end_ns, p.duration_ns, p.duration_ns / 1e9 AS duration_s,
    p.http_status AS status, {FAILED} AS failed,
    p.tenant, p.filename,
    p.db_calls IS NULL AND p.model_calls IS NULL AND p.cost_usd IS NULL AS derived,
    {_account("db_calls", "seen_db_calls", "db")} AS db_calls,
    {_account("db_duration_s", "seen_db_s", "db")} AS db_s,
    {_account("model_calls", "seen_model_calls", "ai")} AS model_calls,
    p.model_attempts,
    {_account("embedding_calls", "seen_embedding_calls", "ai")} AS embedding_calls,
    {_account("input_tokens", "coalesce(seen_input_tokens, 0)", "ai")} AS input_tokens,
    {_account("output_tokens", "coalesce(seen_output_tokens, 0)", "ai")} AS output_tokens,
    {_account("cached_tokens", "coalesce(seen_cached_tokens, 0)", "ai")} AS cached_tokens,
    coalesce(p.cost_usd, seen_cost_usd,
             CASE WHEN {_traced("ai")} AND seen_unpriced_calls = 0 THEN 0 END) AS cost_usd,
    {_account("unpriced_calls", "seen_unpriced_calls", "ai")} AS unpriced_calls,
    p.cache_lookups, p.cache_hits, p.first_byte_s, p.streamed, repeated, p.embedding_inputs,
    p.embedding_duplicates, uses, slow_statements, {_SEEN},
    CASE WHEN p.db_calls IS NOT NULL OR {_traced("db")} THEN busy_db_ns / 1e9 END AS split_db_s,
    CASE WHEN p.model_calls IS NOT NULL OR {_traced("ai")} THEN busy_model_ns / 1e9 END AS split_model_s,
    CASE WHEN p.db_calls IS NOT NULL OR {_traced("http")} THEN busy_http_ns / 1e9 END AS split_http_s
FROM (
    SELECT * EXCLUDE (summed) FROM picked ANTI JOIN reopened USING (trace_lo)
    UNION ALL BY NAME SELECT * FROM opened
) p
"""

#: Calls that belong to no request.
_OUTSIDE = f"""
CREATE OR REPLACE TEMP TABLE outside AS
SELECT f.* FROM loose f LEFT JOIN owned o USING ({_KEY}, span_id)
WHERE o.owner_id IS NULL AND {IN_WINDOW.replace("start_ns", "f.start_ns")}
  AND {CHOSEN.replace(" OR ", " OR f.")}
"""

_CALLS = f"""
CREATE OR REPLACE TEMP VIEW calls AS
SELECT {sums.CALL}, family, owner_id, duration_ns AS raw_ns FROM spans s {{only}}
WHERE {_NEAR} AND owner_id IS NOT NULL AND family IS NOT NULL
UNION ALL BY NAME
SELECT *, NULL::UBIGINT AS owner_id, duration_ns AS raw_ns FROM outside
UNION ALL BY NAME
SELECT f.*, o.owner_id, duration_ns AS raw_ns FROM loose f JOIN owned o USING ({_KEY}, span_id)
WHERE ({_KEY.replace("trace", "f.trace")}, o.owner_id) IN (SELECT ({_KEY}, span_id) FROM opened)
"""
