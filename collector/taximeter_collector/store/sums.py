"""What spans say of requests, as SQL: which are calls, whose they are, and what they come to.

One text for two users: compaction runs it once over the segments it merges and keeps the outcome
in columns; the reader runs it over what is not summed up yet, or not for good. So both mean the same.

A *call* is a span of one of the families below. Its *owner* is the nearest server span above it
of the same service. The time of a request is cut by what it waited for: a model, else the database,
else another HTTP call, else its own; calls in parallel count once.

The texts name the tables they read: ``found`` (calls: ids, ``svc``, ``family``, ``start_ns``,
``duration_ns``, ``failed``, ``statement``, tokens, ``cost_usd``), ``servers`` (requests: ids,
``svc``, ``start_ns``, ``duration_ns``), ``parents`` (ids and ``parent_id`` of spans), ``owned`` (ids of a
call and ``owner_id``).
"""

from __future__ import annotations

import pyarrow as pa

from taximeter.semconv import CACHE_SYSTEMS
from taximeter_collector.store.schema import MIN_REPEATS, REQUESTS, SLOW_STATEMENT_NS, SUMS

#: gen_ai.operation.name values that are one logical call to a language model. Agent, tool and
#: workflow spans wrap such calls: counting them too would count twice.
MODEL_OPERATIONS = ("chat", "text_completion", "generate_content", "responses", "messages")
EMBEDDING_OPERATIONS = ("embeddings",)

#: First words of statements that are transaction control: not calls of user code.
TRANSACTION_CONTROL = (
    "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "DEALLOCATE", "DISCARD",
)  # fmt: skip


def quoted(words: tuple[str, ...]) -> str:
    """A SQL list of our own constants."""
    return ", ".join(f"'{word}'" for word in words)


#: The family of a row of ``spans``; null: no call.
FAMILY = f"""
CASE WHEN ai_operation IN ({quoted(EMBEDDING_OPERATIONS)}) THEN 'embedding'
     WHEN ai_operation IN ({quoted(MODEL_OPERATIONS)}) THEN 'model'
     WHEN db_system IS NOT NULL AND db_system NOT IN ({quoted(CACHE_SYSTEMS)}) THEN
         CASE WHEN kind = 'client' AND upper(regexp_extract(
                  coalesce(nullif(trim(db_statement), ''), db_operation, ''), '^[A-Za-z]+'))
                  NOT IN ({quoted(TRANSACTION_CONTROL)}) THEN 'db'
              WHEN cost_usd IS NOT NULL THEN 'priced' END
     WHEN cost_usd IS NOT NULL THEN 'priced'
     WHEN kind = 'client' AND http_method IS NOT NULL THEN 'http' END"""

#: Start and duration as stored, held within bounds in which sums cannot overflow.
#: Any sender can write any number; one absurd span must not take the report from everybody else.
LATEST_NS = 8_000_000_000_000_000_000
_LONGEST_NS = 1_000_000_000_000_000_000


def _within(column: str, most: int) -> str:
    """Where a segment's statistics show that all are within, the planner folds the question to true."""
    return (
        f"CASE WHEN {column} BETWEEN 0 AND {most} THEN {column} "
        f"ELSE least(greatest({column}, 0), {most}) END AS {column}"
    )


SANE = f"{_within('start_ns', LATEST_NS)}, {_within('duration_ns', _LONGEST_NS)}"


def finite(column: str) -> str:
    """A real column of a sender's, null where it is no number (NaN, infinity)."""
    return f"CASE WHEN isfinite({column}) THEN {column} END AS {column}"


#: The columns of ``found`` but for the family, from ``spans``.
CALL = f"""
trace_hi, trace_lo, span_id, parent_id, coalesce(service, '') AS svc, service, version, tenant,
{SANE}, status = 'error' AS failed, coalesce(db_statement, db_summary) AS statement, db_rows,
ai_operation, ai_provider, coalesce(ai_response_model, ai_request_model) AS model,
ai_input_tokens AS input_tokens, ai_output_tokens AS output_tokens,
ai_cache_read_tokens AS cached_tokens, {finite("cost_usd")}"""

