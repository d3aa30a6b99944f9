"""Answers of a batch, told by the service: priced as by hand, counted once, of any answer only the usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import taximeter
from tests.agent.receiver import Receiver
from tests.agent.script import Script
from tests.agent.standin import Provider

OPENAI = (12_000 * 0.075 + 800 * 0.30) / 1e6  # gpt-4o-mini at half price
ANTHROPIC = (10_000 * 0.50 + 2000 * 2.50) / 1e6  # claude-haiku-4-5 at half price


def test_answers_of_a_batch_are_priced_and_counted(tmp_path: Path) -> None:
    receiver, provider = Receiver(), Provider()
    receiver.start()
    try:
        script = Script(["-m", "tests.agent.batch_results"], tmp_path / "log.txt", receiver, provider)
        assert script.end(stop=False) == 0, script.log()
    finally:
        receiver.stop()
        provider.stop()
    log = script.log()
    assert "Taximeter failed" not in log
    [line] = [line for line in log.splitlines() if line.startswith("[")]
    assert json.loads(line) == [pytest.approx(OPENAI), pytest.approx(ANTHROPIC), None, None]
    assert receiver.total("taximeter.cost_usd") == pytest.approx(OPENAI + ANTHROPIC, rel=1e-9)
    assert receiver.total("taximeter.request.model.calls") == 4
    assert receiver.total("taximeter.request.tokens.input") == 12_000 + 10_000 + 10
    assert receiver.total("taximeter.unpriced.calls", reason="unknown_model") == 1
    assert receiver.total("taximeter.unpriced.calls", reason="no_usage") == 1
    spans = {span.attributes["gen_ai.request.model"]: span.attributes for span in receiver.spans}
    assert len(receiver.spans) == 4
    assert spans["gpt-99"].get("gen_ai.usage.cost.amount") is None
    assert sum(each.get("gen_ai.usage.cost.amount", 0) for each in spans.values()) == pytest.approx(
        OPENAI + ANTHROPIC
    )
    assert not any("Breakfast" in str(each) for each in spans.values())


def test_without_the_agent_nothing_happens() -> None:
    assert taximeter.record_model_call({"usage": {}}, provider="openai") is None
