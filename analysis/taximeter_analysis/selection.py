"""Picks what a report is about, once, into two working tables that every figure reads.

``req``: one row per selected request, numbered ``rid``, with its account. Where the sender has no
agent of ours the account is null; then what the spans show is taken instead, and what they cannot
show stays null, never 0.

``calls``: one row per database, model or embedding call of those requests, with the ``rid`` of
the request that made it: the nearest server span above it, within the same service. Calls that
belong to no request at all (start-up, background work) have a null ``rid``.

Both are made by SQL text alone here; they are temporary and live in the store's connection.
"""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_analysis.store import Store
from taximeter_analysis.window import Filters, to_ns

#: gen_ai.operation.name values that are one logical call to a language model. Agent, tool and
#: workflow spans wrap such calls: counting them too would count twice.
MODEL_OPERATIONS = ("chat", "text_completion", "generate_content", "responses", "messages")
EMBEDDING_OPERATIONS = ("embeddings",)

#: First words of statements that are transaction control: not calls of user code.
TRANSACTION_CONTROL = (
    "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "DEALLOCATE", "DISCARD",
)  # fmt: skip

#: A client's clock inside one process does not run backwards by more than this.
_SLACK_NS = 60 * 1_000_000_000
_EVER = 2**63 - 1


def _sane() -> str:
    """Start and duration as stored, held within bounds in which sums cannot overflow.

    Any sender can write any number; one absurd span must not take the report from everybody else.
    """
    return (
        "least(greatest(start_ns, 0), 8000000000000000000) AS start_ns, "
        "least(greatest(duration_ns, 0), 1000000000000000000) AS duration_ns"
    )


def _finite(column: str) -> str:
    """A real column of a sender's, null where it is no number (NaN, infinity)."""
    return f"CASE WHEN isfinite({column}) THEN {column} END AS {column}"


def quoted(words: tuple[str, ...]) -> str:
    """A SQL list of our own constants."""
    return ", ".join(f"'{word}'" for word in words)


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


def select(store: Store, filters: Filters) -> Selection:
    """Make the tables ``req`` and ``calls`` for these filters."""
    since = to_ns(filters.since) if filters.since is not None else 0
    until = to_ns(filters.until) if filters.until is not None else _EVER
    chosen = {
        "since": since,
        "until": until,
        "service": filters.service,
        "tenant": filters.tenant,
        "version": filters.version,
    }
    store.rows(_PICKED, chosen)
    lowest, highest = store.rows("SELECT min(start_ns), max(start_ns + duration_ns) FROM picked")[0]
    # Only spans near the window are read: those of the picked requests, and the window itself.
    low = (since if lowest is None else min(lowest, since)) - _SLACK_NS
    high = min(max(highest or 0, until), _EVER - _SLACK_NS) + _SLACK_NS
    store.rows(_FOUND, {"low": low, "high": high})
    store.rows(_OWNERS)
    store.rows(_CALLS, chosen)
    store.rows(_BUSY)
    store.rows(_REQ)
    requests, without, first, last = store.rows(
        "SELECT count(*), count(*) FILTER (derived), min(start_ns), max(end_ns) FROM req"
    )[0]
    calls, outside_first, outside_last = store.rows(
        "SELECT count(*), min(start_ns), max(start_ns + duration_ns) FROM calls"
    )[0]
    if requests == 0:
        first, last = outside_first, outside_last
    return Selection(requests, calls, first, last, without)


_PICKED = f"""
CREATE OR REPLACE TEMP TABLE picked AS
SELECT row_number() OVER (ORDER BY start_ns, trace_hi, trace_lo, span_id) AS rid,
       coalesce(service, '') AS svc, * EXCLUDE (start_ns, duration_ns, db_duration_s, cost_usd, first_byte_s),
       {_sane()},
       {_finite("db_duration_s")}, {_finite("cost_usd")}, {_finite("first_byte_s")}
FROM requests
WHERE start_ns >= $since AND start_ns < $until
  AND ($service IS NULL OR service = $service) AND ($tenant IS NULL OR tenant = $tenant)
  AND ($version IS NULL OR version = $version)
"""

