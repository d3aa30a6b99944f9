"""The real OpenAI and Anthropic SDKs against the provider's process: wire format and books."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from .processes import free_port, run_module, running

LONG = "You are the concierge of a hotel by the sea. " * 150  # well over 1,024 tokens
KEY = "test-key"


@dataclass
class Provider:
    url: str
    ledger_file: Path

    def totals(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/ledger").json()
        return answer

    def reset(self) -> None:
        httpx.post(f"{self.url}/ledger/reset").raise_for_status()

    def last(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.ledger_file.read_text().splitlines()[-1])
        return line

    def openai(self, retries: int = 2) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=retries)

    def anthropic(self, retries: int = 2) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key=KEY, max_retries=retries)


def start(folder: Path, *options: str) -> Iterator[Provider]:
    port = free_port()
    ledger = folder / "ledger.jsonl"
    with running("examples.provider", port, "--ledger", str(ledger), "--latency-scale", "0.01", *options):
        yield Provider(f"http://127.0.0.1:{port}", ledger)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider that never fails."""
    yield from start(tmp_path_factory.mktemp("calm"), "--fail-rate", "0")


@pytest.fixture
def provider(calm: Provider) -> Provider:
    calm.reset()
    return calm


def test_chat_completion_is_priced_from_its_own_usage(provider: Provider) -> None:
    with provider.openai() as client:
        answer = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "When is breakfast?"}]
        )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o-2024-08-06"
    assert answer.usage is not None
    assert 40 <= answer.usage.completion_tokens <= 150
    line = provider.last()
    assert line["input_tokens"] == answer.usage.prompt_tokens
    assert line["output_tokens"] == answer.usage.completion_tokens
    expected = Decimal(answer.usage.prompt_tokens) * Decimal("2.5") + 10 * Decimal(
        answer.usage.completion_tokens
    )
    assert Decimal(line["cost_usd"]) == expected / 1_000_000
    assert line["model"] == "gpt-4o"
    assert line["stream"] is False


def test_the_same_conversation_gets_the_same_answer_and_max_tokens_cuts_it(provider: Provider) -> None:
    with provider.openai() as client:
        answers = [
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}], max_tokens=limit
            )
            for limit in (500, 500, 7)
        ]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    assert answers[2].choices[0].finish_reason == "length"
    assert answers[2].usage is not None
    assert answers[2].usage.completion_tokens == 7


def test_openai_caches_prefixes_of_1024_tokens(provider: Provider) -> None:
    def ask(client: openai.OpenAI, system: str, question: str) -> tuple[int, int]:
        answer = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "system", "content": system}, {"role": "user", "content": question}],
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        return answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens or 0

    with provider.openai() as client:
        assert ask(client, LONG, "One?")[1] == 0
        prompt, cached = ask(client, LONG, "Two?")
        assert cached >= 1024
        assert (cached - 1024) % 128 == 0
        assert prompt - cached < 128 + 20
        assert ask(client, "Be brief.", "One?")[1] == 0
        assert ask(client, "Be brief.", "One?")[1] == 0  # too short to be cached
    totals = provider.totals()
    assert totals["cached_tokens"] == cached
    assert totals["model_calls"] == totals["attempts"] == 4


def test_chat_stream_with_and_without_usage(provider: Provider) -> None:
    with provider.openai() as client:
        for include in (True, False):
            pieces: list[str] = []
            usages = []
            for chunk in client.chat.completions.create(
                model="gpt-4o",
                messages=[{"role": "user", "content": "Is there a pool?"}],
                stream=True,
                stream_options={"include_usage": include},
            ):
                pieces += [choice.delta.content or "" for choice in chunk.choices]
                usages += [chunk.usage] if chunk.usage else []
            line = provider.last()
            assert line["stream"] is True
            assert line["aborted"] is False
            assert len(pieces) > 5
            assert len(usages) == include
            if usages:
                assert usages[0].completion_tokens == line["output_tokens"]
        whole = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Is there a pool?"}]
        )
    assert "".join(pieces) == whole.choices[0].message.content


