"""What the routes share: the pool, the model clients, the booking client, cache and flags.

The pool's size is fixed and it runs no statement of its own (no check, no configure), and
connections are in autocommit mode: what Postgres counts for the role is what the routes sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from .embeddings import Embedder
from .flags import SHARED, Flags
from .limits import Limits
from .memory import Memory
from .settings import Settings, no_redis
from .shared import Shared, open_shared

POOL_SIZE = 10
LARGE_POOL = 20  # with fix.pool; two instances stay below the usual max_connections of a small plan (60)

Row = dict[str, Any]
Pool = AsyncConnectionPool[AsyncConnection[DictRow]]


@dataclass(frozen=True, slots=True)
class Services:
    pool: Pool
    openai: AsyncOpenAI
    anthropic: AsyncAnthropic
    booking: httpx.AsyncClient
    embedder: Embedder
    flags: Flags
    limits: Limits
    shared: Shared
    hotels: Memory = field(default_factory=lambda: Memory("hotels"))
    pages: Memory = field(default_factory=lambda: Memory("pages"))
    answers: Memory = field(default_factory=lambda: Memory("answers", 500))
    quotes: Memory = field(default_factory=lambda: Memory("quotes"))

    async def together(self, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
        """The answers of calls that do not need each other: at once with ``fix.parallel``, else in turn."""
        if self.flags["fix.parallel"]:
            return await asyncio.gather(*calls)
        try:
            return [await call for call in calls]
        finally:
            for call in calls:
                call.close()  # those not begun, when one before them failed

    async def resize(self) -> None:
        """Give the pool the size that the flags ask for: a larger one at once, a smaller one over time."""
        size = _pool_size(self.flags)
        if self.pool.max_size != size:
            await self.pool.resize(size, size)

    async def warm(self) -> None:
        """Read ahead what the flags ask for (``fix.faq_vectors``, ``fix.cache_warmup``)."""
        await self.embedder.warm()

    def switch(self, changes: Mapping[str, bool]) -> None:
        """Switch flags, all or none (``UnknownFlag``; ``ValueError`` for one that needs a Redis)."""
        wanted = sorted(name for name in SHARED if changes.get(name))
        if wanted and not self.shared:
            raise ValueError(no_redis(wanted))
        self.flags.switch(changes)

    async def page(self, name: str, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Static content: remembered with ``fix.route_cache``."""
        return await (self.pages.get(f"{name} {key}", ask) if self.flags["fix.route_cache"] else ask())

    async def rows(self, statement: str, *parameters: Any) -> list[Row]:
        """Run one statement on a connection of its own; all its rows."""
        async with self.pool.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()

    async def row(self, statement: str, *parameters: Any) -> Row | None:
        """Run one statement; its first row, or None."""
        rows = await self.rows(statement, *parameters)
        return rows[0] if rows else None

    async def execute(self, statement: str, *parameters: Any) -> None:
        """Run one statement that returns nothing."""
        async with self.pool.connection() as connection:
            await connection.execute(statement, parameters)


def _pool_size(flags: Flags) -> int:
    return 1 if flags["fault.small_pool"] else LARGE_POOL if flags["fix.pool"] else POOL_SIZE


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything; closes it in reverse order. Waits 10 s for the database, then raises."""
    flags = Flags(settings.flags)
    size = _pool_size(flags)  # psycopg closes connections that are too many after minutes only
    pool: Pool = AsyncConnectionPool(
        settings.database_url,
        connection_class=AsyncConnection[DictRow],
        min_size=size,
        max_size=size,
        open=False,
        kwargs={"autocommit": True, "row_factory": dict_row},
    )
    async with (
        AsyncOpenAI(base_url=settings.openai_base_url, api_key=settings.openai_api_key) as openai,
        AsyncAnthropic(base_url=settings.anthropic_base_url, api_key=settings.anthropic_api_key) as anthropic,
        httpx.AsyncClient(base_url=settings.motopress_url, timeout=30.0) as booking,
        open_shared(settings.redis_url) as shared,
        pool,
    ):
        await pool.wait(timeout=10.0)

        async def made(table: str) -> list[tuple[str, str]]:
            question = f"SELECT DISTINCT ON (question) question, embedding::text AS vector FROM {table}"
            async with pool.connection() as connection:
                rows = await (await connection.execute(question.encode())).fetchall()
            return [(row["question"], row["vector"]) for row in rows]

        embedder = Embedder(openai, flags, made, shared)
        services = Services(pool, openai, anthropic, booking, embedder, flags, Limits(flags, shared), shared)
        yield services