_FOUND = f"""
CREATE OR REPLACE TEMP TABLE found AS
SELECT trace_hi, trace_lo, span_id, parent_id, coalesce(service, '') AS svc, service, version, tenant,
       {_sane()}, status = 'error' AS failed,
       CASE WHEN ai_operation IN ({quoted(EMBEDDING_OPERATIONS)}) THEN 'embedding'
            WHEN ai_operation IN ({quoted(MODEL_OPERATIONS)}) THEN 'model'
            WHEN db_system IS NOT NULL THEN 'db'
            ELSE 'priced' END AS family,
       coalesce(db_statement, db_summary) AS statement, db_rows,
       ai_operation, ai_provider, coalesce(ai_response_model, ai_request_model) AS model,
       ai_input_tokens AS input_tokens, ai_output_tokens AS output_tokens,
       ai_cache_read_tokens AS cached_tokens, {_finite("cost_usd")}
FROM spans
WHERE start_ns >= $low AND start_ns <= $high
  AND (ai_operation IN ({quoted(MODEL_OPERATIONS + EMBEDDING_OPERATIONS)})
       OR cost_usd IS NOT NULL
       OR (db_system IS NOT NULL AND kind = 'client'
           AND upper(regexp_extract(coalesce(nullif(trim(db_statement), ''), db_operation, ''), '^[A-Za-z]+'))
               NOT IN ({quoted(TRANSACTION_CONTROL)})))
"""

# A trace nearly always has one server span per service, and then the owner is plain. Where it has
# several (a service that calls itself, a client that keeps its trace id), walk up the parents.
_OWNERS = """
CREATE OR REPLACE TEMP TABLE owners AS
WITH RECURSIVE
servers AS (SELECT trace_hi, trace_lo, span_id, coalesce(service, '') AS svc FROM requests),
traces AS (
    SELECT trace_hi, trace_lo, svc, count(*) AS servers, any_value(span_id) AS request_id
    FROM servers GROUP BY ALL
),
crowded AS (SELECT trace_hi, trace_lo, svc FROM traces WHERE servers > 1),
parents AS (
    SELECT s.trace_hi, s.trace_lo, s.span_id, s.parent_id
    FROM spans s SEMI JOIN crowded c USING (trace_hi, trace_lo)
),
climb AS (
    SELECT f.trace_hi, f.trace_lo, f.svc, f.span_id AS call_id, f.parent_id AS at_id, 1 AS height
    FROM found f SEMI JOIN crowded USING (trace_hi, trace_lo, svc)
    UNION ALL
    SELECT c.trace_hi, c.trace_lo, c.svc, c.call_id, p.parent_id, c.height + 1
    FROM climb c
    JOIN parents p ON p.trace_hi = c.trace_hi AND p.trace_lo = c.trace_lo AND p.span_id = c.at_id
    WHERE c.height < 200 AND NOT EXISTS (
        SELECT 1 FROM servers s WHERE s.trace_hi = c.trace_hi AND s.trace_lo = c.trace_lo
        AND s.svc = c.svc AND s.span_id = c.at_id)
)
SELECT f.trace_hi, f.trace_lo, f.span_id, t.request_id
FROM found f JOIN traces t USING (trace_hi, trace_lo, svc) WHERE t.servers = 1
UNION ALL
SELECT c.trace_hi, c.trace_lo, c.call_id, c.at_id
FROM climb c
JOIN servers s
  ON s.trace_hi = c.trace_hi AND s.trace_lo = c.trace_lo AND s.svc = c.svc AND s.span_id = c.at_id
"""

_CALLS = """
CREATE OR REPLACE TEMP TABLE calls AS
SELECT f.*, p.rid
FROM found f
LEFT JOIN owners o USING (trace_hi, trace_lo, span_id)
LEFT JOIN picked p ON p.trace_hi = f.trace_hi AND p.trace_lo = f.trace_lo AND p.span_id = o.request_id
WHERE p.rid IS NOT NULL
   OR (o.request_id IS NULL AND f.start_ns >= $since AND f.start_ns < $until
       AND ($service IS NULL OR f.service = $service) AND ($tenant IS NULL OR f.tenant = $tenant)
       AND ($version IS NULL OR f.version = $version))
"""

