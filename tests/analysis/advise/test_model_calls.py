"""Model calls: what could be cached, shortened, streamed or asked once is found, its silent twin is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.advise.plants import chats, found
from tests.analysis.stores import Builder


def test_a_name_in_front_of_the_prompt_keeps_hotels_from_sharing_its_cache(tmp_path: Path) -> None:
    build = Builder()
    chats(build)
    (finding,) = found(build, tmp_path, "prompt_cache")
    assert "4 variants" in finding.what
    assert "number 1 (s128" in finding.what
    # 39 warm calls x 11 shared blocks of 128 tokens x half of gpt-4o's rate
    assert finding.savings["cost_usd"].value == pytest.approx(39 * 11 * 128 * 1.25e-6)


def test_openai_caches_in_steps_and_who_marks_has_paid_for_writing(tmp_path: Path) -> None:
    build = Builder()
    chats(build, size=130)
    (finding,) = found(build, tmp_path / "steps", "prompt_cache")
    assert finding.savings["cost_usd"].value == pytest.approx(39 * (1024 + 3 * 128) * 1.25e-6)
    build = Builder()
    chats(build, size=130, marked=True)
    (finding,) = found(build, tmp_path / "marked", "prompt_cache")
    # Written for $3.75 a million each time, it would be read for $0.30.
    assert finding.savings["cost_usd"].value == pytest.approx(39 * 11 * 130 * 3.45e-6)


def test_a_name_behind_the_prompt_shares_it(tmp_path: Path) -> None:
    build = Builder()
    chats(build, name_first=False)
    assert not found(build, tmp_path, "prompt_cache")


def test_long_instructions_are_priced_and_short_ones_are_not_mentioned(tmp_path: Path) -> None:
    build = Builder()
    chats(build)
    (finding,) = found(build, tmp_path, "long_prompt")
    assert finding.ceiling
    assert finding.savings["input_tokens"].value == pytest.approx(40 * 12 * 128 / 2)


@pytest.mark.parametrize("twin", [{"long": False}, {"size": 40}])
def test_instructions_of_less_than_a_page_are_not_long(tmp_path: Path, twin: dict[str, Any]) -> None:
    build = Builder()
    chats(build, **twin)
    assert not found(build, tmp_path, "long_prompt")


def test_the_gain_of_streaming_is_what_the_model_writes(tmp_path: Path) -> None:
    build = Builder()
    chats(build)
    (finding,) = found(build, tmp_path, "streaming")
    gain = sum(0.01 * (20 + number) + 0.899 - 0.05 - 0.2 - 0.01 * (20 + number) for number in range(40))
    assert finding.savings["first_byte_s"].holds(gain)
    build = Builder()
    chats(build, streamed=True)
    assert not found(build, tmp_path / "streamed", "streaming")


def test_a_prompt_asked_twice_is_paid_twice(tmp_path: Path) -> None:
    build = Builder()
    chats(build, twice=True)
    (finding,) = found(build, tmp_path, "asked_twice")
    assert finding.savings["cost_usd"].value == pytest.approx(40 * 0.004)
    build = Builder()
    chats(build)
    assert not found(build, tmp_path / "once", "asked_twice")


def test_attempts_beyond_the_first_are_told(tmp_path: Path) -> None:
    build = Builder()
    chats(build, attempts=3)
    (finding,) = found(build, tmp_path, "retries")
    assert "20 attempts" in finding.what
    build = Builder()
    chats(build)
    assert not found(build, tmp_path / "once", "retries")


def answered(
    build: Builder, *, history: bool = False, tenants: int = 2, texts: int = 5, model: str = "gpt-4o"
) -> None:
    """Forty conversations that begin with one of five questions, asked of a dear model."""
    for number in range(40):
        text = f"q{(number // tenants) % texts}"
        request = build.request(
            "/chat", number * 1000, 900, tenant=f"t{number % tenants}",
            evidence_key="k1", cache_keys=f"embedding=+{text}/{text}",
        )  # fmt: skip
        blocks = f"s128:rules {'u8:before a9:answer ' if history else ''}u10:{number}"
        row: dict[str, Any] = {"evidence_key": "k1", "prompt_blocks": blocks}
        build.model(request, 50, 800, model=model, tokens=(1500, 100, 0), cost=0.005, **row)


def test_questions_answered_before_could_be_answered_from_memory(tmp_path: Path) -> None:
    build = Builder()
    answered(build)
    (finding,) = found(build, tmp_path, "answer_cache")
    assert finding.savings["model_calls"].value == 40 - 2 * 5
    assert finding.savings["cost_usd"].value == pytest.approx(30 * 0.005)


@pytest.mark.parametrize("twin", [{"history": True}, {"tenants": 40}, {"texts": 40}])
def test_what_has_a_history_or_another_tenant_is_answered_anew(tmp_path: Path, twin: dict[str, Any]) -> None:
    build = Builder()
    answered(build, **twin)
    assert not found(build, tmp_path, "answer_cache")


def test_common_questions_to_a_dear_model_are_priced_at_the_cheaper_one(tmp_path: Path) -> None:
    build = Builder()
    answered(build)
    (finding,) = found(build, tmp_path, "cheaper_model")
    # gpt-4o-mini: 0.15 and 0.60 dollars a million
    assert finding.savings["cost_usd"].value == pytest.approx(40 * (0.005 - 1500 * 0.15e-6 - 100 * 0.6e-6))
    assert finding.ceiling


@pytest.mark.parametrize("twin", [{"texts": 40}, {"model": "gpt-4o-mini"}])
def test_rare_questions_and_cheap_models_are_left_where_they_are(
    tmp_path: Path, twin: dict[str, Any]
) -> None:
    build = Builder()
    answered(build, **twin)
    assert not found(build, tmp_path, "cheaper_model")
