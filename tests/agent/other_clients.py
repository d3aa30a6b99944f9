"""Model calls by ways of their own: LiteLLM, LangChain, and HTTP through requests and aiohttp.

Each under a span of its name. One call of requests and one of aiohttp find a port where nobody listens; no
SDK of a provider sends that way by itself, so these are told to the library of OpenTelemetry that the
official instrumentors tell theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import litellm
import requests
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from litellm.caching.caching import Cache
from opentelemetry import trace
from opentelemetry.util.genai.handler import get_telemetry_handler

from tests.agent.conftest import free_port

OPENAI, ANTHROPIC = os.environ["OPENAI_BASE_URL"], os.environ["ANTHROPIC_BASE_URL"]
BODY = {"model": "gpt-4o-mini", "messages": []}
HELLO: Any = [{"role": "user", "content": "hello"}]
USAGE: Any = {"include_usage": True}


def by_requests(url: str) -> None:
    requests.post(f"{url}/v1/chat/completions", json=BODY, timeout=5).raise_for_status()


def by_aiohttp(url: str) -> None:
    async def post() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/v1/chat/completions", json=BODY) as answer,
        ):
            answer.raise_for_status()

    asyncio.run(post())


def told(post: Callable[[str], None], url: str) -> None:
    where: Any = {"server_address": urlsplit(url).hostname, "server_port": urlsplit(url).port}
    with get_telemetry_handler().inference("openai", request_model="gpt-4o-mini", **where):
        post(url)


def lite(function: Callable[..., Any], model: str, **more: Any) -> Any:
    base = ANTHROPIC if model.startswith("anthropic") else OPENAI
    return function(model=model, api_base=base, api_key="x", **more)


async def lite_stream() -> None:
    stream = await lite(
        litellm.acompletion, "openai/gpt-4o-mini", messages=HELLO, stream=True, stream_options=USAGE
    )
    async for _ in stream:
        pass


def lite_cached() -> None:
    """The second is answered by LiteLLM's own cache, for which 1.110 imports soundfile unasked."""
    sys.modules.setdefault("soundfile", ModuleType("soundfile"))
    litellm.cache = Cache()
    for _ in range(2):
        lite(
            litellm.completion,
            "openai/gpt-4o-mini",
            messages=[{"role": "user", "content": "again"}],
            caching=True,
        )
    litellm.cache = None


def main() -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    chain: Any = {"base_url": OPENAI, "api_key": "x", "max_retries": 0}
    cases: dict[str, Callable[[], Any]] = {
        "requests, nobody there": lambda: told(by_requests, closed),
        "requests": lambda: told(by_requests, ANTHROPIC),
        "aiohttp, nobody there": lambda: told(by_aiohttp, closed),
        "aiohttp": lambda: told(by_aiohttp, ANTHROPIC),
        "litellm": lambda: lite(litellm.completion, "openai/gpt-4o-mini", messages=HELLO),
        "litellm async": lambda: asyncio.run(lite(litellm.acompletion, "openai/gpt-4o-mini", messages=HELLO)),
        "litellm stream": lambda: asyncio.run(lite_stream()),
        "litellm embedding": lambda: lite(
            litellm.embedding, "openai/text-embedding-3-small", input=["a", "a"]
        ),
        "litellm anthropic": lambda: lite(
            litellm.completion, "anthropic/claude-sonnet-4-5", messages=HELLO, max_tokens=99
        ),
        "litellm responses": lambda: lite(litellm.responses, "openai/gpt-4o-mini", input="hello"),
        "litellm fails": lambda: lite(litellm.completion, "openai/broken", messages=HELLO, num_retries=0),
        "litellm cached": lite_cached,
        "langchain": lambda: ChatOpenAI(model="gpt-4o-mini", **chain).invoke("hello"),
        "langchain stream": lambda: list(
            ChatOpenAI(model="gpt-4o-mini", stream_usage=True, **chain).stream("hello")
        ),
        "langchain embedding": lambda: OpenAIEmbeddings(
            model="text-embedding-3-small", check_embedding_ctx_length=False, **chain
        ).embed_documents(["a"]),
    }
    for name, call in cases.items():
        with trace.get_tracer("tests").start_as_current_span(name), contextlib.suppress(Exception):
            call()


main()