#: Walk up the parents of every call of ``climbing`` to the first server span of its own service.
CLIMB = """
WITH RECURSIVE climb AS (
    SELECT trace_hi, trace_lo, svc, span_id AS call_id, parent_id AS at_id, 1 AS height
    FROM climbing WHERE parent_id IS NOT NULL
    UNION ALL
    SELECT c.trace_hi, c.trace_lo, c.svc, c.call_id, p.parent_id, c.height + 1
    FROM climb c
    JOIN parents p ON p.trace_hi = c.trace_hi AND p.trace_lo = c.trace_lo AND p.span_id = c.at_id
    WHERE c.height < 200 AND p.parent_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM servers s WHERE s.trace_hi = c.trace_hi AND s.trace_lo = c.trace_lo
        AND s.svc = c.svc AND s.span_id = c.at_id)
)
SELECT c.trace_hi, c.trace_lo, c.call_id AS span_id, c.at_id AS owner_id
FROM climb c
JOIN servers s
  ON s.trace_hi = c.trace_hi AND s.trace_lo = c.trace_lo AND s.svc = c.svc AND s.span_id = c.at_id"""

#: What the owned calls of each request come to: one row per (trace, owner_id) with the ``seen_*`` columns.
SEEN = """
SELECT f.trace_hi, f.trace_lo, o.owner_id,
    count(*) FILTER (family = 'db') AS seen_db_calls,
    coalesce(sum(duration_ns) FILTER (family = 'db') / 1e9, 0) AS seen_db_s,
    count(*) FILTER (family = 'model') AS seen_model_calls,
    count(*) FILTER (family = 'embedding') AS seen_embedding_calls,
    sum(input_tokens) AS seen_input_tokens,
    sum(output_tokens) AS seen_output_tokens,
    sum(cached_tokens) AS seen_cached_tokens,
    fsum(cost_usd) AS seen_cost_usd,
    count(*) FILTER (family NOT IN ('db', 'http') AND cost_usd IS NULL AND NOT failed) AS seen_unpriced_calls
FROM found f JOIN owned o USING (trace_hi, trace_lo, span_id)
GROUP BY f.trace_hi, f.trace_lo, o.owner_id"""

#: The ``repeated`` column, one row per (trace, owner_id) that has any.
REPEATS = f"""
SELECT trace_hi, trace_lo, owner_id,
    list({{'statement': statement, 'times': times, 'ns': ns}} ORDER BY ns DESC, statement) AS repeated
FROM (
    SELECT f.trace_hi, f.trace_lo, o.owner_id, any_value(statement) AS statement, count(*) AS times,
        TRY_CAST(sum(duration_ns) AS BIGINT) AS ns
    FROM found f JOIN owned o USING (trace_hi, trace_lo, span_id)
    WHERE family = 'db' AND statement IS NOT NULL
    GROUP BY f.trace_hi, f.trace_lo, o.owner_id, hash(statement) HAVING count(*) >= {MIN_REPEATS}
) GROUP BY trace_hi, trace_lo, owner_id"""

#: The ``uses`` column, one row per (trace, owner_id) that has any.
USES = """
SELECT f.trace_hi, f.trace_lo, o.owner_id, list({
    'model': model, 'provider': ai_provider, 'operation': ai_operation, 'failed': failed,
    'input_tokens': input_tokens, 'output_tokens': output_tokens, 'cached_tokens': cached_tokens,
    'cost_usd': cost_usd, 'ns': duration_ns} ORDER BY start_ns, span_id) AS uses
FROM found f JOIN owned o USING (trace_hi, trace_lo, span_id)
WHERE family IN ('model', 'embedding', 'priced')
GROUP BY f.trace_hi, f.trace_lo, o.owner_id"""

