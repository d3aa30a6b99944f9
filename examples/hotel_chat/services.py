"""What the routes share: the pool, the model clients, the booking client, cache and flags.

The pool's size is fixed and it runs no statement of its own (no check, no configure), and
connections are in autocommit mode: what Postgres counts for the role is what the routes sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from .embeddings import Embedder
from .flags import Flags
from .settings import Settings

POOL_SIZE = 10

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


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything; closes it in reverse order. Waits 10 s for the database, then raises."""
    pool: Pool = AsyncConnectionPool(
        settings.database_url,
        connection_class=AsyncConnection[DictRow],
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        open=False,
        kwargs={"autocommit": True, "row_factory": dict_row},
    )
    async with (
        AsyncOpenAI(base_url=settings.openai_base_url, api_key=settings.openai_api_key) as openai,
        AsyncAnthropic(base_url=settings.anthropic_base_url, api_key=settings.anthropic_api_key) as anthropic,
        httpx.AsyncClient(base_url=settings.motopress_url, timeout=30.0) as booking,
        pool,
    ):
        await pool.wait(timeout=10.0)
        flags = Flags()
        yield Services(pool, openai, anthropic, booking, Embedder(openai, flags), flags)
