"""Money is right: providers' answers against amounts worked out by hand.

The payloads are answers in each provider's documented shape. Each amount below is written as the
arithmetic that a person does with the provider's price page, in USD per million tokens; nothing
of it is computed by, or looked up in, Taximeter.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from taximeter import genai, pricing, usage

PAYLOADS = {
    f"{path.stem}: {name}": payload
    for path in sorted((Path(__file__).parent / "payloads").glob("*.json"))
    for name, payload in json.loads(path.read_text()).items()
}
BOOK, _ = pricing.load()
NOVEMBER = "2026-11-15"  # the prices below hold on this day, save where the payload names another
SEARCH = 10 / 1000  # one web search, OpenAI's and Anthropic's

#: Millionths of a dollar, or why there is no amount.
BY_HAND: dict[str, float | str] = {
    "openai: chat": 1000 * 0.15 + 200 * 0.60,
    "openai: chat, cached": (3000 - 2048) * 0.15 + 2048 * 0.075 + 150 * 0.60,
    "openai: chat, gpt-4o cached": 86 * 2.50 + 1920 * 1.25 + 300 * 10,
    "openai: chat, all cached": 1024 * 0.50 + 10 * 8,
    "openai: chat, reasoning": 500 * 1.10 + 1200 * 4.40,  # reasoning is part of the 1200
    "openai: chat, reasoning and cached": 904 * 1.25 + 4096 * 0.125 + 2500 * 10,
    "openai: chat, priority": (5000 - 1024) * 2.50 + 1024 * 0.25 + 500 * 20,  # twice the standard
    "openai: chat, flex": 6000 * 1 + 2000 * 0.25 + 900 * 4,  # half the standard
    "openai: chat, flex of a model without": "unknown_tier",
    "openai: chat, batch": 12_000 * 0.075 + 800 * 0.30,
    "openai: chat, batch with reasoning": 10_000 * 0.625 + 2000 * 0.0625 + 4000 * 5,
    "openai: chat, prediction rejected": 400 * 2.50 + 250 * 10,  # rejected ones are in the 250
    "openai: chat, audio in and out": 80 * 2.50 + 600 * 32 + 70 * 10 + 350 * 64,
    "openai: chat, audio without a rate": "no_rate:input_audio",
    "openai: chat, long context": 200_000 * 5 + 100_000 * 0.50 + 1000 * 22.50,  # over 272,000
    "openai: chat, just below long context": 272_000 * 2.50 + 1000 * 15,
    "openai: chat, stream's last chunk": 750 * 2 + 64 * 8,
    "openai: chat, stream without usage": "no_usage",
    "openai: chat, before its price fell": 1000 * 10 + 1000 * 40,
    "openai: chat, after its price fell": 1000 * 2 + 1000 * 8,
    "openai: chat, price of July 2026": 10_000 * 5 + 1000 * 30,
    "openai: chat, price of August 2026": 10_000 * 4 + 1000 * 20,
    "openai: chat, fine-tuned": 1000 * 0.30 + 1000 * 1.20,  # twice the base model
    "openai: responses": 900 * 2 + 120 * 8,
    "openai: responses, cached and reasoning": 3616 * 0.25 + 16_384 * 0.025 + 3000 * 2,
    "openai: responses, web search": 9000 * 1.25 + 700 * 10 + 2 * SEARCH * 1e6,
    "openai: responses, file search": 4000 * 2 + 300 * 8 + 2.50 / 1000 * 1e6,
    "openai: responses, cache write": 1000 * 2 + 4000 * 0.20 + 5000 * 2.50 + 500 * 10,
    "openai: responses, priority": 400 * 3.50 + 500 * 0.875 + 120 * 14,
    "openai: embedding": 8 * 0.02,
    "openai: embedding, large batch of inputs": 81_920 * 0.13,
    # Text 172 fresh and 128 cached, audio 604 fresh and 896 cached; out 120 text, 480 audio.
    "openai: realtime": 172 * 4 + 128 * 0.40 + 604 * 32 + 896 * 0.40 + 120 * 16 + 480 * 64,
    "openai: image": 50 * 5 + 323 * 10 + 4160 * 40,
    "openai: model renamed by an alias": 1000 * 0.15 + 100 * 0.60,
    "openai: unknown model": "unknown_model",
    "anthropic: message": 2095 * 1 + 503 * 5,
    "anthropic: message, 5-minute write": 300 * 2 + 4000 * 2 * 1.25 + 200 * 10,
    "anthropic: message, 1-hour write": 300 * 2 + 4000 * 2 * 2 + 200 * 10,
    "anthropic: message, both writes and a read": (
        50 * 5 + 20_000 * 0.50 + 1500 * 6.25 + 6000 * 10 + 400 * 25
    ),
    "anthropic: message, read only": 12 * 1 + 18_886 * 0.10 + 80 * 5,
    "anthropic: message, thinking": 900 * 5 + 3200 * 25,
    "anthropic: message, web search": 9000 * 5 + 600 * 25 + 3 * SEARCH * 1e6,
    "anthropic: message, batch": 10_000 * 0.50 + 2000 * 2.50,
    "anthropic: message, batch with cache": (
        (1000 * 5 + 5000 * 0.50 + 2000 * 6.25 + 3000 * 10 + 2000 * 25) / 2
    ),
    "anthropic: message, priority": "unknown_tier",  # a commitment, without a public price by token
    "anthropic: message, fast mode": 1000 * 10 + 500 * 1 + 200 * 50,
    "anthropic: message, inference in the US": (1.1 * (1000 * 5 + 500 * 0.50 + 200 * 25) + SEARCH * 1e6),
    "anthropic: message, long context": 150_000 * 6 + 60_000 * 0.60 + 1000 * 22.50,  # 210,000 in all
    "anthropic: message, below long context": 140_000 * 3 + 60_000 * 0.30 + 1000 * 15,
    "anthropic: message, long context of a small model": 100_001 * 0.50 + 1000 * 2.50,
    "anthropic: message, long context before it cost the same": 250_000 * 10 + 1000 * 37.50,
    "anthropic: message, long context since": 250_000 * 5 + 1000 * 25,
    "anthropic: message of an older API, no split": 100 * 0.80 + 2000 * 1 + 50 * 4,
    "anthropic: unknown model": "unknown_model",
    "google: gemini": 1200 * 0.30 + 300 * 2.50,
    "google: gemini, thoughts": 1200 * 0.30 + (300 + 700) * 2.50,  # beside the candidates
    "google: gemini, cached": 1000 * 0.30 + 4000 * 0.03 + 300 * 2.50,
    "google: gemini, audio in": 80 * 0.30 + 1920 * 1 + 100 * 2.50,
    "google: gemini, cached audio": 80 * 0.30 + 920 * 1 + 1000 * 0.10 + 100 * 2.50,
    "google: gemini, an image in": 338 * 0.30 + 100 * 2.50,
    "google: gemini, an image out": 30 * 0.30 + 1290 * 30 + 10 * 2.50,
    "google: gemini, long context": 200_000 * 4 + 50_000 * 0.40 + 3000 * 18,
    "google: gemini, at the edge of long context": 200_000 * 2 + 2000 * 12,
    "google: gemini, batch": 10_000 * 0.15 + 1500 * 1.25,
    "google: gemini, tool use": 1400 * 0.30 + 100 * 2.50,
    "google: gemini, before its price rises": 1000 * 0.75 + 1000 * 3.75,
    "google: gemini, after its price rises": 1000 * 1.50 + 1000 * 7.50,
    "google: vertex, an Anthropic model": 1000 * 3 + 2000 * 0.30 + 1000 * 6 + 100 * 15,
    "others: azure chat, by the model": 488 * 2.50 + 512 * 1.25 + 100 * 10,
    "others: azure embedding": 500_000 * 0.02,
    "others: bedrock, Claude in a region": 1.1 * (1000 * 3 + 3000 * 0.30 + 1000 * 3.75 + 200 * 15),
    "others: bedrock, Claude global, an hour": 1000 * 3 + 500 * 3.75 + 1000 * 6 + 200 * 15,
    "others: bedrock, Nova": 1000 * 0.06 + 500 * 0.015 + 200 * 0.24,
    "others: bedrock, Titan embedding": 1200 * 0.02,
    "others: openrouter reports the cost": 4500,
    "others: openrouter, a free model": 0,
    "others: openrouter, one's own key": 175 + 3500,  # its fee, and what is due upstream
    "others: openrouter without a cost": "unknown_model",
    "others: perplexity reports the cost": 10_560,
    "others: groq": 1000 * 0.59 + 200 * 0.79,
    "others: mistral": 1000 * 2 + 200 * 6,
    "others: x.ai, cached": 500 * 3 + 1500 * 0.75 + 200 * 15,
    "others: a local server is not OpenAI": "unknown_model",
    "others: a gateway passes calls on": 1000 * 0.15 + 200 * 0.60,
    "others: a price that is a promise": "no_usage",
}


def price(payload: dict[str, Any]) -> tuple[float | None, str]:
    """As the agent does it: read the response, name the provider, quote."""
    reading = usage.read(payload["response"], tier=payload.get("tier", ""))
    if reading.cost is not None:
        return reading.cost, "provider"
    if reading.usage is None or not any(reading.usage):
        return None, "no_usage"
    day = date.fromisoformat(payload.get("at", NOVEMBER))
    when = (day - date(1970, 1, 1)).days * 86_400.0
    quote = BOOK.quote(
        genai.provider(payload["provider"], payload.get("host"), payload.get("hosts")),
        (reading.model, payload.get("request")),
        reading.usage,
        tier=reading.tier,
        factor=reading.factor,
        when=when,
    )
    return quote.cost, quote.reason


def test_every_payload_has_an_amount_and_there_are_enough() -> None:
    assert PAYLOADS.keys() == BY_HAND.keys()
    assert len([amount for amount in BY_HAND.values() if not isinstance(amount, str)]) >= 60


@pytest.mark.parametrize("name", PAYLOADS)
def test_money_by_hand(name: str) -> None:
    cost, reason = price(PAYLOADS[name])
    expected = BY_HAND[name]
    if isinstance(expected, str):
        assert (cost, reason) == (None, expected)
    else:
        assert cost == pytest.approx(expected / 1e6, rel=1e-9), reason
