"""LiteLLM, LangChain, requests, aiohttp: each call is one span, priced, with the tries the provider saw."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.receiver import Receiver, Span
from tests.agent.script import Script
from tests.agent.standin import Provider

CHAT = (600 * 0.15 + 400 * 0.075 + 200 * 0.60) / 1e6  # gpt-4o-mini, see the stand-in's usage
RESPONSE = (400 * 0.15 + 100 * 0.075 + 50 * 0.60) / 1e6
MESSAGE = (300 * 3 + 2000 * 0.30 + 500 * 3.75 + 100 * 15) / 1e6  # claude-sonnet-4-5
EMBEDDING = 10 * 0.02 / 1e6
#: The price of a call, and how many tries the provider saw of it.
CALLS: dict[str, tuple[float | None, int]] = {
    "litellm": (CHAT, 1),
    "litellm async": (CHAT, 1),
    "litellm stream": (CHAT, 1),
    "litellm embedding": (EMBEDDING, 1),
    "litellm anthropic": (MESSAGE, 1),
    "litellm responses": (RESPONSE, 1),
    "langchain": (CHAT, 1),
    "langchain stream": (CHAT, 1),
    "langchain embedding": (EMBEDDING, 1),
    "requests": (None, 1),  # the answer is read by nobody: no usage
    "requests, nobody there": (None, 0),
    "aiohttp": (None, 1),
    "aiohttp, nobody there": (None, 0),
}
Run = tuple[Receiver, Provider]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    receiver, provider = Receiver(), Provider()
    receiver.start()
    log = tmp_path_factory.mktemp("clients") / "log"
    try:
        script = Script(
            ["-m", "tests.agent.other_clients"], log, receiver, provider, LITELLM_LOCAL_MODEL_COST_MAP="True"
        )
        assert script.end(stop=False) == 0, script.log()
        assert "Taximeter failed" not in script.log(), script.log()
        yield receiver, provider
    finally:
        receiver.stop()
        provider.stop()


def calls(run: Run, name: str) -> list[Span]:
    (outer,) = [span for span in run[0].spans if span.name == name]
    return [
        span
        for span in run[0].spans
        if span.trace_id == outer.trace_id and "gen_ai.operation.name" in span.attributes
    ]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_one_span_with_its_price_and_tries(run: Run, name: str) -> None:
    cost, tries = CALLS[name]
    (call,) = calls(run, name)
    assert call.attributes.get("gen_ai.usage.cost.amount") == pytest.approx(cost)
    assert call.attributes["taximeter.model.attempts"] == tries
    assert ("error.type" in call.attributes) == (tries == 0)


@pytest.mark.parametrize(
    "name", ["litellm", "litellm async", "litellm anthropic", "litellm responses", "langchain"]
)
def test_its_prompt_is_known_by_hashes(run: Run, name: str) -> None:
    (call,) = calls(run, name)
    assert call.attributes["taximeter.prompt.blocks"].startswith("u2:")
    assert "tests/agent/other_clients.py" in call.attributes["taximeter.code.callers"]


def test_what_was_embedded_is_known_by_hashes(run: Run) -> None:
    (call,) = calls(run, "litellm embedding")
    assert len(set(call.attributes["taximeter.embedding.input.exact"].split())) == 1


def test_an_answer_from_litellms_own_cache_is_a_hit_and_no_call(run: Run) -> None:
    costs = [call.attributes.get("gen_ai.usage.cost.amount") for call in calls(run, "litellm cached")]
    assert sorted(costs, key=str) == [pytest.approx(CHAT), None]
    assert run[0].total("taximeter.request.cache.hits", taximeter_cache="litellm") == 1


def test_a_call_that_fails_has_an_error_and_no_price(run: Run) -> None:
    (call,) = calls(run, "litellm fails")
    assert "error.type" in call.attributes
    assert "gen_ai.usage.cost.amount" not in call.attributes


def test_the_totals_are_the_ledgers(run: Run) -> None:
    receiver, provider = run
    assert receiver.total("taximeter.request.model.attempts") == provider.ledger["attempts"]
    money = 6 * CHAT + RESPONSE + MESSAGE + 2 * EMBEDDING
    assert receiver.total("taximeter.cost_usd") == pytest.approx(money)
    assert receiver.total("taximeter.request.embedding.inputs") == 3
