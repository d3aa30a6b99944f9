"""A service whose requests leave evidence: texts that must not be exported, and caches of every kind."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiocache
import anthropic
import asyncpg
import cachetools
import fastapi
import numpy  # noqa: F401  (signatures are made only where the service has loaded it)
import openai
import psycopg
import psycopg_pool
import redis
import redis.asyncio

import taximeter

SECRET = "Mrs Dalloway said she would buy the flowers herself"
chat = openai.AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="x")
claude = anthropic.AsyncAnthropic(base_url=os.environ["ANTHROPIC_BASE_URL"], api_key="x")
GPT, CLAUDE, EMBEDDING = "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small"
pools: dict[str, Any] = {}
memory: Any = cachetools.LRUCache(maxsize=8)
REDIS = os.environ.get("REDIS_URL", "")


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    if "DATABASE_URL" not in os.environ:
        yield
        return
    async with psycopg_pool.AsyncConnectionPool(
        os.environ["DATABASE_URL"], open=False, min_size=1, max_size=1
    ) as pool:
        await pool.wait()
        pools["one"] = pool
        yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/embed")
async def embed() -> str:
    await chat.embeddings.create(model=EMBEDDING, input=SECRET)
    await chat.embeddings.create(model=EMBEDDING, input=[f"  {SECRET.upper()}?", SECRET, "another"])
    await chat.embeddings.create(model=EMBEDDING, input=[1, 2, 3])
    return "ok"


@app.get("/prompts")
async def prompts() -> str:
    rules = "You are the concierge of the Ritz. " * 50
    for question in ("Is there a pool?", SECRET):
        await chat.chat.completions.create(
            model=GPT,
            messages=[{"role": "system", "content": rules}, {"role": "user", "content": question}],
        )
    await chat.responses.create(model=GPT, instructions=rules, input=SECRET)
    await claude.messages.create(
        model=CLAUDE,
        max_tokens=9,
        system=[{"type": "text", "text": rules, "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": SECRET}],
    )
    return "ok"


@app.get("/transactions")
async def transactions() -> str:
    async with pools["one"].connection() as connection:
        await connection.execute("SELECT 1 FROM guests")
        await connection.execute("SELECT 2 FROM guests")
        await connection.commit()
        async with connection.transaction():
            await connection.execute("SELECT 3 FROM guests")
        await connection.set_autocommit(True)
        await connection.execute("SELECT 4 FROM guests")
        await connection.set_autocommit(False)
    return "ok"


@app.get("/asyncpg")
async def by_asyncpg() -> str:
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    for row in await connection.fetch("SELECT id, name FROM guests ORDER BY id LIMIT 2"):
        await connection.fetch("SELECT name FROM guests WHERE id = $1", row["id"])
    await connection.close()
    return "ok"


@app.get("/statements")
async def statements() -> int:
    async with pools["one"].connection() as connection:
        rows = await (await connection.execute("SELECT id, name FROM guests ORDER BY id")).fetchall()
        for number, _ in rows[:2]:
            await connection.execute("SELECT name FROM guests WHERE id = %s AND name <> %s", (number, SECRET))
        await connection.execute(
            "SELECT name FROM guests WHERE id = %s AND name <> %s", params=(rows[0][0], SECRET)
        )
    return len(rows)


@app.get("/walks")
async def walks() -> str:
    """A tree climbed by its parents, then a loop over a list: the same statement, through both drivers."""
    step = "SELECT {} - 1 AS parent, 'folder' AS name"
    async with await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"]) as one:
        at: int = 7
        for _ in range(5):
            found = await (await one.execute(step.format("%s::int"), (at,))).fetchone()
            at = found[0] if found else 0
        for number in (50, 30, 10, 70, 20):
            await one.execute("SELECT %s::int + 1 AS looped", (number,))
    other = await asyncpg.connect(os.environ["DATABASE_URL"])
    for _ in range(5):
        at = await other.fetchval(step.format("$1::int"), at)
    await other.close()
    return "ok"


@app.get("/waiting")
async def waiting() -> str:
    async def one() -> None:
        async with pools["one"].connection() as connection:
            await connection.execute("SELECT pg_sleep(0.2)")

    await asyncio.gather(one(), one())
    return "ok"


@taximeter.watch_cache("policies")
@functools.lru_cache(maxsize=2)
def policy(hotel: str) -> str:
    return hotel.upper()


@cachetools.cached(cachetools.TTLCache(maxsize=4, ttl=60))
def price(hotel: str, nights: int) -> int:
    return len(hotel) * nights


@app.get("/caches")
async def caches() -> str:
    taximeter.record_cache("embedding", False, key=SECRET)
    taximeter.record_cache("embedding", True, key=SECRET)
    taximeter.record_cache("embedding", True, key=f" {SECRET.lower()} ")
    taximeter.record_cache("unkeyed", True)
    for hotel in ("ritz", "savoy", "ritz"):
        policy(hotel)
        price(hotel, 2)
    memory.get(SECRET)
    memory[SECRET] = 1
    assert memory[SECRET] == memory.get(SECRET) == 1
    local = aiocache.SimpleMemoryCache(namespace="answers")
    await local.get(SECRET)
    await local.set(SECRET, "x")
    await local.get(SECRET)
    return "ok"


@app.get("/redis")
async def through_redis() -> str:
    with redis.Redis.from_url(REDIS) as sync:
        sync.get(f"emb:{SECRET}")
        sync.set(f"emb:{SECRET}", "x")
        sync.get(f"emb:{SECRET}")
        sync.mget("other", f"emb:{SECRET}")
    async with redis.asyncio.Redis.from_url(REDIS) as client:
        await client.get(f"emb:{SECRET}")
        await client.get("nothing")
    return "ok"


@app.get("/who")
async def who(segment: str = "") -> str:
    if segment:
        taximeter.attribute("segment", segment)
    await chat.chat.completions.create(model=GPT, messages=[{"role": "user", "content": "hello"}])
    return "ok"
