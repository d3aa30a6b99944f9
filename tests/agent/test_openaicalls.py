"""The short way of a plain model call: it says what the official instrumentor says, and breaks nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taximeter import guard, openaicalls, openaiplain, plainusage, pricing, usage
from tests.agent.receiver import Receiver
from tests.agent.script import Script
from tests.agent.standin import Provider
from tests.agent.test_money import PAYLOADS

METRICS = (
    *("gen_ai.client.operation.duration", "gen_ai.client.token.usage", "gen_ai.client.operation.cost"),
    *("taximeter.cost_usd", "taximeter.unpriced.calls", "taximeter.request.model.calls"),
    *("taximeter.request.model.attempts", "taximeter.request.embedding.calls"),
    *("taximeter.request.embedding.inputs", "taximeter.request.embedding.duplicates"),
    *("taximeter.request.tokens.input", "taximeter.request.tokens.output"),
    *("taximeter.request.tokens.cached", "taximeter.request.unpriced.calls"),
)
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
TIMED = "gen_ai.client.operation.duration"


def seen(folder: Path, provider: Provider, **environment: str) -> dict[str, Any]:
    """Everything that the calls told and returned, times and ids aside."""
    receiver = Receiver()
    receiver.start()
    provider._refused.clear()
    try:
        script = Script(
            ["-m", "tests.agent.plain_calls"],
            folder / "log.txt",
            receiver,
            provider,
            TAXIMETER_HASH_KEY="a key of the tests, and of no other",
            **environment,
        )
        assert script.end(stop=False) == 0, script.log()
    finally:
        receiver.stop()
    names = {span.span_id: span.name for span in receiver.spans}
    spans = sorted(
        (
            *(names.get(span.parent_id, ""), span.name, span.scope, span.kind, span.status),
            sorted((key, str(value)) for key, value in span.attributes.items() if key != FIRST_CHUNK),
        )
        for span in receiver.spans
    )
    metrics = sorted(
        (
            *(point.name, point.unit, point.count, point.bounds, sorted(point.attributes.items())),
            0 if name == TIMED else round(point.value, 12),
        )
        for name in METRICS
        for point in receiver.points(name)
    )
    answers = [line for line in script.log().splitlines() if not line.startswith(("INFO", "WARNING"))]
    return {"spans": spans, "metrics": metrics, "answers": answers}


def test_the_short_way_says_what_the_official_one_says(tmp_path: Path, provider: Provider) -> None:
    (tmp_path / "light").mkdir()
    light = seen(tmp_path / "light", provider)
    official = seen(tmp_path, provider, TAXIMETER_OFFICIAL="models")
    assert len([span for span in light["spans"] if span[1].startswith("chat ")]) > 25
    for part, told in light.items():
        others = official[part]
        assert [one for one in told if one not in others] == [one for one in others if one not in told]
        assert told == others


@pytest.mark.parametrize("name", list(PAYLOADS))
def test_a_usage_read_in_one_step_is_the_usage(name: str) -> None:
    from openai.types import CreateEmbeddingResponse
    from openai.types.chat import ChatCompletion

    response = PAYLOADS[name]["response"]
    kind = response.get("object")
    if kind == "chat.completion" and response.get("usage"):
        chat = ChatCompletion.construct(**response).usage
        plain = plainusage.of_chat(chat)
        assert plain is None or usage.Reading(plain) == usage.read({"usage": chat})
    elif kind == "list" and response.get("usage"):
        made = CreateEmbeddingResponse.construct(**response)
        plain = plainusage.of_embeddings(made)
        whole = usage.read(made)
        assert plain is None or usage.Reading(plain) == whole._replace(model=None)


@pytest.mark.parametrize("name", ["prompt_tokens", "cached_tokens", "reasoning_tokens"])
@pytest.mark.parametrize("count", [-1, 1.5, True, 10**13, "7"])
def test_a_count_that_is_none_is_read_the_long_way(name: str, count: object) -> None:
    from openai.types import CompletionUsage

    sent, made = {"cached_tokens": 4}, {"reasoning_tokens": 2}
    told: Any = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    made_of = CompletionUsage(**told, prompt_tokens_details=sent, completion_tokens_details=made)  # type: ignore[arg-type]
    assert plainusage.of_chat(made_of) == pricing.Usage(10, 5, 4, reasoning=2)
    owners: Any = (made_of, made_of.prompt_tokens_details, made_of.completion_tokens_details)
    next(each for each in owners if name in each.__dict__).__dict__[name] = count
    assert plainusage.of_chat(made_of) is None


@pytest.mark.parametrize("part", ["Calls.tell", "Chats.asked", "Chats.take", "Place.answer", "Call.__init__"])
def test_a_failure_of_the_short_way_costs_telemetry_alone(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import context
    from opentelemetry.util.genai.handler import TelemetryHandler

    from taximeter import modelcalls

    monkeypatch.delenv("TAXIMETER_STRICT", raising=False)
    guard.reset()

    def raising(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    owner, name = part.split(".")
    monkeypatch.setattr(getattr(openaiplain, owner), name, raising)
    asked: list[str] = []

    client: Any = SimpleNamespace(
        _client=SimpleNamespace(base_url=SimpleNamespace(host="api.openai.com", port=None))
    )

    def create(**_: Any) -> str:
        asked.append("asked")
        return "answer"

    def official(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    pricer = modelcalls.Pricer(pricing.PriceBook(), {})
    way = openaicalls._sync(official, openaiplain.Chats(TelemetryHandler(), pricer))
    before = context.get_current()
    assert way(create, client, (), {"model": "m", "messages": []}) == "answer"
    assert asked == ["asked"]
    assert context.get_current() is before
    assert sum(guard.counts().values()) >= 1
