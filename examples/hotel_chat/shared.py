"""What all instances of the service have in common, where ``HOTEL_REDIS_URL`` names a Redis.

Vectors of questions, and counts. A Redis that does not answer within a moment is a cache that misses and a
count that nobody knows: guests are served all the same. The client is imported only where there is a URL.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

_PATIENCE_S = 1.0
_VECTOR_S = 7 * 86_400


class Shared:
    """A Redis, or nothing at all: then every answer is None."""

    def __init__(self, client: Redis | None = None, failures: tuple[type[Exception], ...] = ()) -> None:
        """``failures``: what the client raises that is no fault of ours."""
        self._client = client
        self._failures = failures

    def __bool__(self) -> bool:
        return self._client is not None

    async def vector(self, question: str) -> str | None:
        """The vector (as text) that some instance kept for a question's key."""
        found: str | None = None
        if self._client:
            found = await self._or_none(self._client.get(f"embedding:{question}"))
        return found

    async def keep(self, question: str, vector: str) -> None:
        """Keep a vector for a week."""
        if self._client:
            await self._or_none(self._client.set(f"embedding:{question}", vector, ex=_VECTOR_S))

    async def count(self, name: str, seconds: int) -> int | None:
        """Count one more of ``name``, over all instances; forgotten after ``seconds``. None: not known."""
        if not self._client:
            return None
        both = self._client.pipeline(transaction=True)
        both.incr(f"count:{name}")
        both.expire(f"count:{name}", seconds)
        counted = await self._or_none(both.execute())
        return int(counted[0]) if counted else None

    async def _or_none(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except self._failures:
            return None


@contextlib.asynccontextmanager
async def open_shared(url: str) -> AsyncIterator[Shared]:
    """The Redis at ``url``, or nothing for ``""``. Raises ``ValueError`` for what is no URL of a Redis."""
    if not url:
        yield Shared()
        return
    from redis.asyncio import Redis  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    client = Redis.from_url(
        url, decode_responses=True, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S
    )
    try:
        yield Shared(client, (RedisError, OSError))
    finally:
        await client.aclose()