async def test_responses_sync_and_async_whole_and_streamed(provider: Provider) -> None:
    with provider.openai() as client:
        whole = client.responses.create(model="gpt-4o", instructions="Be kind.", input="A tip for dinner?")
        with client.responses.stream(
            model="gpt-4o", instructions="Be kind.", input="A tip for dinner?"
        ) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        limited = client.responses.create(model="gpt-4o", input="Go on", max_output_tokens=9)
    assert whole.output_text == final.output_text != ""
    assert whole.usage is not None
    assert final.usage is not None
    assert whole.usage.output_tokens == final.usage.output_tokens
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds
    assert limited.status == "incomplete"

    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key=KEY) as async_client:
        events = await async_client.responses.create(
            model="gpt-4o", input=[{"role": "user", "content": "A tip for dinner?"}], stream=True
        )
        text = "".join([event.delta async for event in events if event.type == "response.output_text.delta"])
    assert len(text) > 100
    assert provider.totals()["by_model"]["gpt-4o"]["calls"] == 4
    assert provider.last()["operation"] == "responses"


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_embeddings_base64_equals_float_and_paraphrases_are_closer(provider: Provider) -> None:
    texts = ["Is there parking for my car?", "CAN I PARK THE CAR HERE?", "What time is breakfast served?"]
    with provider.openai() as client:
        encoded = client.embeddings.create(model="text-embedding-3-small", input=texts)
        floats = client.embeddings.create(
            model="text-embedding-3-small", input=texts, encoding_format="float"
        )
        short = client.embeddings.create(model="text-embedding-3-small", input="hello", dimensions=8)
        tokens = client.embeddings.create(model="text-embedding-3-small", input=[[1, 2, 3], [4]])
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key=KEY) as async_client:
        again = await async_client.embeddings.create(model="text-embedding-3-small", input=texts)
    vectors = [item.embedding for item in encoded.data]
    assert vectors == [item.embedding for item in floats.data] == [item.embedding for item in again.data]
    assert [len(vector) for vector in vectors] == [1536] * 3
    assert all(math.isclose(cosine(v, v), 1.0, abs_tol=1e-5) for v in vectors)
    assert cosine(vectors[0], vectors[1]) > 0.7
    assert cosine(vectors[0], vectors[2]) < 0.4
    assert len(short.data[0].embedding) == 8
    assert tokens.usage.prompt_tokens == 4
    totals = provider.totals()
    assert totals["embedding_calls"] == 5
    assert totals["model_calls"] == totals["output_tokens"] == 0
    assert Decimal(totals["cost_usd"]) == Decimal(totals["input_tokens"]) * Decimal("0.02") / 1_000_000


async def test_anthropic_messages_write_and_read_the_cache(provider: Provider) -> None:
    system: list[anthropic.types.TextBlockParam] = [
        {"type": "text", "text": LONG + "Anthropic.", "cache_control": {"type": "ephemeral"}}
    ]
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Late check-out?"}]
    with provider.anthropic() as client:
        first = client.messages.create(
            model="claude-sonnet-4-6", max_tokens=300, system=system, messages=messages
        )
        written = provider.last()
        with client.messages.stream(
            model="claude-sonnet-4-6", max_tokens=300, system=system, messages=messages
        ) as stream:
            streamed = "".join(stream.text_stream)
            final = stream.get_final_message()
        read = provider.last()
        cheap = client.messages.create(
            model="claude-haiku-4-5", max_tokens=5, system=system, messages=messages
        )
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key=KEY) as async_client:
        events = await async_client.messages.create(
            model="claude-sonnet-4-6", max_tokens=300, system=system, messages=messages, stream=True
        )
        kinds = [event.type async for event in events]
    assert first.content[0].type == "text"
    assert first.content[0].text == streamed
    assert first.stop_reason == final.stop_reason == "end_turn"
    assert first.usage.cache_creation_input_tokens == final.usage.cache_read_input_tokens
    assert first.usage.cache_creation_input_tokens is not None
    assert first.usage.cache_creation_input_tokens > 1024
    assert first.usage.cache_read_input_tokens == final.usage.cache_creation_input_tokens == 0
    fresh, cached = first.usage.input_tokens, first.usage.cache_creation_input_tokens
    assert 0 < fresh < 30
    assert written["input_tokens"] == read["input_tokens"] == fresh + cached
    assert written["cache_write_tokens"] == read["cached_tokens"] == cached
    output = first.usage.output_tokens * Decimal(15)
    assert Decimal(written["cost_usd"]) == (fresh * 3 + cached * Decimal("3.75") + output) / 1_000_000
    assert Decimal(read["cost_usd"]) == (fresh * 3 + cached * Decimal("0.3") + output) / 1_000_000
    assert cheap.stop_reason == "max_tokens"
    assert cheap.usage.cache_creation_input_tokens == 0  # Haiku 4.5 caches from 4,096 tokens
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_one_hour_cache_writes_cost_twice_the_input(provider: Provider) -> None:
    with provider.anthropic() as client:
        answer = client.messages.create(
            model="claude-sonnet-4-6",
            max_tokens=300,
            system=[
                {
                    "type": "text",
                    "text": LONG + "hour",
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                }
            ],
            messages=[{"role": "user", "content": "Hello"}],
        )
    assert answer.usage.cache_creation is not None
    hour = answer.usage.cache_creation.ephemeral_1h_input_tokens
    assert hour == answer.usage.cache_creation_input_tokens != 0
    money = Decimal(provider.last()["cost_usd"])
    assert (
        money
        == (
            Decimal(answer.usage.input_tokens) * 3
            + Decimal(hour) * 6
            + Decimal(answer.usage.output_tokens) * 15
        )
        / 1_000_000
    )


