"""What the server span says of its request: the account, whole."""

from __future__ import annotations

from taximeter import account as accounts
from taximeter import hashkey, semconv


def attributes(account: accounts.Account) -> dict[str, str | bool | int | float]:
    """The account as attributes of the server span: every field, 0 when nothing happened."""
    total = account.total
    found: dict[str, str | bool | int | float] = {
        semconv.REQUEST_DB_CALLS: total.db_calls,
        semconv.REQUEST_DB_DURATION: total.db_duration,
        semconv.REQUEST_DB_REPEATED: total.db_repeated,
        semconv.REQUEST_MODEL_CALLS: total.model_calls,
        semconv.REQUEST_MODEL_ATTEMPTS: total.model_attempts,
        semconv.REQUEST_EMBEDDING_CALLS: total.embedding_calls,
        semconv.REQUEST_EMBEDDING_INPUTS: total.embedding_inputs,
        semconv.REQUEST_EMBEDDING_DUPLICATES: total.embedding_duplicates,
        semconv.REQUEST_POOL_WAIT: total.pool_wait,
        semconv.REQUEST_TOKENS_INPUT: total.tokens_input,
        semconv.REQUEST_TOKENS_OUTPUT: total.tokens_output,
        semconv.REQUEST_TOKENS_CACHED: total.tokens_cached,
        semconv.REQUEST_COST: total.cost,
        semconv.REQUEST_UNPRICED_CALLS: total.unpriced_calls,
        semconv.REQUEST_CACHE_LOOKUPS: total.cache_lookups if total.caches else 0,
        semconv.REQUEST_CACHE_HITS: total.cache_hits if total.caches else 0,
        semconv.REQUEST_STREAMED: account.streamed,
    }
    if account.first_byte is not None:
        found[semconv.REQUEST_FIRST_BYTE] = account.first_byte
    if account.tenant is not None:
        found[semconv.TENANT] = account.tenant
    if account.feature is not None:
        found[semconv.FEATURE] = account.feature
    if account.segment is not None:
        found[semconv.SEGMENT] = account.segment
    if account.flags is not None:
        found[semconv.FLAGS] = account.flags
    if account.lookups is not None and (text := account.lookups.text()):
        found[semconv.CACHE_LOOKUPS] = text
        found[semconv.EVIDENCE_KEY] = hashkey.hasher().id
    return found
