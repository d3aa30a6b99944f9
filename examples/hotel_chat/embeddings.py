"""Embeddings of guests' questions, through a small cache keyed by the raw text.

The vector is kept as pgvector's text form, so that neither a driver plug-in nor its set-up queries
are needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from openai import AsyncOpenAI

import taximeter

from .flags import Flags
from .spelling import normalised

MODEL = "text-embedding-3-small"
CACHE_ENTRIES = 100
FIXED_ENTRIES = 500


def as_vector(embedding: list[float]) -> str:
    """pgvector's text form of 1,536 floats, for ``%s::vector``."""
    return str(embedding)


class Embedder:
    """Text in, vector (as text) out; least recently used entries are forgotten first."""

    def __init__(
        self,
        client: AsyncOpenAI,
        flags: Flags,
        made: Callable[[], Awaitable[Iterable[tuple[str, str]]]],
        capacity: int = CACHE_ENTRIES,
    ) -> None:
        """``made`` asks for the questions and vectors that were made with the FAQ (``fix.faq_vectors``)."""
        self._client = client
        self._made = made
        self._ready: dict[str, str] | None = None
        self._flags = flags
        self._capacity = capacity
        self._cache: OrderedDict[str, str] = OrderedDict()

    async def warm(self) -> None:
        """Read the FAQ's vectors, once, where the flag asks for them."""
        if self._ready is None and self._flags["fix.faq_vectors"]:
            self._ready = {normalised(question): vector for question, vector in await self._made()}

    async def embed(self, text: str) -> str:
        key = normalised(text) if self._flags["fix.embedding_cache"] else text
        cached = None if self._flags["fault.cold_cache"] else self._cache.get(key)
        if cached is None and self._flags["fix.faq_vectors"] and not self._flags["fault.cold_cache"]:
            await self.warm()
            cached = (self._ready or {}).get(normalised(text))
        taximeter.record_cache("embedding", hit=cached is not None, key=text)
        if cached is not None:
            if key in self._cache:
                self._cache.move_to_end(key)
            return cached
        answer = await self._client.embeddings.create(model=MODEL, input=text)
        vector = as_vector(answer.data[0].embedding)
        self._cache[key] = vector
        capacity = FIXED_ENTRIES if self._flags["fix.embedding_cache"] else self._capacity
        while len(self._cache) > capacity:
            self._cache.popitem(last=False)
        return vector
