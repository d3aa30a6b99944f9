"""The hit-rate curve against a cache that is really run."""

from __future__ import annotations

import random

import pytest

from taximeter_analysis.advise.curves import curve, replay


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_what_a_cache_of_each_size_hits(seed: int) -> None:
    dice = random.Random(seed)
    weights = [1 / rank for rank in range(1, 301)]
    keys = dice.choices(range(300), weights, k=5000)
    found = curve(keys)
    for size in (1, 2, 10, 50, 100, 299, 300, 1000):
        live = sum(replay([(0.0, 0, key) for key in keys], size))
        assert found.hits(size) == live
    assert found.ceiling == pytest.approx(1 - len(set(keys)) / len(keys))


def test_the_size_for_a_rate_is_the_least_or_none() -> None:
    keys = list(range(50)) * 4
    found = curve(keys)
    assert found.size_for(0.75) == 50
    assert found.rate(49) == 0.0  # a cycle longer than the cache hits never
    assert found.size_for(0.76) is None


def test_time_to_live_and_instances() -> None:
    lookups = [(float(second), second % 2, "k") for second in range(10)]
    assert sum(replay(lookups, 10)) == 8  # each of two instances misses once
    assert sum(replay(lookups, 10, ttl_s=3.0)) == 4  # each puts it anew at 0, 4 and 8 seconds