#: The ``slow_statements`` column, one row per (trace, owner_id) that has any.
SLOW_STATEMENTS = f"""
SELECT f.trace_hi, f.trace_lo, o.owner_id, list({{
    'span_id': span_id, 'start_ns': start_ns, 'ns': duration_ns, 'statement': statement, 'rows': db_rows}}
    ORDER BY start_ns, span_id) AS slow_statements
FROM found f JOIN owned o USING (trace_hi, trace_lo, span_id)
WHERE family = 'db' AND duration_ns >= {SLOW_STATEMENT_NS}
GROUP BY f.trace_hi, f.trace_lo, o.owner_id"""

#: The ``stray`` column, one row per (trace, owner_id) for which it is true.
STRAY = """
SELECT f.trace_hi, f.trace_lo, o.owner_id, true AS stray
FROM found f JOIN owned o USING (trace_hi, trace_lo, span_id)
JOIN servers r ON r.trace_hi = f.trace_hi AND r.trace_lo = f.trace_lo AND r.span_id = o.owner_id
WHERE f.start_ns < r.start_ns OR f.start_ns > r.start_ns + r.duration_ns
GROUP BY f.trace_hi, f.trace_lo, o.owner_id"""

# Each call adds only what reaches beyond everything that started before it; clipped to the request.
# Three sweeps: models alone; with the database; with all. The differences are the parts.
_SWEEP = """
    SELECT trace_hi, trace_lo, owner_id, sum(greatest(0, e - greatest(s, coalesce(reach, s)))) AS ns FROM (
        SELECT trace_hi, trace_lo, owner_id, s, e, max(e) OVER (
            PARTITION BY trace_hi, trace_lo, owner_id ORDER BY s, e
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reach
        FROM spells WHERE {which}
    ) GROUP BY trace_hi, trace_lo, owner_id"""

#: The ``busy_*`` columns, one row per (trace, owner_id).
BUSY = f"""
WITH spells AS (
    SELECT f.trace_hi, f.trace_lo, o.owner_id, f.family,
           greatest(f.start_ns, r.start_ns) AS s,
           least(f.start_ns + f.duration_ns, r.start_ns + r.duration_ns) AS e
    FROM found f JOIN owned o USING (trace_hi, trace_lo, span_id)
    JOIN servers r ON r.trace_hi = f.trace_hi AND r.trace_lo = f.trace_lo AND r.span_id = o.owner_id
    WHERE f.family <> 'priced' AND e > s
),
a AS ({_SWEEP.format(which="true")}),
b AS ({_SWEEP.format(which="family <> 'http'")}),
c AS ({_SWEEP.format(which="family IN ('model', 'embedding')")})
SELECT trace_hi, trace_lo, owner_id, coalesce(c.ns, 0) AS busy_model_ns,
    coalesce(b.ns, 0) - coalesce(c.ns, 0) AS busy_db_ns, a.ns - coalesce(b.ns, 0) AS busy_http_ns
FROM a LEFT JOIN b USING (trace_hi, trace_lo, owner_id) LEFT JOIN c USING (trace_hi, trace_lo, owner_id)"""


_NONE_IS_ZERO = (
    "seen_db_calls", "seen_db_s", "seen_model_calls", "seen_embedding_calls", "seen_unpriced_calls",
    "busy_model_ns", "busy_db_ns", "busy_http_ns",
)  # fmt: skip


def _figure(name: str) -> str:
    value = f"coalesce({name}, 0)" if name in _NONE_IS_ZERO else name
    return (
        f"TRY_CAST({value} AS BIGINT) AS {name}"
        if REQUESTS.field(name).type == pa.int64()
        else f"{value} AS {name}"
    )


#: The summed columns of ``requests``, from the six above joined to each request: 0 where none was seen
#: and that is known; whole numbers as 64 bits (DuckDB sums in 128, which Parquet has not).
FIGURES = ", ".join(_figure(name) for name in SUMS["requests"] if name not in ("summed", "sums"))
