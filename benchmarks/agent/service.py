"""The service under load. It runs in every peer's own environment, so it imports nothing of ours.

``BENCH_LOGFIRE=1`` sets Logfire up as its documentation says: it has no launcher that does.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import openai
import psycopg_pool

pool: Any = psycopg_pool.AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=4, open=False)
client = openai.AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="x", max_retries=0)
QUESTION: Any = [{"role": "user", "content": "Is there a swimming pool, and may the dog come with us?"}]


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    async with pool:
        yield


app = fastapi.FastAPI(lifespan=lifespan)


async def guest(number: int) -> str:
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT name FROM guests WHERE id = %s", (number,))
        (name,) = await cursor.fetchone()
    return str(name)


@app.get("/json/{hotel}")
async def json_route(hotel: str) -> dict[str, object]:
    return {"hotel": hotel, "rooms": [101, 102, 103], "open": True}


@app.get("/query/{number}")
async def query(number: int) -> dict[str, str]:
    return {"name": await guest(number)}


@app.get("/model/{number}")
async def model(number: int) -> dict[str, object]:
    names = [await guest(number + step) for step in range(5)]
    vector = await client.embeddings.create(
        model="text-embedding-3-small", input="Is there a pool?", encoding_format="float"
    )
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_tokens=60)
    return {
        "names": names,
        "dimensions": len(vector.data[0].embedding),
        "answer": answer.choices[0].message.content,
    }


if os.environ.get("BENCH_LOGFIRE"):
    import logfire  # type: ignore[import-not-found]  # in its own environment alone

    logfire.configure(send_to_logfire=False, console=False)
    logfire.instrument_fastapi(app)
    logfire.instrument_psycopg()
    logfire.instrument_httpx()
    logfire.instrument_openai(client)
