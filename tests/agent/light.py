"""The ten-line service: nothing of telemetry, no model SDKs, quick to start."""

import asyncio
import logging
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor

import fastapi
from fastapi.responses import StreamingResponse

import taximeter

app = fastapi.FastAPI()
logger = logging.getLogger("hotel")
logger.setLevel(logging.INFO)  # seen by nobody, unless log records are exported


@app.get("/plain/{name}")
async def plain(name: str) -> str:
    logger.info("asked for %s", name)
    return name


@app.get("/slow")
async def slow(seconds: float = 0.5) -> str:
    await asyncio.sleep(seconds)
    return "ok"


@app.get("/pid/{name}")
async def pid(name: str) -> int:
    return os.getpid()


def _in_a_child(count: int) -> int:
    """Work of a forked worker process: it has the request's context, and a sum of its own."""
    for number in range(count):
        taximeter.record_cache("child", number % 2 == 0)
    return os.getpid()


@app.get("/fork/{count}")
def fork(count: int) -> list[int]:
    context = multiprocessing.get_context("fork")
    taximeter.record_cache("parent", hit=True)
    child = context.Process(target=_in_a_child, args=(count,))
    child.start()
    child.join()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return [child.pid or 0, pool.submit(_in_a_child, count).result()]


@app.get("/threads")
async def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate())


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        while True:
            yield "x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(words())
