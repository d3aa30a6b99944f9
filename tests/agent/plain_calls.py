"""Calls of the OpenAI SDK in many shapes, each under a span of its name; what each returned is printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
from opentelemetry import context, trace

MESSAGES: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "towels?"}]},
]
CHAT: Any = {"model": "gpt-4o-mini", "messages": MESSAGES}
EMBED: Any = {"model": "text-embedding-3-small", "input": ["towels?", "pool?", "towels?"]}
MORE: Any = {
    **{"temperature": 0.5, "top_p": 0, "max_tokens": 5, "max_completion_tokens": 7, "seed": 3},
    **{"presence_penalty": 1, "frequency_penalty": 0.5, "n": 2, "service_tier": "flex", "user": "u"},
}
FUNCTION: Any = {"type": "function", "function": {"name": "book", "parameters": {}}}
#: Name -> arguments of a chat.
CHATS: dict[str, Any] = {
    "plain": CHAT,
    "again": CHAT,
    "more": {**CHAT, **MORE},
    "stop": {**CHAT, "stop": ["a", "b"], "n": 1, "service_tier": "auto"},
    "stop text": {**CHAT, "stop": "a", "seed": None, "temperature": openai.NOT_GIVEN},
    "omitted": {**CHAT, "stop": openai.omit, "temperature": openai.omit, "n": openai.omit},
    "json": {**CHAT, "response_format": {"type": "json_object"}},
    "tools": {**CHAT, "tools": [FUNCTION], "extra_headers": {"x-other": "1"}},
    "unknown model": {**CHAT, "model": "model-of-mine"},
    "flaky": {**CHAT, "model": "flaky"},
    "broken": {**CHAT, "model": "broken"},
    "wrong": {**CHAT, "no_such_argument": 1},
    "body": {**CHAT, "extra_body": {"max_completion_tokens": 9, "service_tier": "priority"}},
}
STREAM: Any = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
EMBEDDINGS: dict[str, Any] = {
    "embedding": EMBED,
    "embedding more": {**EMBED, "dimensions": 2, "encoding_format": "float", "input": "towels?"},
    "embedding tokens": {**EMBED, "input": [1, 2, 3]},
    "embedding broken": {**EMBED, "model": "broken"},
}


def told(name: str, call: Callable[[], Any]) -> None:
    """Make the call under a span of its name, which must be the running one again afterwards."""
    with trace.get_tracer("tests").start_as_current_span(name) as span:
        before = context.get_current()
        try:
            result = call()
            print(name, result.model_dump_json() if hasattr(result, "model_dump_json") else result)
        except (openai.OpenAIError, TypeError, asyncio.CancelledError) as error:
            print(name, type(error).__name__, error)
        assert context.get_current() is before
        assert trace.get_current_span() is span


def sync(client: openai.OpenAI) -> None:
    for name, given in CHATS.items():
        told(name, partial(client.chat.completions.create, **given))
    for name, given in EMBEDDINGS.items():
        told(name, partial(client.embeddings.create, **given))
    told("stream", lambda: len(list(client.chat.completions.create(**STREAM))))
    told("raw", lambda: client.chat.completions.with_raw_response.create(**CHAT).parse())
    told("raw embedding", lambda: client.embeddings.with_raw_response.create(**EMBED).parse())
    told("parse", lambda: client.chat.completions.parse(**CHAT))


async def concurrent(client: openai.AsyncOpenAI) -> None:
    tracer = trace.get_tracer("tests")

    async def one(name: str, create: Any, given: Any) -> None:
        with tracer.start_as_current_span(f"async {name}") as span:
            with contextlib.suppress(openai.OpenAIError, TypeError, TimeoutError):
                await asyncio.wait_for(create(**given), 0.5 if name == "cancelled" else 60)
            assert trace.get_current_span() is span

    await asyncio.gather(
        *(one(name, client.chat.completions.create, given) for name, given in CHATS.items()),
        *(one(name, client.embeddings.create, given) for name, given in EMBEDDINGS.items()),
        one("cancelled", client.chat.completions.create, {**CHAT, "model": "hangs"}),
    )
    await client.close()


def main() -> None:
    given: Any = {"api_key": "x", "base_url": os.environ["OPENAI_BASE_URL"], "max_retries": 1}
    sync(openai.OpenAI(**given))
    asyncio.run(concurrent(openai.AsyncOpenAI(**given)))


main()
