"""A service that logs: on its own logger, in a request and in a thread of it."""

from __future__ import annotations

import logging

import fastapi

app = fastapi.FastAPI()
logger = logging.getLogger("hotel")
logger.setLevel(logging.INFO)


@app.get("/log/{word}")
async def log(word: str) -> str:
    logger.info("the guest asked for %s", word)
    return word


@app.get("/thread")
def thread() -> str:
    logger.warning("from a worker thread")
    return "ok"
