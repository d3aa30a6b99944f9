"""The same answers, through the real SDKs and the agent: what is on the span is the amount by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.receiver import Receiver, Span
from tests.agent.script import Script
from tests.agent.standin import Provider
from tests.agent.test_money import BY_HAND, PAYLOADS
from tools.peers.calls import call_for

CASES = [
    name for name, payload in PAYLOADS.items() if call_for(name, payload) is not None and "at" not in payload
]
GPT_4O_MINI = (600 * 0.15 + 400 * 0.075 + 200 * 0.60) / 1e6
GPT_41 = (100 * 2 + 10 * 8) / 1e6
HAIKU = (100 * 1 + 1000 * 0.10 + 50 * 5) / 1e6


@pytest.fixture(scope="module")
def run(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    script = Script(
        ["-m", "tests.agent.money_calls"],
        tmp_path_factory.mktemp("money") / "log.txt",
        receiver,
        provider,
        TAXIMETER_MODEL_HOSTS="llm-gateway.internal",
        GOOGLE_API_KEY="x",
    )
    try:
        assert script.end(stop=False) == 0, script.log()
        assert "Taximeter failed" not in script.log(), script.log()
        assert "is not there" not in script.log()  # every function that reads a response was found
        yield receiver
    finally:
        receiver.stop()


def call(run: Receiver, name: str) -> Span:
    (outer,) = [span for span in run.spans if span.name == name]
    (found,) = [
        span
        for span in run.spans
        if span.trace_id == outer.trace_id and "gen_ai.operation.name" in span.attributes
    ]
    return found


def test_most_answers_are_brought_by_a_call() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_a_call_costs_what_it_costs_by_hand(run: Receiver, name: str) -> None:
    attributes = call(run, name).attributes
    expected = BY_HAND[name]
    cost = attributes.get("gen_ai.usage.cost.amount")
    if isinstance(expected, str):
        assert cost is None
        return
    assert cost == pytest.approx(expected / 1e6, rel=0.001)
    reported = (
        "cost" in PAYLOADS[name]["response"]["usage"] if "usage" in PAYLOADS[name]["response"] else False
    )
    assert attributes["gen_ai.usage.cost.source"] == ("provider" if reported else "local")


def test_the_provider_is_who_serves_the_call(run: Receiver) -> None:
    for name, provider in (
        ("others: azure chat, by the model", "azure.ai.openai"),
        ("others: openrouter reports the cost", "openrouter"),
        ("others: groq", "groq"),
        ("others: a local server is not OpenAI", "gpu-box.internal"),
        ("others: a gateway passes calls on", "openai"),
        ("openai: chat", "openai"),
    ):
        assert call(run, name).attributes["gen_ai.provider.name"] == provider


def foreign(run: Receiver, name: str) -> float | None:
    (span,) = [span for span in run.spans if span.name == f"foreign {name}"]
    cost: float | None = span.attributes.get("gen_ai.usage.cost.amount")
    return cost


def test_spans_of_other_dialects_are_priced(run: Receiver) -> None:
    assert foreign(run, "openinference") == pytest.approx(GPT_4O_MINI)
    assert foreign(run, "openllmetry") == pytest.approx(HAIKU)
    assert foreign(run, "legacy") == pytest.approx(GPT_41)
    assert foreign(run, "unknown") is None
    assert foreign(run, "chain") is None


def test_one_call_is_one_price_however_many_spans_tell_of_it(run: Receiver) -> None:
    assert foreign(run, "inner") == pytest.approx(GPT_41)
    assert foreign(run, "outer") is None
    assert foreign(run, "around") is None
    (span,) = [span for span in run.spans if span.name == "foreign around"]
    (inner,) = [
        s for s in run.spans if s.trace_id == span.trace_id and "gen_ai.operation.name" in s.attributes
    ]
    assert inner.attributes["gen_ai.usage.cost.amount"] == pytest.approx(BY_HAND["openai: chat"] / 1e6)  # type: ignore[operator]


def test_the_money_counter_is_the_sum_of_the_spans(run: Receiver) -> None:
    spans = sum(span.attributes.get("gen_ai.usage.cost.amount", 0) for span in run.spans)
    assert run.total("taximeter.cost_usd") == pytest.approx(spans)


def test_what_has_no_price_is_counted_by_reason(run: Receiver) -> None:
    reasons = {point.attributes["reason"] for point in run.points("taximeter.unpriced.calls")}
    assert reasons == {
        *("unknown_model", "unknown_tier", "unknown_provider", "no_usage", "no_rate:input_audio"),
    }
