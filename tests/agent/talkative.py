"""A service that says everything it hears to everyone: to models, to the database, to other services.

Every route takes a guest's text and puts it where an instrumentor could pick it up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import fastapi
import httpx
import openai
import psycopg
from fastapi.responses import StreamingResponse
from psycopg import sql

DATABASE = os.environ.get("DATABASE_URL", "")
chat = openai.AsyncOpenAI(base_url=os.environ.get("OPENAI_BASE_URL"), api_key="x", max_retries=0)
claude = anthropic.AsyncAnthropic(base_url=os.environ.get("ANTHROPIC_BASE_URL"), api_key="x", max_retries=0)
OTHER = os.environ.get("ANTHROPIC_BASE_URL", "")
app = fastapi.FastAPI()


def _messages(text: str) -> Any:
    return [
        {"role": "system", "content": text},
        {"role": "user", "content": [{"type": "text", "text": text}]},
    ]


@app.post("/prompt/{how}")
async def prompt(how: str, request: fastapi.Request) -> Any:
    text = (await request.body()).decode()
    tool: Any = {
        "type": "function",
        "function": {"name": "book", "description": text, "parameters": {"type": text}},
    }
    match how:
        case "chat" | "echo" | "parrot":
            model = {"chat": "gpt-4o-mini"}.get(how, how)
            answer = await chat.chat.completions.create(
                model=model,
                messages=_messages(text),
                tools=[tool],
                user=text,
                stop=[text],
            )
            return answer.choices[0].message.content
        case "responses":
            await chat.responses.create(model="gpt-4o-mini", instructions=text, input=text)
        case "embeddings":
            await chat.embeddings.create(model="text-embedding-3-small", input=[text, text], user=text)
        case "claude":
            await claude.messages.create(
                model="claude-sonnet-4-5", max_tokens=9, system=text, messages=_messages(text)[1:]
            )
        case "claude-echo":
            await claude.messages.create(model="echo", max_tokens=9, messages=_messages(text)[1:])
        case "stream":

            async def words() -> AsyncIterator[str]:
                stream = await chat.chat.completions.create(
                    model="gpt-4o-mini", messages=_messages(text), stream=True
                )
                async for part in stream:
                    yield part.id
                raise RuntimeError(text)

            return StreamingResponse(words())
    return text


STATEMENTS = {
    "parameter": "SELECT %s::text",
    "plain": "SELECT '{}'",
    "escaped": "SELECT E'it\\'s {}'",
    "unicode": "SELECT U&'{}'",
    "dollars": "SELECT $$ {} $$, $a$ $$ {} $a$",
    "comments": "SELECT 1 /* a /* {} */ {} */ -- {}",
    "long": "SELECT '" + "x" * 17_000 + "{}'",
    "open": "SELECT '{}",
    "cast": "SELECT '{}'::int",
    "unique": "INSERT INTO people (name) VALUES ('{}')",
    "unique-parameter": "INSERT INTO people (name) VALUES (%s)",
    "raise": "DO $$ BEGIN RAISE EXCEPTION '{}' USING DETAIL = '{}', HINT = '{}'; END $$",
    "column": "SELECT nowhere FROM people WHERE name = '{}'",
    "setting": "SET application_name = '{}'",
}


@app.post("/sql/{how}")
async def statement(how: str, request: fastapi.Request) -> str:
    text = (await request.body()).decode()
    query: Any = STATEMENTS[how].replace("{}", text)
    parameters = (text,) if "%s" in query else None
    async with await psycopg.AsyncConnection.connect(DATABASE, autocommit=True) as connection:
        if how.startswith("unique"):
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                await connection.execute(query, parameters)
        await connection.execute(query, parameters)
        await connection.execute(sql.SQL("SELECT {}").format(sql.Literal(text)))
        async with connection.cursor() as cursor:
            async for _ in cursor.stream(sql.SQL("SELECT {}").format(sql.Literal(text))):
                pass
    return text


@app.get("/guests/{name}")
async def guest(name: str, request: fastapi.Request, fail: bool = False) -> fastapi.Response:
    async with httpx.AsyncClient() as client:
        address = OTHER.replace("http://", f"http://{name}:{name}@")
        await client.get(f"{address}/guests/{name}?name={name}#{name}", headers={"x-name": name})
    if fail:
        raise LookupError(name) from ValueError(name)
    return fastapi.Response(name, headers={"x-name": name, "location": f"/guests/{name}"})


@app.websocket("/socket/{name}")
async def socket(name: str, websocket: fastapi.WebSocket) -> None:
    await websocket.accept()
    text = await websocket.receive_text()
    await websocket.send_text(text)
    if text.startswith("fail"):
        raise RuntimeError(text)
