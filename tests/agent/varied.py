"""A service with every kind of route: mounted, included twice, static, early answers, broken streams."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable

import fastapi
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles

app = fastapi.FastAPI()
shared = fastapi.APIRouter()
inner = fastapi.FastAPI()


@app.middleware("http")
async def early(
    request: fastapi.Request, call_next: Callable[[fastapi.Request], Awaitable[fastapi.Response]]
) -> fastapi.Response:
    if request.url.path == "/early":
        return fastapi.Response("no", status_code=401)
    return await call_next(request)


@app.get("/early")
async def never() -> None: ...


@app.api_route("/plain/{name}", methods=["GET", "POST"])
async def plain(name: str) -> str:
    return name


@shared.get("/shared/{number}")
async def twice(number: int) -> int:
    return number


@app.get("/files/{path:path}")
async def files(path: str) -> str:
    return path


@app.get("/boom")
async def boom() -> None:
    raise RuntimeError("boom")


@app.get("/teapot")
async def teapot() -> None:
    raise fastapi.HTTPException(418)


@app.get("/empty", status_code=204)
async def empty() -> None: ...


@app.get("/async-stream")
async def async_stream() -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        for word in ("a", "b", "c"):
            yield word

    return StreamingResponse(words())


@app.get("/late-boom")
async def late_boom() -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        yield "a"
        raise RuntimeError("boom")

    return StreamingResponse(words())


@inner.get("/rooms/{room}")
async def mounted(room: str) -> str:
    return room


app.include_router(shared, prefix="/v1")
app.include_router(shared, prefix="/v2")
app.mount("/api", inner)
app.mount("/static", StaticFiles(directory=tempfile.gettempdir()))
