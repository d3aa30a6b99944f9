"""The service under test: a FastAPI app with the real SDKs, started by ``opentelemetry-instrument``.

It says nothing of telemetry, save where a route exercises the public API.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anthropic
import fastapi
import openai
import psycopg
import psycopg.rows
import psycopg_pool
from fastapi.responses import StreamingResponse
from psycopg import sql
from starlette.background import BackgroundTask

import taximeter

DATABASE = os.environ.get("DATABASE_URL")
chat = openai.AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="x")
chat_sync = openai.OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="x")
claude = anthropic.AsyncAnthropic(base_url=os.environ["ANTHROPIC_BASE_URL"], api_key="x")
claude_sync = anthropic.Anthropic(base_url=os.environ["ANTHROPIC_BASE_URL"], api_key="x")
pools: dict[str, Any] = {}
background: set[asyncio.Task[None]] = set()
HELLO: Any = [{"role": "user", "content": "hello"}]
GPT, CLAUDE, EMBEDDING = "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small"


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    if DATABASE is None:
        yield
        return
    check = psycopg_pool.AsyncConnectionPool.check_connection
    check_sync = psycopg_pool.ConnectionPool.check_connection
    async with psycopg_pool.AsyncConnectionPool(DATABASE, open=False, check=check) as pool:
        with psycopg_pool.ConnectionPool(DATABASE, open=False, check=check_sync) as sync:
            pools["async"], pools["sync"] = pool, sync
            yield


app = fastapi.FastAPI(lifespan=lifespan)


async def ask(model: str = GPT, key: str = "") -> None:
    await chat.chat.completions.create(model=model, messages=HELLO, extra_headers={"x-key": key})


async def tell() -> None:
    await claude.messages.create(model=CLAUDE, max_tokens=99, messages=HELLO)


async def embed() -> None:
    await chat.embeddings.create(model=EMBEDDING, input="hello")


@app.get("/plain/{name}")
async def plain(name: str) -> str:
    return name


@app.get("/chat/{hotel}")
async def chatting(hotel: str, model: str = GPT) -> str:
    taximeter.attribute("tenant", hotel)
    await ask(model, hotel)
    return hotel


@app.get("/responses")
async def responses() -> str:
    await chat.responses.create(model=GPT, input="hello")
    return "ok"


@app.get("/everything")
async def everything() -> str:
    await asyncio.gather(ask(), tell(), embed())
    return "ok"


@app.get("/threads")
def threads() -> str:
    chat_sync.chat.completions.create(model=GPT, messages=HELLO)
    claude_sync.messages.create(model=CLAUDE, max_tokens=99, messages=HELLO)
    return "ok"


@app.get("/stream/openai")
async def stream_openai(usage: bool = True) -> StreamingResponse:
    options: Any = {"include_usage": True} if usage else openai.omit
    stream = await chat.chat.completions.create(
        model=GPT, messages=HELLO, stream=True, stream_options=options
    )

    async def words() -> AsyncIterator[str]:
        async for part in stream:
            for choice in part.choices:
                yield choice.delta.content or "."

    return StreamingResponse(words())


@app.get("/stream/anthropic")
async def stream_anthropic() -> StreamingResponse:
    stream = await claude.messages.create(model=CLAUDE, max_tokens=99, messages=HELLO, stream=True)
    await embed()  # not under the message's span

    async def words() -> AsyncIterator[str]:
        async for event in stream:
            yield event.type

    return StreamingResponse(words())


@app.get("/stream/helper")
async def stream_helper() -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        async with claude.messages.stream(model=CLAUDE, max_tokens=99, messages=HELLO) as stream:
            async for text in stream.text_stream:
                yield text
                yield "!"

    return StreamingResponse(words())


@app.get("/stream/threads")
def stream_threads() -> StreamingResponse:
    def words() -> Iterator[str]:
        with claude_sync.messages.stream(model=CLAUDE, max_tokens=99, messages=HELLO) as stream:
            yield from stream.text_stream
        yield "!"
        yield "!"

    return StreamingResponse(words())


@app.get("/cache")
async def cache() -> str:
    taximeter.record_cache("embeddings", True)
    taximeter.record_cache("embeddings", False, "breakfast?")
    taximeter.record_cache("answers", False, "breakfast?")
    taximeter.attribute("feature", "faq")
    taximeter.attribute("flags", "fix.b, fault.a")
    account = taximeter.request_account()
    assert account is not None
    return str(account.total.cache_lookups)


@app.get("/boom")
async def boom() -> str:
    await embed()
    raise RuntimeError("boom")


@app.get("/broken-stream")
async def broken_stream() -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        yield "a"
        await embed()
        raise RuntimeError("boom")

    return StreamingResponse(words())


@app.get("/background")
async def in_background() -> fastapi.Response:
    async def later() -> None:
        await asyncio.sleep(0.3)
        await embed()

    return fastapi.Response("ok", background=BackgroundTask(later))


@app.get("/detached")
async def detached() -> str:
    async def later() -> None:
        await asyncio.sleep(0.2)
        await embed()

    task = asyncio.create_task(later())
    background.add(task)
    return "ok"


@app.get("/slow")
async def slow(seconds: float = 0.5) -> str:
    await asyncio.sleep(seconds)
    return "ok"


@app.get("/db/n-plus-one")
async def n_plus_one() -> int:
    async with pools["async"].connection() as connection:
        rows = await (await connection.execute("SELECT id FROM guests ORDER BY id")).fetchall()
        for (number,) in rows:
            await connection.execute("SELECT name FROM guests WHERE id = %s", (number,))
    return len(rows)


@app.get("/db/gather")
async def gather() -> str:
    async def one() -> None:
        async with pools["async"].connection() as connection:
            await connection.execute("SELECT 1")

    await asyncio.gather(*(one() for _ in range(5)))
    return "ok"


@app.get("/db/sync")
def sync() -> str:
    with pools["sync"].connection() as connection, connection.transaction():
        connection.execute("SAVEPOINT mine")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO visits (guest) VALUES (%s)", [(1,), (2,), (3,)])
            cursor.execute(query="SELECT count(*) FROM visits")
            cursor.execute(sql.SQL("SELECT {}").format(sql.Literal("a guest's secret")))
    return "ok"


class Mine(psycopg.ClientCursor[Any]):
    """A cursor of the service's own: its connections' cursors are of this class still."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        return super().execute(query, params, **options)


@app.get("/db/cursors")
def cursors() -> str:
    with psycopg.connect(str(DATABASE), cursor_factory=Mine, autocommit=True) as connection:
        cursor = connection.execute("SELECT name FROM guests WHERE id = ANY(%s)", [[1, 2]])
        assert isinstance(cursor, Mine) and cursor.rowcount == 2
        with connection.cursor(row_factory=psycopg.rows.dict_row) as other, suppress(psycopg.Error):
            other.execute("SELECT name FROM nowhere WHERE id = %(id)s", params={"id": 1})
    return "ok"


@app.get("/db/rare")
async def rare() -> str:
    async with pools["async"].connection() as connection, connection.cursor() as cursor:
        async for _ in cursor.stream("SELECT id FROM guests"):
            pass
        async with cursor.copy("COPY guests (name) TO STDOUT") as copy:
            async for _ in copy:
                pass
        async with connection.cursor(name="mine") as named:
            await named.execute("SELECT name FROM guests")
            await named.fetchall()
    return "ok"


inner = fastapi.FastAPI()


@inner.get("/rooms/{room}")
async def mounted(room: str) -> str:
    await embed()
    return room


app.mount("/api", inner)
