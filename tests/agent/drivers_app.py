"""Database drivers in an ASGI service: each route names what it does to the database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

# A service may import an instrumentor itself, before the library: it imports the library half-way through.
import opentelemetry.instrumentation.sqlalchemy as _imported_by_the_service  # isort: skip  # noqa: F401

import asyncpg
import fastapi
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

DATABASE = os.environ["DATABASE_URL"]
pools: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(DATABASE, min_size=1) as pool:
        pools["asyncpg"] = pool
        yield


app = fastapi.FastAPI(lifespan=lifespan)
asynchronous = create_async_engine(DATABASE.replace("postgresql:", "postgresql+asyncpg:"), pool_pre_ping=True)
psycopg = sqlalchemy.create_engine(DATABASE.replace("postgresql:", "postgresql+psycopg:"), pool_pre_ping=True)
sqlite = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)


@app.get("/asyncpg")
async def by_asyncpg() -> int:
    """Six: fetch, fetchrow, fetchval, executemany, a prepared one, a cursor of four rows."""
    async with pools["asyncpg"].acquire() as connection:
        await connection.fetch("SELECT id, name FROM guests")
        await connection.fetchrow("SELECT name FROM guests WHERE id = $1", 1)
        await connection.fetchval("SELECT count(*) FROM guests")
        async with connection.transaction():
            await connection.executemany("INSERT INTO visits VALUES ($1)", [(1,), (2,), (3,)])
            prepared = await connection.prepare("SELECT name FROM guests WHERE id = $1")
            await prepared.fetchrow(2)
            async for _ in connection.cursor("SELECT name FROM guests", prefetch=1):
                pass
    return 6


@app.get("/asyncpg/cursor")
async def by_cursor() -> int:
    async with pools["asyncpg"].acquire() as connection, connection.transaction():
        cursor = await connection.cursor("SELECT id FROM guests")
        await cursor.fetch(1)
        await cursor.fetch(1)
        await cursor.forward(1)
    return 1


@app.get("/asyncpg/fails")
async def fails() -> int:
    async with pools["asyncpg"].acquire() as connection:
        try:
            await connection.fetch("SELECT nothing FROM nowhere")
        except asyncpg.PostgresError:
            return 1
    return 0


@app.get("/sqlalchemy/asyncpg")
async def by_sqlalchemy_and_asyncpg() -> int:
    async with asynchronous.begin() as connection:
        await connection.execute(text("SELECT name FROM guests WHERE id = :id"), {"id": 1})
        await connection.execute(text("INSERT INTO visits VALUES (7)"))
    return 2


@app.get("/sqlalchemy/psycopg")
def by_sqlalchemy_and_psycopg() -> int:
    with psycopg.begin() as connection:
        connection.execute(text("SELECT name FROM guests WHERE id = :id"), {"id": 1})
        connection.execute(text("INSERT INTO visits VALUES (:guest)"), [{"guest": 1}, {"guest": 2}])
    return 2


@app.get("/sqlalchemy/sqlite")
def by_sqlalchemy_and_sqlite() -> int:
    with sqlite.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS rooms (id int)"))
        connection.execute(text("INSERT INTO rooms VALUES (:id)"), [{"id": 1}, {"id": 2}])
        connection.execute(text("SELECT 'a secret' FROM rooms"))
        with connection.begin_nested():
            pass
    return 3