# Time covered by at least one call, so that parallel calls count once: each call adds only what
# reaches beyond everything that started before it. Clipped to the request itself.
_BUSY = """
CREATE OR REPLACE TEMP TABLE busy AS
WITH spells AS (
    SELECT p.rid, c.family = 'db' AS is_db,
           greatest(c.start_ns, p.start_ns) AS s,
           least(c.start_ns + c.duration_ns, p.start_ns + p.duration_ns) AS e
    FROM calls c JOIN picked p USING (rid) WHERE c.family <> 'priced'
),
swept AS (
    SELECT rid, s, e, max(e) OVER earlier AS reach FROM spells WHERE e > s
    WINDOW earlier AS (PARTITION BY rid ORDER BY s, e ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
swept_ai AS (
    SELECT rid, s, e, max(e) OVER earlier AS reach FROM spells WHERE e > s AND NOT is_db
    WINDOW earlier AS (PARTITION BY rid ORDER BY s, e ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
any_call AS (
    SELECT rid, sum(greatest(0, e - greatest(s, coalesce(reach, s)))) AS ns FROM swept GROUP BY rid
),
ai_call AS (
    SELECT rid, sum(greatest(0, e - greatest(s, coalesce(reach, s)))) AS ns FROM swept_ai GROUP BY rid
)
SELECT a.rid, a.ns - coalesce(m.ns, 0) AS db_ns, coalesce(m.ns, 0) AS model_ns
FROM any_call a LEFT JOIN ai_call m USING (rid)
"""

_REQ = """
CREATE OR REPLACE TEMP TABLE req AS
WITH seen AS (
    SELECT rid,
        count(*) FILTER (family = 'db') AS db_calls,
        sum(duration_ns) FILTER (family = 'db') / 1e9 AS db_s,
        count(*) FILTER (family = 'model') AS model_calls,
        count(*) FILTER (family = 'embedding') AS embedding_calls,
        sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens,
        sum(cached_tokens) AS cached_tokens,
        fsum(cost_usd) AS cost_usd,
        count(*) FILTER (family <> 'db' AND cost_usd IS NULL AND NOT failed) AS unpriced_calls
    FROM calls WHERE rid IS NOT NULL GROUP BY rid
),
traced AS (  -- a service that traces a kind of call at all: there, no call means 0
    SELECT svc, bool_or(family = 'db') AS db, bool_or(family <> 'db') AS ai FROM found GROUP BY svc
)
SELECT p.rid, p.trace_hi, p.trace_lo, p.span_id, p.svc, p.service,
    p.http_method AS method, p.http_route AS route,
    p.start_ns, p.start_ns + p.duration_ns AS end_ns, p.duration_ns, p.duration_ns / 1e9 AS duration_s,
    p.http_status AS status, coalesce(p.error, false) OR coalesce(p.http_status >= 500, false) AS failed,
    p.tenant,
    p.db_calls IS NULL AND p.model_calls IS NULL AND p.cost_usd IS NULL AS derived,
    coalesce(p.db_calls, CASE WHEN t.db THEN coalesce(s.db_calls, 0) END) AS db_calls,
    coalesce(p.db_duration_s, CASE WHEN t.db THEN coalesce(s.db_s, 0) END) AS db_s,
    coalesce(p.model_calls, CASE WHEN t.ai THEN coalesce(s.model_calls, 0) END) AS model_calls,
    p.model_attempts,
    coalesce(p.embedding_calls, CASE WHEN t.ai THEN coalesce(s.embedding_calls, 0) END) AS embedding_calls,
    coalesce(p.input_tokens, CASE WHEN t.ai THEN coalesce(s.input_tokens, 0) END) AS input_tokens,
    coalesce(p.output_tokens, CASE WHEN t.ai THEN coalesce(s.output_tokens, 0) END) AS output_tokens,
    coalesce(p.cached_tokens, CASE WHEN t.ai THEN coalesce(s.cached_tokens, 0) END) AS cached_tokens,
    coalesce(p.cost_usd, s.cost_usd,
             CASE WHEN t.ai AND coalesce(s.unpriced_calls, 0) = 0 THEN 0 END) AS cost_usd,
    coalesce(p.unpriced_calls, CASE WHEN t.ai THEN coalesce(s.unpriced_calls, 0) END) AS unpriced_calls,
    p.cache_lookups, p.cache_hits, p.first_byte_s, p.streamed,
    CASE WHEN p.db_calls IS NOT NULL OR t.db THEN coalesce(b.db_ns, 0) / 1e9 END AS split_db_s,
    CASE WHEN p.model_calls IS NOT NULL OR t.ai THEN coalesce(b.model_ns, 0) / 1e9 END AS split_model_s
FROM picked p
LEFT JOIN seen s USING (rid) LEFT JOIN traced t USING (svc) LEFT JOIN busy b USING (rid)
"""
