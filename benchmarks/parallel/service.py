"""The service of the thirty routes: FastAPI, psycopg's pool, the OpenAI SDK.

``TOGETHER`` (JSON: route -> for each step, the earlier ones that it waits for) applies an advice: those
routes start each step as soon as the steps that it waits for have ended, with ``asyncio.gather``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from openai import AsyncOpenAI
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from benchmarks.parallel.plans import ROWS, SPACE, Route, Step, routes

Answer = list[tuple[Any, ...]] | str | None
Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]
TOGETHER: dict[str, list[list[int]]] = json.loads(os.environ.get("TOGETHER", "{}"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens the pool and makes the client."""
    pool: Pool = AsyncConnectionPool(
        os.environ["DATABASE_URL"], min_size=16, max_size=16, kwargs={"autocommit": True}, open=False
    )
    async with pool:
        app.state.pool, app.state.openai = pool, AsyncOpenAI(max_retries=3)
        yield


app = FastAPI(lifespan=lifespan)


class Run:
    """One request: its parameters, and the answers as they come."""

    def __init__(self, route: Route, request: Request) -> None:
        self.route = route
        self.pool: Pool = request.app.state.pool
        self.openai: AsyncOpenAI = request.app.state.openai
        self.keys = [int(each) for each in request.query_params["keys"].split(",")]

    async def in_turn(self) -> None:
        """Step by step, as the code is written."""
        if any(step.way == "transaction" for step in self.route.steps):
            async with self.pool.connection() as connection:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                await self._all(connection)
                await connection.execute("COMMIT")
        else:
            await self._all(None)

    async def _all(self, connection: AsyncConnection[tuple[Any, ...]] | None) -> None:
        answers: list[Answer] = []
        for at, step in enumerate(self.route.steps):
            if step.needs and self._ends(step, answers[step.needs[0]]):
                return
            answers.append(await self._ask(at, answers, connection))

    async def at_once(self, waits: list[list[int]]) -> None:
        """Every step as soon as those that it waits for have ended."""
        answers: list[Answer] = [None] * len(self.route.steps)

        async def one(at: int) -> None:
            await asyncio.gather(*(tasks[each] for each in waits[at]))
            answers[at] = await self._ask(at, answers, None)

        tasks: list[asyncio.Task[None]] = []
        for at in range(len(self.route.steps)):
            tasks.append(asyncio.create_task(one(at)))
        await asyncio.gather(*tasks)

    @staticmethod
    def _ends(step: Step, answer: Answer) -> bool:
        """Whether the request ends here: nothing was found, or what was found says so."""
        if step.way == "condition":
            return not answer or int(answer[0][1]) % 3 == 0
        return step.way == "guard" and not answer

    async def _ask(
        self, at: int, answers: list[Answer], connection: AsyncConnection[tuple[Any, ...]] | None
    ) -> Answer:
        step = self.route.steps[at]
        if step.kind == "embed":
            made = await self.openai.embeddings.create(
                model="text-embedding-3-small", input=f"question {self.keys[at]}"
            )
            return str(made.data[0].embedding)
        if step.kind == "model":
            said = await self.openai.chat.completions.create(
                model="gpt-4o-mini",
                max_tokens=8,
                messages=[{"role": "user", "content": f"Room {self.keys[at]}?"}],
            )
            return said.choices[0].message.content or ""
        parameter = self._parameter(at, step, answers)
        statement = self.route.statement(at)
        if connection is not None:
            return await self._send(connection, step, statement, parameter)
        async with self.pool.connection() as own:
            return await self._send(own, step, statement, parameter)

    async def _send(
        self, connection: AsyncConnection[tuple[Any, ...]], step: Step, statement: str, parameter: Any
    ) -> Answer:
        cursor = await connection.execute(statement, (parameter,))
        return None if step.kind == "write" else await cursor.fetchall()

    def _parameter(self, at: int, step: Step, answers: list[Answer]) -> Any:
        answer = answers[step.needs[0]] if step.needs else None
        if step.way == "vector":
            return answer
        if step.way in ("value", "computed", "list") and isinstance(answer, list):
            reference = int(answer[0][1])
            if step.way == "list":
                return [int(row[1]) for row in answer]
            return reference if step.way == "value" else self._made(step, reference * 7 + 11)
        if step.way == "model" and isinstance(answer, str):
            return self._made(step, sum(map(ord, answer)))
        return self.keys[0] if step.way == "write" else self.keys[at]

    @staticmethod
    def _made(step: Step, number: int) -> int:
        return step.table * SPACE + number % ROWS + 1


def _add(route: Route) -> None:
    async def handle(request: Request) -> dict[str, str]:
        run = Run(route, request)
        waits = TOGETHER.get(str(route.number))
        await (run.in_turn() if waits is None else run.at_once(waits))
        return {"route": route.path}

    app.get(route.path)(handle)


for _route in routes():
    _add(_route)
