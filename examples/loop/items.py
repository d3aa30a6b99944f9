"""The plan's tasks of its phases 2 to 4, each with the flag that does it and the page that tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: document -> what it is about
AREAS: Mapping[str, str] = {
    "DATABASE_OPTIMIZATION": "Fewer statements, and faster ones.",
    "AI_COST_OPTIMIZATION": "Fewer embedding and model calls, fewer tokens, cheaper ones.",
    "API_OPTIMIZATION": "Answers that come sooner.",
}
_DB, _AI, _API = AREAS


@dataclass(frozen=True)
class Item:
    """A task. ``how``: what the fix does, and when it does not; ``why`` it has no figure of its own."""

    phase: int
    task: str
    flag: str
    page: str
    how: str
    why: str = ""


ITEMS: tuple[Item, ...] = (
    Item(2, "indexes for frequent WHERE clauses, composite ones", "fix.indexes", _DB,
         "`python -m examples.hotel_chat.migrations --dsn ADMIN_DSN` creates seven indexes without blocking"
         " writers (`--revert` drops them); which ones pay, `taximeter advise db` says."),
    Item(2, "use JOINs instead of separate queries", "fix.batch_reservations", _DB,
         "One join takes the place of two statements a row (`reservations.py`)."),
    Item(2, "combine multiple SELECT queries", "fix.stats_query", _DB,
         "Three counts are one statement with a filter and a sub-select (`admin.py`)."),
    Item(2, "batching for bulk operations", "fix.batch_writes", _DB,
         "Where an answer streams, question and answer are stored together at its end: a guest who hangs up"
         " before leaves neither (`retrieval.py`)."),
    Item(2, "optimise `match_*` vector search functions", "fix.match_functions", _DB,
         "`near_*` take the hotel's id and order by the distance itself, which an HNSW index can give; "
         "`match_*` order by a computed similarity, which none can. With some tens of texts a hotel the "
         "whole is read either way; `make prove-indexes` shows the gain on tables where it counts."),
    Item(2, "materialised views", "fix.occupancy_view", _DB,
         "The report reads a view as of its last refresh (`migrations.py` refreshes it without blocking "
         "readers): schedule that as often as the report must be true."),
    Item(2, "cache frequent queries", "fix.hotel_cache", _DB,
         "The row that every request begins with is remembered for two minutes, stale for ten while it is "
         "renewed (`memory.py`): a changed hotel shows that late."),
    Item(2, "connection pooling review", "fix.pool", _DB,
         "Twenty connections; two instances stay below a small server's `max_connections` of 60.",
         "nobody waited for a connection in this traffic"),
    Item(3, "embedding cache of 500, normalised keys", "fix.embedding_cache", _AI,
         "Keyed by the text in lower case without spaces and marks around it (`spelling.py`)."),
    Item(3, "Redis for distributed caching", "fix.shared_cache", _AI,
         "Behind each process's own cache, for a week; needs `HOTEL_REDIS_URL`. A Redis that does not "
         "answer within a second is a miss (`shared.py`).",
         "one instance has nobody to share with; that two do is in `tests/examples/test_hotel_routes.py`"),
    Item(3, "cache warming for common queries", "fix.cache_warmup", _AI,
         "`python -m examples.hotel_chat.warmup` embeds the 200 commonest stored questions in few calls; in"
         " the loop these are 1,500 questions of the day before, drawn with another seed. The example's "
         "guests know 138 questions in many spellings; of real guests' a smaller part is known beforehand."),
    Item(3, "pre-generated embeddings of the FAQ", "fix.faq_vectors", _AI,
         "The FAQ's vectors are in the database since it was written; the service reads them once.",
         "it is measured together with `fix.cache_warmup`"),
    Item(3, "fuzzy matching", "fix.fuzzy_questions", _AI,
         "Greetings, thanks and phrases such as *could you tell me* are no part of the key, so such a "
         "question gets the vector of its bare form.",
         "it is measured together with `fix.cache_warmup`"),
    Item(3, "cosine similarity for cache lookup", "fix.similar_answers", _AI,
         "A conversation's first question whose vector lies at a cosine of 0.95 or more to one that this "
         "hotel answered gets that answer: two statements more, a model call less. Judge samples before you"
         " trust it.",
         "it overlaps with `fix.answer_cache`"),
    Item(3, "query deduplication", "fix.answer_cache", _AI,
         "By hotel, route and normalised words, for first questions alone: with a history the answer may be"
         " another (`replies.py`)."),
    Item(3, "reduce system prompt token count", "fix.short_prompt", _AI,
         "The same rules in half as many words. Below 1,024 tokens the provider caches nothing: what is "
         "left costs full price."),
    Item(3, "reduce what the prompt costs", "fix.prompt_order", _AI,
         "What is the same for all hotels comes first and is marked for caching, the hotel's name behind "
         "it."),
    Item(3, "compress context without losing quality", "fix.compact_context", _AI,
         "Texts less than 0.6 times as near as the nearest, and all but four messages, are left out.",
         "it overlaps with the trial of the shorter prompt"),
    Item(3, "A/B test shorter prompts", "fix.prompt_trial", _AI,
         "Half of the conversations, by a hash of their name, get the shorter rules; `taximeter.segment` "
         "tells which, so `taximeter report` and the dashboards split tokens, money and errors by it."),
    Item(3, "intent-based routing", "fix.routing", _AI,
         "A question at a cosine of 0.8 or more to one of the FAQ goes to gpt-4o-mini."),
    Item(4, "replace sequential awaits", "fix.parallel", _API,
         "`asyncio.gather` where no call needs another's answer: more connections at once, so mind the "
         "pool."),
    Item(4, "streaming for chat endpoints", "fix.stream_chat", _API,
         "The chat and the recommendations answer as server-sent events; the client must read them."),
    Item(4, "route-level caching, stale-while-revalidate", "fix.route_cache", _API,
         "The pages about hotels, policies, FAQ and rooms, whole, and what other routes read of these; "
         "stale up to ten minutes while one is renewed."),
    Item(4, "slow third parties (MotoPress)", "fix.quote_cache", _API,
         "Quotes by hotel, room and nights: a price may be two minutes old, stale ten while it is renewed."),
    Item(4, "pagination for large lists, infinite scroll", "fix.pagination", _API,
         "Reservations by the last one's day and code (a Link header names the next page), conversations by"
         " fifty messages (`before`): no offset, so no page shifts when something is added."),
    Item(4, "distributed rate limiting", "fix.shared_limit", _API,
         "Thirty questions a minute and conversation, counted in Redis for all instances; status 429 with "
         "Retry-After. In each process again where Redis does not answer (`limits.py`).",
         "it saves nothing; that two instances share one count is in `tests/examples/test_hotel_routes.py`"),
)  # fmt: skip
