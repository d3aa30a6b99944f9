"""A service that logs: on its own logger, in a request and in a thread of it."""

from __future__ import annotations

import logging

import fastapi
from opentelemetry import _logs

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


@app.get("/fails")
async def fails() -> str:
    try:
        raise ValueError("Key (email)=(secret.guest@example.org) already exists")
    except ValueError:
        logger.exception("could not save the guest", extra={"url.query": "q=secret+towels", "room": 7})
    return "ok"


@app.get("/event")
async def event() -> str:
    """As an instrumentor of models tells of a conversation."""
    told = _logs.LogRecord(
        event_name="gen_ai.choice", body={"content": "a secret answer"}, attributes={"n": 1}
    )
    _logs.get_logger("models").emit(told)
    return "ok"
