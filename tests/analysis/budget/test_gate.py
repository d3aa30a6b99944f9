"""A reduced ``make prove-gate``: false alarms, power, missing data and replays, on recorded requests."""

from __future__ import annotations

import random

import pytest

from benchmarks.gate import CHANGES, SAME_COUNTS, latency_trials, replay_trials, slower_p
from benchmarks.prove_gate import requests_for
from benchmarks.recorded import recording

RECORDED = recording()
ROUTES = dict(list(RECORDED.durations().items())[:15])
#: A route whose time is the models': its P95 is not the noise of the machine it was recorded on.
CHAT = "POST /hotels/{hotel}/chat"


def test_unchanged_builds_rarely_fail() -> None:
    found = latency_trials(ROUTES, trials=60, count=300, seed="test")
    assert found.ours <= 6  # 5 % is 3, and the chance of more
    assert found.p95_rule > 30  # the rule that teams write first


def test_a_slower_route_is_caught() -> None:
    found = latency_trials({CHAT: ROUTES[CHAT]}, trials=30, count=2000, seed="test", slower=[CHAT])
    assert found.ours >= 27


def test_how_many_requests_would_catch_it_is_never_less_than_a_bound_needs() -> None:
    assert requests_for(ROUTES["GET /hotels/{hotel}/motopress/quote"]) >= 59


@pytest.mark.parametrize(("routes", "needs"), [(1, 59), (15, 112)])
def test_fifty_requests_are_not_enough_and_it_says_how_many_are(routes: int, needs: int) -> None:
    few = dict(list(ROUTES.items())[:routes])
    found = latency_trials(few, trials=10, count=50, seed="test", slower=list(few)[:1], peers=False)
    assert (found.no_data, found.ours, found.needs) == (10, 0, {needs})


@pytest.mark.parametrize("change", CHANGES)
def test_every_added_call_and_token_of_a_replay_is_caught_and_nothing_else(change: str) -> None:
    failed = replay_trials(RECORDED.replays, change, trials=10, seed="test", budget=lambda _: SAME_COUNTS)
    assert failed == (0 if change == "unchanged" else 10)


def test_mann_whitney_equals_counting_every_pair() -> None:
    dice = random.Random(1)
    before, after = (sorted(dice.randrange(8) for _ in range(60)) for _ in range(2))
    wins = sum((x < y) + (x == y) / 2 for x in before for y in after)
    shifted = slower_p(before, after)
    assert (shifted < 0.5) == (wins > 1800)
    assert slower_p(before, before) == pytest.approx(0.5)
    assert slower_p(before, [value + 5 for value in before]) < 1e-6
