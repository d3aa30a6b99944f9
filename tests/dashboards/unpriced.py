"""Run under the agent: streams without usage, one after the other, for a bounded time."""

from __future__ import annotations

import time

from openai import OpenAI

client = OpenAI()
end = time.monotonic() + 300
while time.monotonic() < end:
    stream = client.chat.completions.create(
        model="gpt-4o", stream=True, messages=[{"role": "user", "content": "Is breakfast included?"}]
    )
    for _ in stream:
        pass
    time.sleep(0.2)
