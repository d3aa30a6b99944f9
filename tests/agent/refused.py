"""Calls to a provider whose port is closed at first: some give up, some get through by a retry."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

import openai

from tests.agent.conftest import free_port
from tests.e2e.weak_link import WeakLink


def main() -> None:
    link = WeakLink(free_port(), int(sys.argv[1]))
    url = f"http://127.0.0.1:{link.port}/v1"
    patient = openai.OpenAI(base_url=url, api_key="x", max_retries=8)
    hasty = openai.OpenAI(base_url=url, api_key="x", max_retries=1)
    with contextlib.suppress(openai.APIConnectionError):
        hasty.embeddings.create(model="text-embedding-3-small", input="towels?")

    async def chat(retries: int) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=retries) as client:
            await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "towels?"}]
            )

    with contextlib.suppress(openai.APIConnectionError):
        asyncio.run(chat(0))
    threading.Timer(0.2, link.start).start()
    patient.embeddings.create(model="text-embedding-3-small", input="towels?")
    asyncio.run(chat(8))
    link.stop()


main()
