"""Run-time switches: ``fix.*`` removes one of the weaknesses, ``fault.*`` adds one. All start off.

A flag exists by standing in ``FLAGS``; switching an unknown one is an error that lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FLAGS: Mapping[str, str] = {
    "fix.batch_reservations": "the reservations list joins guests and rooms: 2 statements, not 2 + 2 per row",
    "fix.batch_writes": "a question and its answer are stored by one statement, not two",
    "fix.hotel_cache": "the hotel's row is remembered for two minutes, not read with every request",
    "fix.route_cache": "hotels, policies, FAQ, rooms, prices are remembered, renewed behind the guest's back",
    "fix.embedding_cache": "500 vectors by normalised question, not 100 by the raw text",
    "fix.fuzzy_questions": "greetings and thanks around a question are no part of its key",
    "fix.cache_warmup": "the commonest questions are known from the start (`examples.hotel_chat.warmup`)",
    "fix.shared_cache": "vectors are kept in Redis too, where every instance and the next start find them",
    "fix.parallel": "what does not need another's answer is asked at the same time",
    "fix.indexes": "tells that the indexes stand (`python -m examples.hotel_chat.migrations`)",
    "fix.stream_chat": "the main chat route and the recommendations stream, as /chat/stream does",
    "fix.prompt_order": "the hotel's name stands behind the house rules: hotels share a cached prefix",
    "fix.short_prompt": "the house rules in half as many words",
    "fix.compact_context": "texts far from the question, and old messages, are left out of the prompt",
    "fix.prompt_trial": "half of the conversations get the shorter house rules; segment tells which",
    "fix.routing": "a question that the FAQ answers goes to gpt-4o-mini, a VIP's to Claude Haiku",
    "fix.answer_cache": "a conversation's first question that a guest of the hotel asked before: its answer",
    "fix.similar_answers": "a first question that means what one meant that the hotel answered: its answer",
    "fix.quote_cache": "MotoPress's quotes are remembered, and renewed behind the guest's back",
    "fix.faq_vectors": "the FAQ's vectors, made with the FAQ, are known: no call for its questions",
    "fix.match_functions": "search by the hotel's id, in the order of the distance, which an index can give",
    "fix.occupancy_view": "the occupancy report reads a materialised view, as of its last refresh",
    "fix.stats_query": "the statistics ask once for three numbers",
    "fix.pool": "twenty database connections, not ten",
    "fix.pagination": "reservations and conversations are read page by page",
    "fix.shared_limit": "a conversation's questions are counted in Redis, for all instances, not in each",
    "fault.n_plus_one_rooms": "the rooms list asks for each room's rate by itself: 2 + 1 per room, not 2",
    "fault.long_prompts": "a chat sends the house rules ten times over, for several times the money",
    "fault.small_pool": "one database connection for all requests, not ten",
    "fault.ask_twice": "a chat asks the model twice and throws the first answer away",
    "fault.cold_cache": "the embedding cache is never asked: every question is embedded again",
    "fault.errors": "one request in four about a hotel asks for a column that does not exist: status 500",
}


#: What has no effect without a Redis.
SHARED = frozenset({"fix.shared_cache", "fix.shared_limit"})


class UnknownFlag(LookupError):
    """A flag that is not in ``FLAGS``."""


class Flags:
    """The state of every flag in this process; ``on`` at first (``UnknownFlag``)."""

    def __init__(self, on: Iterable[str] = ()) -> None:
        self._on: set[str] = set()
        self.switch(dict.fromkeys(on, True))

    def __getitem__(self, name: str) -> bool:
        """Whether a declared flag is on. Raises ``UnknownFlag``."""
        self._check(name)
        return name in self._on

    def switch(self, changes: Mapping[str, bool]) -> None:
        """Switch several flags, or none when one of them is unknown (``UnknownFlag``)."""
        for name in changes:
            self._check(name)
        for name, on in changes.items():
            (self._on.add if on else self._on.discard)(name)

    @property
    def active(self) -> list[str]:
        """Names of the flags that are on, sorted."""
        return sorted(self._on)

    def as_dict(self) -> dict[str, dict[str, str | bool]]:
        return {name: {"on": name in self._on, "description": text} for name, text in FLAGS.items()}

    @staticmethod
    def _check(name: str) -> None:
        if name not in FLAGS:
            raise UnknownFlag(f"there is no flag {name!r}; known are: {', '.join(FLAGS)}")
