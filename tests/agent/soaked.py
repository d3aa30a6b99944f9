"""A service of every shape that work can take, which keeps its own tally of each request.

The tally is plain Python and knows nothing of the agent: it is written just before a unit of
work begins. ``/tallies`` gives it out beside what the agent's accounts say, request by request.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import fastapi
import httpx
import openai
import psycopg_pool
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

import taximeter
from taximeter.account import Account

DATABASE = os.environ["DATABASE_URL"]
chat = openai.AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="x", timeout=120)
chat_sync = openai.OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="x", timeout=120)
claude = anthropic.AsyncAnthropic(base_url=os.environ["ANTHROPIC_BASE_URL"], api_key="x", timeout=120)
HELLO: Any = [{"role": "user", "content": "hello"}]
GPT, CLAUDE, EMBEDDING = "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small"

tallies: defaultdict[str, Counter[str]] = defaultdict(Counter)
accounts: dict[str, Account] = {}
executor = ThreadPoolExecutor(8)
pools: dict[str, Any] = {}
kept: set[asyncio.Task[None]] = set()
lock = threading.Lock()


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    async with psycopg_pool.AsyncConnectionPool(
        DATABASE, open=False, min_size=4, max_size=20, timeout=120
    ) as pool:
        with psycopg_pool.ConnectionPool(DATABASE, open=False, min_size=4, max_size=20, timeout=120) as sync:
            pools["async"], pools["sync"] = pool, sync
            yield


app = fastapi.FastAPI(lifespan=lifespan)


def begin(number: str) -> None:
    account = taximeter.request_account()
    assert account is not None
    assert number not in accounts
    accounts[number] = account


def tally(number: str, what: str) -> None:
    with lock:
        tallies[number][what] += 1


def kind(number: str, index: int) -> str:
    """One unit in eight is a chat, one an embedding; the rest are statements and cache lookups."""
    return ("db", "cache", "db", "cache", "embed", "db", "cache", "chat")[(int(number) * 3 + index) % 8]


async def work(number: str, index: int) -> None:
    what = kind(number, index)
    if what == "db":
        async with pools["async"].connection() as connection:
            tally(number, what)
            await connection.execute("SELECT %s::int", (index,))
    elif what == "cache":
        tally(number, what)
        taximeter.record_cache("soak", hit=False)
    else:
        tally(number, what)
        try:
            if what == "embed":
                await chat.embeddings.create(extra_headers={"x-key": number}, model=EMBEDDING, input="hello")
            else:
                await chat.chat.completions.create(extra_headers={"x-key": number}, model=GPT, messages=HELLO)
        except asyncio.CancelledError:  # the guest left meanwhile
            tally(number, "aborted")
            raise
    await asyncio.sleep(0)


def work_sync(number: str, index: int) -> None:
    what = kind(number, index)
    if what == "db":
        with pools["sync"].connection() as connection:
            tally(number, what)
            connection.execute("SELECT %s::int", (index,))
    elif what == "cache":
        tally(number, what)
        taximeter.record_cache("soak", hit=False)
    elif what == "embed":
        tally(number, what)
        chat_sync.embeddings.create(extra_headers={"x-key": number}, model=EMBEDDING, input="hello")
    else:
        tally(number, what)
        chat_sync.chat.completions.create(extra_headers={"x-key": number}, model=GPT, messages=HELLO)


@app.get("/tasks/{number}/{units}")
async def tasks(number: str, units: int) -> str:
    begin(number)
    for task in [asyncio.create_task(work(number, index)) for index in range(units)]:
        await task
    return number


@app.get("/gather/{number}/{units}")
async def gather(number: str, units: int) -> str:
    begin(number)
    await asyncio.gather(*(work(number, index) for index in range(units)))
    return number


@app.get("/plain-def/{number}/{units}")
def plain_def(number: str, units: int) -> str:
    begin(number)
    for index in range(units):
        work_sync(number, index)
    return number


class Worker(threading.Thread):
    def __init__(self, number: str, index: int) -> None:
        super().__init__()
        self.job = number, index

    def run(self) -> None:
        work_sync(*self.job)


@app.get("/threads/{number}/{units}")
def threads(number: str, units: int) -> str:
    begin(number)
    started: list[threading.Thread] = [
        Worker(number, index) if index % 2 else threading.Thread(target=work_sync, args=(number, index))
        for index in range(units)
    ]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return number


@app.get("/executor/{number}/{units}")
async def in_executor(number: str, units: int) -> str:
    begin(number)
    futures = [executor.submit(work_sync, number, index) for index in range(units)]
    await asyncio.gather(*map(asyncio.wrap_future, futures))
    return number


@app.get("/run-in-executor/{number}/{units}")
async def run_in_executor(number: str, units: int) -> str:
    begin(number)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, work_sync, number, index) for index in range(units)))
    return number


@app.get("/to-thread/{number}/{units}")
async def to_thread(number: str, units: int) -> str:
    begin(number)
    await asyncio.gather(*(asyncio.to_thread(work_sync, number, index) for index in range(units)))
    return number


@app.get("/background/{number}/{units}")
async def in_background(number: str, units: int) -> fastapi.Response:
    begin(number)

    async def later() -> None:
        for index in range(units):
            await work(number, index)

    return fastapi.Response(number, background=BackgroundTask(later))


@app.get("/detached/{number}/{units}")
async def detached(number: str, units: int) -> str:
    begin(number)

    async def later() -> None:
        await asyncio.sleep(0.05)
        for index in range(units):
            await work(number, index)

    task = asyncio.create_task(later())
    kept.add(task)
    task.add_done_callback(kept.discard)
    return number


@app.get("/stream/{number}/{units}")
async def stream(number: str, units: int) -> StreamingResponse:
    begin(number)

    async def words() -> AsyncIterator[str]:
        for index in range(units):
            await work(number, index)
            yield number

    return StreamingResponse(words())


@app.get("/stream-def/{number}/{units}")
def stream_def(number: str, units: int) -> StreamingResponse:
    begin(number)

    def words() -> Iterator[str]:
        for index in range(units):
            work_sync(number, index)
            yield number

    return StreamingResponse(words())


@app.get("/fails/{number}/{units}")
async def fails(number: str, units: int) -> str:
    begin(number)
    for index in range(units):
        await work(number, index)
    raise RuntimeError(number)


@app.get("/leaves/{number}/{units}")
async def leaves(number: str, units: int) -> StreamingResponse:
    """The guest leaves after the first words."""
    begin(number)

    async def words() -> AsyncIterator[str]:
        for index in range(1000):
            yield number * 100
            await work(number, index % units)
            await asyncio.sleep(0.02)

    return StreamingResponse(words())


@app.get("/leaves-rows/{number}/{units}")
async def leaves_rows(number: str, units: int) -> StreamingResponse:
    """The guest leaves while rows are streamed from a cursor."""
    begin(number)

    async def words() -> AsyncIterator[str]:
        async with pools["async"].connection() as connection, connection.cursor() as cursor:
            tally(number, "db")
            async for _ in cursor.stream("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"):
                yield number * 100
                await asyncio.sleep(0.02)

    return StreamingResponse(words())


@app.get("/leaves-model/{number}/{units}")
async def leaves_model(number: str, units: int) -> StreamingResponse:
    """The guest leaves while a model answers: OpenAI's stream, or one of Anthropic's two."""
    begin(number)

    async def words() -> AsyncIterator[str]:
        tally(number, "chat")
        tally(number, "aborted")
        if units % 3 == 0:
            async with claude.messages.stream(
                extra_headers={"x-key": number}, model="slow", max_tokens=99, messages=HELLO
            ) as helper:
                async for event in helper:
                    yield event.type * 10
        else:
            endless: Any = (
                await claude.messages.create(
                    extra_headers={"x-key": number}, model="slow", max_tokens=99, messages=HELLO, stream=True
                )
                if units % 3 == 1
                else await chat.chat.completions.create(
                    extra_headers={"x-key": number}, model="slow", messages=HELLO, stream=True
                )
            )
            async for part in endless:
                yield type(part).__name__ * 10

    return StreamingResponse(words())


@app.get("/cancelled/{number}/{units}")
async def cancelled(number: str, units: int) -> str:
    """Calls are given up in flight, as a time limit does it."""
    begin(number)
    for index in range(units):
        tally(number, "chat")
        tally(number, "aborted")
        try:
            await asyncio.wait_for(
                chat.chat.completions.create(extra_headers={"x-key": number}, model="hangs", messages=HELLO),
                0.3,
            )
        except TimeoutError:
            await work(number, index)
    return number


@app.get("/nested/{number}/{units}")
async def nested(number: str, units: int, request: fastapi.Request) -> str:
    """Calls another service, whose requests have accounts of their own."""
    begin(number)
    for index in range(units):
        await work(number, index)
    inner = str(int(number) + 10_000_000)
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.get(f"{request.base_url}gather/{inner}/{units}")
    return answer.text


@app.websocket("/socket/{number}/{units}")
async def socket(number: str, units: int, websocket: fastapi.WebSocket) -> None:
    await websocket.accept()
    begin(number)
    for _ in range(units):
        await work(number, int(await websocket.receive_text()))
        await websocket.send_text(number)
    await websocket.close()


@app.get("/tallies")
async def all_tallies() -> dict[str, Any]:
    """Per request: its own tally and what its account says; and the work still running."""
    pick: dict[str, Callable[[Account], float]] = {
        "db": lambda account: account.total.db_calls,
        "cache": lambda account: account.total.cache_lookups,
        "embed": lambda account: account.total.embedding_calls,
        "chat": lambda account: account.total.model_calls,
        "aborted": lambda account: account.total.unpriced_calls,
    }
    with lock:
        said = {
            number: {name: read(account) for name, read in pick.items() if read(account)}
            for number, account in accounts.items()
        }
        return {
            "running": len(kept),
            "checked_out": [pool.get_stats().get("requests_waiting", 0) for pool in pools.values()],
            "idle": [
                pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"] for pool in pools.values()
            ],
            "tallies": {number: dict(tallies[number]) for number in accounts},
            "accounts": said,
            "tokens": {number: account.total.tokens_input for number, account in accounts.items()},
            "attempts": {number: account.total.model_attempts for number, account in accounts.items()},
            "routes": {number: account.route for number, account in accounts.items()},
        }
