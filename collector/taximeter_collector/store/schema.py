"""The span store's tables: what the collector writes and the analysis reads.

A store is a directory::

    <store>/spans/*.parquet       one row per span
    <store>/requests/*.parquet    one row per server span: the request and its account

Segments are immutable, written to a temporary name and renamed, so a reader never sees
half a file. Ids are unsigned 64-bit integers (a trace id is two), because DuckDB turns
128-bit integers into doubles when it writes Parquet. Absent values are null.

Columns are only ever added. A reader takes a column that a segment does not have for null;
compaction writes the segment again in today's schema. A segment that says it is of a later
version than the reader's is refused.

Version 2 adds what compaction sums up (`store.sums`), so that a report over a hundred million spans
need not read them: whose call a span is, and what the spans of a request come to. It also adds
the evidence without content (``docs/evidence.md``).

Version 3: a request carries its model calls and its slow statements as well, in short, so that a report reads
``spans`` for what compaction could not settle, and for nothing else.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 3
VERSION_KEY = "taximeter.schema_version"  # in a segment's Parquet metadata

#: Column -> the span attribute it is promoted from.
#: Whatever is not promoted stays in ``attributes`` (map of string to string).
SPANS = pa.schema(
    [
        ("trace_hi", pa.uint64()),  # first 8 bytes of the trace id, big-endian
        ("trace_lo", pa.uint64()),  # last 8 bytes
        ("span_id", pa.uint64()),
        ("parent_id", pa.uint64()),  # null: no parent
        ("name", pa.string()),
        ("kind", pa.string()),  # internal, server, client, producer, consumer
        ("service", pa.string()),  # service.name
        ("instance", pa.string()),  # service.instance.id
        ("version", pa.string()),  # service.version
        ("scope", pa.string()),  # instrumentation scope name
        ("start_ns", pa.int64()),  # Unix time, nanoseconds
        ("duration_ns", pa.int64()),
        ("status", pa.string()),  # unset, ok, error
        ("error_type", pa.string()),  # error.type
        ("tenant", pa.string()),  # taximeter.tenant
        ("feature", pa.string()),  # taximeter.feature
        ("http_method", pa.string()),  # http.request.method
        ("http_route", pa.string()),  # http.route
        ("http_status", pa.int32()),  # http.response.status_code
        ("db_system", pa.string()),  # db.system.name
        ("db_operation", pa.string()),  # db.operation.name
        ("db_summary", pa.string()),  # db.query.summary
        ("db_statement", pa.string()),  # db.query.text
        ("db_rows", pa.int64()),  # db.response.returned_rows
        ("ai_operation", pa.string()),  # gen_ai.operation.name
        ("ai_provider", pa.string()),  # gen_ai.provider.name
        ("ai_request_model", pa.string()),
        ("ai_response_model", pa.string()),
        ("ai_input_tokens", pa.int64()),  # cached ones included
        ("ai_output_tokens", pa.int64()),
        ("ai_cache_read_tokens", pa.int64()),
        ("ai_cache_write_tokens", pa.int64()),
        ("ai_reasoning_tokens", pa.int64()),
        ("ai_first_chunk_s", pa.float64()),  # gen_ai.response.time_to_first_chunk
        ("cost_usd", pa.float64()),  # gen_ai.usage.cost.amount
        ("attributes", pa.map_(pa.string(), pa.string())),
        # version 2: evidence; hashes compare under one evidence_key only; lists are separated by spaces
        ("evidence_key", pa.string()),  # taximeter.evidence.key
        ("embedding_inputs", pa.int64()),  # taximeter.embedding.inputs
        ("embedding_exact", pa.string()),  # a hash an input
        ("embedding_normalised", pa.string()),
        ("embedding_signatures", pa.string()),  # 64 hexadecimal digits a vector
        ("prompt_blocks", pa.string()),  # "s128:hash u40:hash"
        ("db_parameters", pa.string()),  # hash of a call's parameters
        ("db_parameter_values", pa.string()),  # hashes of single values
        ("db_result_values", pa.string()),
        ("code_path", pa.string()),  # code.file.path
        ("code_line", pa.int64()),
        ("code_function", pa.string()),
        ("code_callers", pa.string()),  # "file:line function < ..."
        # version 2, from compaction
        ("summed", pa.bool_()),  # true: the two below are filled; null: not yet
        ("family", pa.string()),  # db, model, embedding, priced, http; null: no call
        ("owner_id", pa.uint64()),  # span_id of the request that made the call; null: not in this segment
        ("loose", pa.bool_()),  # true: a call without an owner; else null, so that readers skip row groups
    ]
)

#: A statement that one request sent again and again (N+1).
REPEATED = pa.struct([("statement", pa.string()), ("times", pa.int64()), ("ns", pa.int64())])
MIN_REPEATS = 5

#: A call to a model of one request; the names are those of `store.sums`.
USE = pa.struct(
    [
        ("model", pa.string()),
        ("provider", pa.string()),
        ("operation", pa.string()),
        ("failed", pa.bool_()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("ns", pa.int64()),
    ]
)

#: A statement of a request that took SLOW_STATEMENT_NS or longer.
SLOW_STATEMENT = pa.struct(
    [
        ("span_id", pa.uint64()),
        ("start_ns", pa.int64()),
        ("ns", pa.int64()),
        ("statement", pa.string()),
        ("rows", pa.int64()),
    ]
)
SLOW_STATEMENT_NS = 500_000_000

#: One row per server span. The account's columns are null where the sender has no agent of ours.
REQUESTS = pa.schema(
    [
        ("trace_hi", pa.uint64()),
        ("trace_lo", pa.uint64()),
        ("span_id", pa.uint64()),
        ("service", pa.string()),
        ("instance", pa.string()),
        ("version", pa.string()),
        ("start_ns", pa.int64()),
        ("duration_ns", pa.int64()),
        ("http_method", pa.string()),
        ("http_route", pa.string()),  # null: no route matched (404)
        ("http_status", pa.int32()),
        ("error", pa.bool_()),  # span status is error
        ("tenant", pa.string()),
        ("feature", pa.string()),
        ("flags", pa.string()),  # taximeter.flags
        ("db_calls", pa.int64()),
        ("db_duration_s", pa.float64()),
        ("db_repeated", pa.int64()),
        ("model_calls", pa.int64()),
        ("model_attempts", pa.int64()),
        ("embedding_calls", pa.int64()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("unpriced_calls", pa.int64()),
        ("cache_lookups", pa.int64()),
        ("cache_hits", pa.int64()),
        ("first_byte_s", pa.float64()),
        ("streamed", pa.bool_()),
        # version 2
        ("embedding_inputs", pa.int64()),
        ("embedding_duplicates", pa.int64()),  # inputs that had been asked for before
        ("pool_wait_s", pa.float64()),  # waiting for a free connection
        ("segment", pa.string()),  # taximeter.segment
        ("evidence_key", pa.string()),  # of the hashes in cache_keys
        ("cache_keys", pa.string()),  # taximeter.cache.lookups: "name=+hash,-hash/normalised name=..."
        # version 2, from compaction: what the calls in this segment come to that are the request's own
        ("summed", pa.bool_()),  # true: the columns below are filled; null: not yet
        ("seen_db_calls", pa.int64()),
        ("seen_db_s", pa.float64()),
        ("seen_model_calls", pa.int64()),
        ("seen_embedding_calls", pa.int64()),
        ("seen_input_tokens", pa.int64()),
        ("seen_output_tokens", pa.int64()),
        ("seen_cached_tokens", pa.int64()),
        ("seen_cost_usd", pa.float64()),
        ("seen_unpriced_calls", pa.int64()),
        ("repeated", pa.list_(REPEATED)),  # statements sent MIN_REPEATS times or more
        ("busy_model_ns", pa.int64()),  # time in which a model was busy
        ("busy_db_ns", pa.int64()),  # ... the database, and no model
        ("busy_http_ns", pa.int64()),  # ... another HTTP call, and neither of the two
        # version 3, from compaction
        (
            "sums",
            pa.int32(),
        ),  # of which schema version the summed columns are; null: of version 2, or not summed
        ("uses", pa.list_(USE)),  # calls to models, embeddings and other priced ones
        ("slow_statements", pa.list_(SLOW_STATEMENT)),
        ("stray", pa.bool_()),  # true: some call of it started before it began or after it ended; else null
    ]
)

#: Columns that compaction fills.
SUMS = {
    "spans": ("summed", "family", "owner_id", "loose"),
    "requests": tuple(
        name
        for name in REQUESTS.names
        if name in ("summed", "sums", "repeated", "uses", "slow_statements", "stray")
        or name.startswith(("seen_", "busy_"))
    ),
}

#: Columns that a segment may lack, because it is of an earlier version.
ADDED = {
    "spans": (
        *(
            name
            for name in SPANS.names
            if name.startswith(("embedding_", "code_", "db_parameter", "db_result"))
            or name in ("evidence_key", "prompt_blocks")
        ),
        *SUMS["spans"],
    ),
    "requests": (
        *("embedding_inputs", "embedding_duplicates", "pool_wait_s", "segment", "evidence_key", "cache_keys"),
        *SUMS["requests"],
    ),
}
