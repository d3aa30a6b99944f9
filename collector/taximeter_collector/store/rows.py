"""OTLP spans as rows of the span store: promoted attributes to columns, the rest to one map.

A promoted attribute whose value does not fit its column (a text where a number belongs)
stays in the map, as text: nothing is lost, and nothing wrong is counted. Texts are cut at
:data:`MAX_TEXT` characters and a span keeps :data:`MAX_ATTRIBUTES`: a stranger's one huge resource
attribute would otherwise be written once for each of its spans.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from taximeter import semconv as names
from taximeter_collector.values import as_text, plain

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUS = ("unset", "ok", "error")
_SERVER = 2
_ERROR = 2
_MAX_INT = 1 << 63
MAX_TEXT = 8192
MAX_ATTRIBUTES = 256


def _text(value: Any) -> str | None:
    return _cut(value) if isinstance(value, str) else None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) < _MAX_INT and value == int(value) else None


def _status(value: Any) -> int | None:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else _integer(value)
    return number if number is not None and 0 <= number < 1000 else None


def _real(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


Promotion = dict[str, tuple[str, Callable[[Any], Any]]]

#: Attribute -> column of ``spans`` and how it is read. Names after the first of a column are older
#: conventions, used only where the newer is absent.
SPAN_COLUMNS: Promotion = {
    names.ERROR_TYPE: ("error_type", _text),
    names.TENANT: ("tenant", _text),
    names.FEATURE: ("feature", _text),
    names.HTTP_REQUEST_METHOD: ("http_method", _text),
    names.HTTP_ROUTE: ("http_route", _text),
    names.HTTP_RESPONSE_STATUS_CODE: ("http_status", _status),
    names.DB_SYSTEM_NAME: ("db_system", _text),
    names.DB_OPERATION_NAME: ("db_operation", _text),
    names.DB_QUERY_SUMMARY: ("db_summary", _text),
    names.DB_QUERY_TEXT: ("db_statement", _text),
    names.DB_RESPONSE_RETURNED_ROWS: ("db_rows", _integer),
    names.GEN_AI_OPERATION_NAME: ("ai_operation", _text),
    names.GEN_AI_PROVIDER_NAME: ("ai_provider", _text),
    names.GEN_AI_REQUEST_MODEL: ("ai_request_model", _text),
    names.GEN_AI_RESPONSE_MODEL: ("ai_response_model", _text),
    names.GEN_AI_USAGE_INPUT_TOKENS: ("ai_input_tokens", _integer),
    names.GEN_AI_USAGE_OUTPUT_TOKENS: ("ai_output_tokens", _integer),
    names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: ("ai_cache_read_tokens", _integer),
    names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: ("ai_cache_write_tokens", _integer),
    names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: ("ai_reasoning_tokens", _integer),
    names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: ("ai_first_chunk_s", _real),
    names.GEN_AI_USAGE_COST_AMOUNT: ("cost_usd", _real),
    names.COLLECTOR_COST_AMOUNT: ("cost_usd", _real),
    names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: ("ai_cache_write_tokens", _integer),
    names.EVIDENCE_KEY: ("evidence_key", _text),
    names.EMBEDDING_INPUTS: ("embedding_inputs", _integer),
    names.EMBEDDING_INPUT_EXACT: ("embedding_exact", _text),
    names.EMBEDDING_INPUT_NORMALISED: ("embedding_normalised", _text),
    names.EMBEDDING_SIGNATURES: ("embedding_signatures", _text),
    names.PROMPT_BLOCKS: ("prompt_blocks", _text),
    names.DB_PARAMETERS_HASH: ("db_parameters", _text),
    names.DB_PARAMETERS_VALUES: ("db_parameter_values", _text),
    names.DB_RESULT_VALUES: ("db_result_values", _text),
    names.CODE_FILE_PATH: ("code_path", _text),
    names.CODE_LINE_NUMBER: ("code_line", _integer),
    names.CODE_FUNCTION_NAME: ("code_function", _text),
    names.CODE_CALLERS: ("code_callers", _text),
    "http.method": ("http_method", _text),
    "http.status_code": ("http_status", _status),
    "db.system": ("db_system", _text),
    "db.operation": ("db_operation", _text),
    "db.statement": ("db_statement", _text),
    "gen_ai.system": ("ai_provider", _text),
}

#: Attribute of a server span -> column of ``requests``; these leave the span's map.
ACCOUNT_COLUMNS: Promotion = {
    names.FLAGS: ("flags", _text),
    names.SEGMENT: ("segment", _text),
    names.CACHE_LOOKUPS: ("cache_keys", _text),
    names.REQUEST_DB_CALLS: ("db_calls", _integer),
    names.REQUEST_DB_DURATION: ("db_duration_s", _real),
    names.REQUEST_DB_REPEATED: ("db_repeated", _integer),
    names.REQUEST_MODEL_CALLS: ("model_calls", _integer),
    names.REQUEST_MODEL_ATTEMPTS: ("model_attempts", _integer),
    names.REQUEST_EMBEDDING_CALLS: ("embedding_calls", _integer),
    names.REQUEST_EMBEDDING_INPUTS: ("embedding_inputs", _integer),
    names.REQUEST_EMBEDDING_DUPLICATES: ("embedding_duplicates", _integer),
    names.REQUEST_POOL_WAIT: ("pool_wait_s", _real),
    names.REQUEST_TOKENS_INPUT: ("input_tokens", _integer),
    names.REQUEST_TOKENS_OUTPUT: ("output_tokens", _integer),
    names.REQUEST_TOKENS_CACHED: ("cached_tokens", _integer),
    names.REQUEST_COST: ("cost_usd", _real),
    names.REQUEST_UNPRICED_CALLS: ("unpriced_calls", _integer),
    names.REQUEST_CACHE_LOOKUPS: ("cache_lookups", _integer),
    names.REQUEST_CACHE_HITS: ("cache_hits", _integer),
    names.REQUEST_FIRST_BYTE: ("first_byte_s", _real),
    names.REQUEST_STREAMED: ("streamed", _boolean),
}

_ABOUT = (names.SERVICE_NAME, names.SERVICE_INSTANCE_ID, names.SERVICE_VERSION)
_SHARED = (
    "trace_hi", "trace_lo", "span_id", "service", "instance", "version", "start_ns", "duration_ns",
    "http_method", "http_route", "http_status", "tenant", "feature",
    "evidence_key",
)  # fmt: skip

Row = dict[str, Any]


def rows_of(request: Any, is_new: Callable[[bytes], bool]) -> tuple[list[Row], list[Row], int]:
    """Rows for ``spans`` and ``requests`` of one ExportTraceServiceRequest, and how many spans were not new.

    ``is_new`` is asked once for every span with its 24-byte key (trace id, span id).
    """
    spans: list[Row] = []
    requests: list[Row] = []
    repeated = 0
    for resource in request.resource_spans:
        about = {
            pair.key: _cut(as_text(plain(pair.value)))
            for pair in resource.resource.attributes
            if pair.key in _ABOUT
        }
        base = {
            "service": about.get(names.SERVICE_NAME),
            "instance": about.get(names.SERVICE_INSTANCE_ID),
            "version": about.get(names.SERVICE_VERSION),
        }
        for scope in resource.scope_spans:
            for span in scope.spans:
                if not is_new(span_key(span.trace_id, span.span_id)):
                    repeated += 1
                    continue
                row, account = _span(span, base, scope.scope.name)
                spans.append(row)
                if span.kind == _SERVER:
                    shared = {column: row.get(column) for column in _SHARED}
                    requests.append({**shared, "error": span.status.code == _ERROR, **account})
    return spans, requests, repeated


def span_key(trace_id: bytes, span_id: bytes) -> bytes:
    """(trace id, span id) as 24 bytes; ids of a wrong length are cut or padded with zeros."""
    return trace_id[:16].rjust(16, b"\0") + span_id[:8].rjust(8, b"\0")


def _span(span: Any, base: Row, scope: str) -> tuple[Row, Row]:
    key = span_key(span.trace_id, span.span_id)
    row: Row = {
        **base,
        "trace_hi": int.from_bytes(key[:8]),
        "trace_lo": int.from_bytes(key[8:16]),
        "span_id": int.from_bytes(key[16:]),
        "parent_id": int.from_bytes(span.parent_span_id[:8]) if span.parent_span_id else None,
        "name": _cut(span.name),
        "kind": _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0],
        "scope": _cut(scope),
        "start_ns": min(span.start_time_unix_nano, _MAX_INT - 1),
        "duration_ns": min(max(0, span.end_time_unix_nano - span.start_time_unix_nano), _MAX_INT - 1),
        "status": _STATUS[span.status.code] if 0 <= span.status.code < len(_STATUS) else _STATUS[0],
    }
    account: Row = {}
    rest = {pair.key: plain(pair.value) for pair in span.attributes}
    _promote(rest, row, SPAN_COLUMNS)
    if span.kind == _SERVER:
        _promote(rest, account, ACCOUNT_COLUMNS)
    row["attributes"] = [
        (_cut(name), _cut(as_text(value))) for name, value in islice(rest.items(), MAX_ATTRIBUTES)
    ]
    return row, account


def _promote(attributes: dict[str, Any], row: Row, columns: Promotion) -> None:
    """Move what fits from the attributes to the row."""
    for name in [name for name in columns if name in attributes]:
        column, read = columns[name]
        if row.get(column) is None:
            value = read(attributes[name])
            if value is not None:
                row[column] = value
                del attributes[name]
