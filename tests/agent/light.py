"""The ten-line service: nothing of telemetry, no model SDKs, quick to start."""

import asyncio
from collections.abc import AsyncIterator

import fastapi
from fastapi.responses import StreamingResponse

app = fastapi.FastAPI()


@app.get("/plain/{name}")
async def plain(name: str) -> str:
    return name


@app.get("/slow")
async def slow(seconds: float = 0.5) -> str:
    await asyncio.sleep(seconds)
    return "ok"


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        while True:
            yield "x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(words())