def test_a_client_that_leaves_a_stream_pays_for_what_was_produced(provider: Provider) -> None:
    with provider.openai() as client:
        stream = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "Tell me about the old town."}],
            stream=True,
        )
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
    for _ in range(200):
        totals = provider.totals()
        if totals["in_flight"] == 0:
            break
    line = provider.last()
    assert line["aborted"] is True
    assert 0 < line["output_tokens"] < 150
    assert line["input_tokens"] > 0
    assert totals["aborted"] == 1


def test_malformed_requests_get_the_providers_own_errors(provider: Provider) -> None:
    with provider.openai(0) as client:
        with pytest.raises(openai.BadRequestError, match="messages"):
            client.chat.completions.create(model="gpt-4o", messages=[])
        with pytest.raises(openai.NotFoundError, match="gpt-99"):
            client.embeddings.create(model="gpt-99", input="x")
        with pytest.raises(openai.BadRequestError, match="input"):
            client.embeddings.create(model="text-embedding-3-small", input=[""])
        with pytest.raises(openai.BadRequestError, match="does not serve"):
            client.embeddings.create(model="gpt-4o", input="x")
    with provider.anthropic(0) as claude, pytest.raises(anthropic.BadRequestError, match="role"):
        claude.messages.create(
            model="claude-haiku-4-5",
            max_tokens=5,
            messages=[{"role": "system", "content": "x"}],
        )
    broken = httpx.post(f"{provider.url}/v1/messages", content="{", headers={"x-api-key": KEY})
    assert broken.status_code == 400
    assert broken.json()["error"]["type"] == "invalid_request_error"
    unkeyed = httpx.post(f"{provider.url}/v1/chat/completions", json={})
    assert unkeyed.status_code == 401
    totals = provider.totals()
    assert totals["attempts"] == totals["failed"] == 7
    assert Decimal(totals["cost_usd"]) == 0


def test_first_attempts_fail_and_retries_succeed(tmp_path: Path) -> None:
    for stormy in start(tmp_path, "--fail-rate", "0.5"):
        with stormy.openai() as client:
            for n in range(20):
                client.embeddings.create(model="text-embedding-3-small", input=f"question {n}")
        with stormy.anthropic() as claude:
            for n in range(5):
                claude.messages.create(
                    model="claude-haiku-4-5",
                    max_tokens=5,
                    messages=[{"role": "user", "content": f"question {n}"}],
                )
        quotes = [
            httpx.get(f"{stormy.url}/motopress/v1/quote", params={"hotel": "h", "room": "1", "nights": 1})
            for _ in range(3)
        ]
        totals = stormy.totals()
        lines = [json.loads(line) for line in stormy.ledger_file.read_text().splitlines()]
    assert {quote.status_code for quote in quotes} == {503}  # five times 0.5: always
    assert totals["calls"] == 25
    assert totals["embedding_calls"] == 20
    assert totals["attempts"] == 25 + totals["failed"] > 25
    assert {line["status"] for line in lines} == {200, 429, 500}
    assert all(line["status"] == 200 for line in lines if line["retry_count"])
    assert sum(line["cost_usd"] != "0" for line in lines) == 25


def test_reset_empties_totals_and_file(provider: Provider) -> None:
    with provider.openai() as client:
        client.embeddings.create(model="text-embedding-3-small", input="before")
        assert provider.totals()["calls"] == 1
        provider.reset()
        assert provider.ledger_file.read_text() == ""
        client.embeddings.create(
            model="text-embedding-3-small",
            input="after the reset",
            extra_headers={"baggage": "tenant=x, request=g7-3;p=1,other=y"},
        )
    assert provider.totals()["calls"] == 1
    assert len(provider.ledger_file.read_text().splitlines()) == 1
    assert provider.last()["request"] == "g7-3"


def test_a_port_in_use_and_an_unwritable_ledger_are_said(provider: Provider, tmp_path: Path) -> None:
    port = provider.url.rsplit(":", 1)[1]
    taken = run_module("examples.provider", "--port", port, "--ledger", str(tmp_path / "ledger.jsonl"))
    assert taken.returncode != 0
    assert "address already in use" in taken.stderr
    assert f"127.0.0.1', {port}" in taken.stderr
    lost = run_module("examples.provider", "--port", port, "--ledger", str(tmp_path / "no" / "ledger"))
    assert lost.returncode == 1
    assert "--ledger" in lost.stderr


def test_motopress_answers_and_stays_out_of_the_ledger(provider: Provider) -> None:
    url = f"{provider.url}/motopress/v1/quote"
    params = {"hotel": "h", "room": "101", "nights": "3"}
    first, second = httpx.get(url, params=params), httpx.get(url, params=params)
    assert first.json() == second.json()
    assert first.json()["total"] % 3 == 0
    assert httpx.get(url).status_code == 400
    pushed = httpx.post(f"{provider.url}/motopress/v1/sync", json={"hotel": "h", "reservations": ["A-1"]})
    assert pushed.json()["accepted"] == 1
    assert provider.totals()["attempts"] == 0
