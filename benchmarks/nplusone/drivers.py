"""One way to ask for three libraries: psycopg, asyncpg and SQLAlchemy (Core, over psycopg), each with its
pool.

A pool of psycopg checks a connection before it gives it away, SQLAlchemy's pings it: statements and spans
that stand between those of the request, as they do in services.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import asyncpg
import sqlalchemy
from psycopg.sql import SQL
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

Row = tuple[Any, ...]


class Asks(Protocol):
    """Sends a statement, written with ``%s``."""

    async def __call__(self, text: str, *values: Any) -> list[Row]: ...


class Driver(Protocol):
    """A library with its pool."""

    name: str

    async def ask(self, text: str, *values: Any) -> list[Row]:
        """On a connection of the pool's."""
        ...

    def connection(self) -> contextlib.AbstractAsyncContextManager[Asks]:
        """One connection, in a transaction."""
        ...

    async def pieces(self, text: str, size: int) -> int:
        """All rows through a cursor on the server, ``size`` at a time; returns how many."""
        ...

    async def close(self) -> None: ...


class Psycopg:
    name = "psycopg"

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def ask(self, text: str, *values: Any) -> list[Row]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(SQL(text), values or None)
            return await cursor.fetchall() if cursor.description else []

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Asks]:
        async with self._pool.connection() as connection:

            async def ask(text: str, *values: Any) -> list[Row]:
                cursor = await connection.execute(SQL(text), values or None)
                return await cursor.fetchall() if cursor.description else []

            yield ask

    async def pieces(self, text: str, size: int) -> int:
        count = 0
        async with self._pool.connection() as connection, connection.cursor(name="pieces") as cursor:
            await cursor.execute(SQL(text))
            while rows := await cursor.fetchmany(size):
                count += len(rows)
        return count

    async def close(self) -> None:
        await self._pool.close()


class Asyncpg:
    name = "asyncpg"

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def ask(self, text: str, *values: Any) -> list[Row]:
        return [tuple(row) for row in await self._pool.fetch(_numbered(text), *values)]

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Asks]:
        async with self._pool.acquire() as connection, connection.transaction():

            async def ask(text: str, *values: Any) -> list[Row]:
                return [tuple(row) for row in await connection.fetch(_numbered(text), *values)]

            yield ask

    async def pieces(self, text: str, size: int) -> int:
        count = 0
        async with self._pool.acquire() as connection, connection.transaction():
            cursor = await connection.cursor(text)
            while rows := await cursor.fetch(size):
                count += len(rows)
        return count

    async def close(self) -> None:
        await self._pool.close()


class Alchemy:
    name = "sqlalchemy"

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def ask(self, text: str, *values: Any) -> list[Row]:
        async with self.connection() as ask:
            return await ask(text, *values)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Asks]:
        async with self._engine.begin() as connection:
            yield _asking(connection)

    async def pieces(self, text: str, size: int) -> int:
        count = 0
        async with self._engine.connect() as connection:
            result = await connection.stream(sqlalchemy.text(text), execution_options={"yield_per": size})
            async for rows in result.partitions(size):
                count += len(rows)
        return count

    async def close(self) -> None:
        await self._engine.dispose()


def _asking(connection: AsyncConnection) -> Asks:
    async def ask(text: str, *values: Any) -> list[Row]:
        names = iter(range(len(values)))
        named = re.sub("%s", lambda _: f":p{next(names)}", text)
        result = await connection.execute(
            sqlalchemy.text(named), {f"p{place}": value for place, value in enumerate(values)}
        )
        return [tuple(row) for row in result] if result.returns_rows else []

    return ask


def _numbered(text: str) -> str:
    places = iter(range(1, 100))
    return re.sub("%s", lambda _: f"${next(places)}", text)


async def _psycopg(dsn: str) -> Driver:
    pool = AsyncConnectionPool(
        dsn, open=False, min_size=4, max_size=8, check=AsyncConnectionPool.check_connection
    )
    await pool.open(wait=True)
    return Psycopg(pool)


async def _asyncpg(dsn: str) -> Driver:
    return Asyncpg(await asyncpg.create_pool(dsn, min_size=4, max_size=8))


async def _alchemy(dsn: str) -> Driver:
    url = dsn.replace("postgresql://", "postgresql+psycopg://")
    return Alchemy(create_async_engine(url, pool_size=8, pool_pre_ping=True))


#: name -> opens it
OPEN: dict[str, Callable[[str], Any]] = {"psycopg": _psycopg, "asyncpg": _asyncpg, "sqlalchemy": _alchemy}
