"""The rates typed by hand equal the published ones as ``genai-prices`` records them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from genai_prices import Usage as Oracle
from genai_prices import calc_price

from examples.provider import tokens
from examples.provider.answers import answer, pieces_of
from examples.provider.models import MODELS
from examples.provider.rates import RATES, Usage, cost

USAGES = [
    Usage(input=1_000, output=100),
    Usage(input=5_000, output=321, cache_read=2_048),
    Usage(input=5_000, output=7, cache_read=1_024, cache_write_5m=1_500),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("usage", USAGES)
def test_rates_equal_genai_prices(model, usage) -> None:  # type: ignore[no-untyped-def]
    if model.api == "openai":  # writes its cache for nothing
        usage = Usage(usage.input, 0 if model.embedding else usage.output, usage.cache_read)
    if model.embedding:
        usage = Usage(usage.input)
    for name in (model.name, model.snapshot):
        oracle = calc_price(
            Oracle(
                input_tokens=usage.input,
                output_tokens=usage.output,
                cache_read_tokens=usage.cache_read,
                cache_write_tokens=usage.cache_write,
            ),
            model_ref=name,
            provider_id=model.api,
        )
        assert cost(model.name, usage) == oracle.total_price


def test_every_model_has_a_rate_and_an_hour_of_cache_costs_twice_the_input() -> None:
    assert {model.name for model in MODELS} == set(RATES)
    sonnet = RATES["claude-sonnet-4-6"]
    assert sonnet.cache_write_1h == 2 * sonnet.input
    assert cost("claude-sonnet-4-6", Usage(input=1_000_000, cache_write_1h=1_000_000)) == Decimal(6)


def test_streamed_pieces_join_to_the_text_and_count_its_tokens() -> None:
    text, cut_short = answer("gpt-4o", "user: hello", None)
    pieces = list(pieces_of(text))
    assert not cut_short
    assert "".join(piece for piece, _ in pieces) == text
    assert pieces[-1][1] == tokens.count(text)


def test_a_prefix_is_forgotten_after_its_time_and_beyond_capacity() -> None:
    now = [0.0]
    cache = tokens.PrefixCache(capacity=2, clock=lambda: now[0])
    cache.store("a", 10)
    now[0] = 9
    assert cache.hit("a", 10)  # a hit starts the time again
    now[0] = 18
    assert cache.hit("a", 10)
    now[0] = 30
    assert not cache.hit("a", 10)
    for key in "bcd":
        cache.store(key, 10)
    assert [cache.hit(key, 10) for key in "bcd"] == [False, True, True]
