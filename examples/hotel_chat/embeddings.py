"""Embeddings of guests' questions, through a small cache keyed by the raw text.

The vector is kept as pgvector's text form, so that neither a driver plug-in nor its set-up queries
are needed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from openai import AsyncOpenAI

import taximeter

from .flags import Flags
from .shared import Shared
from .spelling import bare, normalised

MODEL = "text-embedding-3-small"
CACHE_ENTRIES = 100
FIXED_ENTRIES = 500
#: flag -> the table of questions with vectors that were made beforehand
READY = {"fix.faq_vectors": "faq", "fix.cache_warmup": "known_questions"}


def as_vector(embedding: list[float]) -> str:
    """pgvector's text form of 1,536 floats, for ``%s::vector``."""
    return str(embedding)


class Embedder:
    """Text in, vector (as text) out; least recently used entries are forgotten first."""

    def __init__(
        self,
        client: AsyncOpenAI,
        flags: Flags,
        made: Callable[[str], Awaitable[Iterable[tuple[str, str]]]],
        shared: Shared,
        capacity: int = CACHE_ENTRIES,
    ) -> None:
        """``made`` asks a table for questions and vectors made beforehand, by the flag that wants them."""
        self._client = client
        self._made = made
        self._shared = shared
        self._ready: dict[str, asyncio.Task[dict[str, str]]] = {}
        self._flags = flags
        self._capacity = capacity
        self._cache: OrderedDict[str, str] = OrderedDict()

    async def warm(self) -> None:
        """Read the vectors made beforehand where a flag asks for them (``READY``); anew, if known already."""
        for flag in READY:
            self._ready.pop(flag, None)
            if self._flags[flag]:
                await self._known(flag)

    async def embed(self, text: str) -> str:
        key = self._key(text)
        cached = None if self._flags["fault.cold_cache"] else await self._cached(key)
        taximeter.record_cache("embedding", hit=cached is not None, key=text)
        if cached is not None:
            return cached
        answer = await self._client.embeddings.create(model=MODEL, input=text)
        vector = as_vector(answer.data[0].embedding)
        self._remember(key, vector)
        if self._flags["fix.shared_cache"]:
            await self._shared.keep(key, vector)
        return vector

    def _key(self, text: str) -> str:
        if self._flags["fix.fuzzy_questions"]:
            return bare(text)
        return normalised(text) if self._flags["fix.embedding_cache"] else text

    async def _cached(self, key: str) -> str | None:
        """From this process, from what was made beforehand, or from the Redis that instances share."""
        if (found := self._cache.get(key)) is not None:
            self._cache.move_to_end(key)
            return found
        for flag in READY:
            if self._flags[flag] and (found := (await self._known(flag)).get(normalised(key))) is not None:
                return found
        if self._flags["fix.shared_cache"] and (found := await self._shared.vector(key)) is not None:
            self._remember(key, found)
            return found
        return None

    async def _known(self, flag: str) -> dict[str, str]:
        if flag not in self._ready:  # the first to ask reads, the others wait for it
            self._ready[flag] = asyncio.ensure_future(self._read(flag))
        return await asyncio.shield(self._ready[flag])

    async def _read(self, flag: str) -> dict[str, str]:
        try:
            return {normalised(question): vector for question, vector in await self._made(READY[flag])}
        except BaseException:
            self._ready.pop(flag, None)  # the next to ask tries again
            raise

    def _remember(self, key: str, vector: str) -> None:
        self._cache[key] = vector
        capacity = FIXED_ENTRIES if self._flags["fix.embedding_cache"] else self._capacity
        while len(self._cache) > capacity:
            self._cache.popitem(last=False)
