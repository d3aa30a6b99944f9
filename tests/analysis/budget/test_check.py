"""What breaks a budget, what keeps it, and what cannot be said: each kind of limit on its own."""

from __future__ import annotations

import random

import pytest

from taximeter_analysis import Report
from taximeter_analysis.budget.check import NoBaseline, check
from taximeter_analysis.budget.loader import default_budget, parse_budget
from taximeter_analysis.budget.result import Line, Outcome
from taximeter_analysis.budget.suggest import suggest
from tests.analysis.budget.conftest import Measured


def judged(found: Report, limits: str, baseline: Report | None = None) -> Outcome:
    return check(parse_budget(f"version: 1\n{limits}"), found, baseline)


def only(outcome: Outcome) -> Line:
    [line] = outcome.lines
    return line


def durations(count: int, seed: int = 1, scale: float = 1.0) -> list[float]:
    dice = random.Random(seed)
    return [100 * scale * dice.lognormvariate(0, 0.5) for _ in range(count)]


@pytest.mark.parametrize(
    ("calls", "limit", "state"), [(2, "2", "pass"), (3, "2", "fail"), (lambda n: 2 + (n == 0), "2", "fail")]
)
def test_counts_are_gated_hard(measured: Measured, calls: object, limit: str, state: str) -> None:
    found = measured([10] * 20, db_calls=calls)
    line = only(judged(found, f"defaults: {{db_calls: {limit}}}"))
    assert (line.state, line.p, line.place) == (state, None, "defaults.db_calls")


def test_a_count_that_nobody_measured_is_no_zero(measured: Measured) -> None:
    line = only(judged(measured([10], cost_usd=None), "defaults: {cost: 1}"))
    assert (line.state, line.measured) == ("no_data", None)


def test_latency_needs_59_requests_and_more_when_more_is_gated(measured: Measured) -> None:
    few = only(judged(measured(durations(50)), "defaults: {latency_p95: 10s}"))
    assert (few.state, few.needs, few.reason) == ("no_data", 59, "not enough data (needs n = 59, has 50)")
    assert only(judged(measured(durations(59)), "defaults: {latency_p95: 10s}")).state == "pass"
    both = judged(measured(durations(59)), "defaults: {latency_p95: 10s}\ntotal: {latency_p95: 10s}")
    assert [(line.state, line.needs) for line in both.lines] == [("no_data", 72)] * 2


def test_latency_is_broken_only_beyond_the_confidence_bound(measured: Measured) -> None:
    found = measured(durations(300))
    p95 = found.routes[0].ranked[1]
    assert p95.low is not None
    clear = only(judged(found, f"defaults: {{latency_p95: {p95.low * 990}ms}}"))
    assert clear.state == "fail"
    assert "not by chance" in clear.reason
    close = only(judged(found, f"defaults: {{latency_p95: {p95.value * 995}ms}}"))
    assert (close.state, close.beyond) == ("pass", True)
    assert "may be chance" in close.reason


def test_the_error_rate_allows_for_chance(measured: Measured) -> None:
    def rate(failures: int, count: int) -> Line:
        found = measured([10] * count, error=lambda number: number < failures)
        return only(judged(found, "defaults: {error_rate: 2%}"))

    assert rate(0, 100).needs == 149
    assert rate(4, 150).state == "pass"  # 2.7 %, which 3 of 150 allowed ones often come to
    assert rate(9, 150).state == "fail"
    none = only(judged(measured([10] * 3, error=lambda number: number == 1), "defaults: {error_rate: 0%}"))
    assert (none.state, none.reason) == ("fail", "1 of 3, and none is allowed")


def test_few_requests_are_enough_to_fail_but_not_to_pass(measured: Measured) -> None:
    """No failure in 100 requests is no proof of 2 %; half of them failed is one of the contrary."""

    def outcome(failures: int, text: str) -> Line:
        found = measured(durations(40), error=lambda number: number < failures)
        return only(judged(found, f"defaults: {{{text}}}"))

    states = [outcome(failures, "error_rate: 2%").state for failures in (0, 2, 20)]
    assert states == ["no_data", "no_data", "fail"]
    slow = outcome(0, "latency_p95: 1ms")
    assert (slow.state, slow.needs, slow.reason[:32]) == ("fail", None, "beyond the limit, not by chance ")
    assert outcome(0, "latency_p95: 10s").state == "no_data"


def test_against_a_baseline(measured: Measured) -> None:
    before, same = measured(durations(400, seed=1)), measured(durations(400, seed=2))
    slower = measured(durations(400, seed=2, scale=1.6))
    limit = "defaults: {latency_p95: {max_increase: 10%}}"
    assert only(judged(same, limit, before)).state == "pass"
    line = only(judged(slower, limit, before))
    assert (line.state, line.relative, line.place) == ("fail", True, "defaults.latency_p95.max_increase")
    assert line.low is not None
    assert line.low > 1.1
    few = only(judged(measured(durations(50)), limit, before))
    assert (few.state, few.needs) == ("no_data", 59)
    with pytest.raises(NoBaseline, match=r"defaults.latency_p95.max_increase .* --baseline"):
        judged(same, limit)


def test_counts_errors_and_hits_against_a_baseline(measured: Measured) -> None:
    before = measured([10] * 200, db_calls=2, cache_lookups=1, cache_hits=lambda n: n % 2)
    worse = measured(
        [10] * 200, db_calls=3, error=lambda n: n < 9, cache_lookups=1, cache_hits=lambda n: int(n % 4 == 0)
    )
    text = (
        "defaults: {db_calls: {max_increase: 0}, error_rate: {max_increase: 10%}, "
        "cache_hit_rate: {max_decrease: 10%}}"
    )
    assert {line.name: line.state for line in judged(before, text, before).lines} == dict.fromkeys(
        ("db_calls", "error_rate", "cache_hit_rate"), "pass"
    )
    assert {line.name: line.state for line in judged(worse, text, before).lines} == dict.fromkeys(
        ("db_calls", "error_rate", "cache_hit_rate"), "fail"
    )
    assert judged(measured([10] * 200, error=lambda n: n < 2), text, before).lines[1].state == "pass"


def test_holm_makes_one_of_many_harder_to_break(measured: Measured) -> None:
    found = measured(durations(300))
    p95 = found.routes[0].ranked[1]
    limit = p95.value * 1000 * 0.93
    alone = only(judged(found, f"defaults: {{latency_p95: {limit}ms}}"))
    assert alone.p is not None
    assert alone.state == "fail"
    others = "\ntotal: {latency_p50: 10s, latency_p95: 10s, error_rate: 50%}\ncaches: []"
    among = judged(found, f"defaults: {{latency_p95: {limit}ms}}{others}")
    [line] = [line for line in among.lines if line.place == "defaults.latency_p95"]
    assert line.p == pytest.approx(4 * alone.p)


def test_money_caches_and_tenants(measured: Measured) -> None:
    hour = measured([10] * 61, every_ms=60_000, cost_usd=0.01, cache_lookups=1, cache_hits=1)
    text = (
        "money: {per_request: 0.01, per_day: 10, per_month: 1000}\n"
        "caches: [{match: '*', hit_rate: 80%}, {match: embedding, hit_rate: 80%}]\n"
        "tenants: [{match: 't*', per_day: 20}, {match: nobody, per_day: 1}]"
    )
    found = {line.place: line for line in judged(hour, text).lines}
    assert {place: line.state for place, line in found.items()} == {
        "money.per_request": "pass",
        "money.per_day": "fail",
        "money.per_month": "pass",
        "caches[0].hit_rate": "pass",
        "caches[1].hit_rate": "skipped",
        "tenants[0].per_day": "pass",
        "tenants[1].per_day": "no_data",
    }
    assert found["money.per_day"].measured == pytest.approx(0.61 / 3600.01 * 86400)
    short = {line.place: line for line in judged(measured([10] * 61, cost_usd=0.01), text).lines}
    assert short["money.per_day"].state == "skipped"
    assert "tell nothing of a day" in short["money.per_day"].reason


def test_an_entry_that_matches_no_route_is_told_with_the_nearest(measured: Measured) -> None:
    outcome = judged(measured([10]), "routes: [{match: 'GET /aa', db_calls: 1}]")
    assert outcome.state == "no_data"
    assert only(outcome).reason == "no request of a route that matches; did you mean 'GET /a'?"


def test_what_matched_no_route_is_judged_only_by_a_pattern_of_its_own(hotel_report: Report) -> None:
    def labels(text: str) -> set[str]:
        return {line.subject for line in judged(hotel_report, text).lines}

    assert "GET (no route)" not in labels("defaults: {db_calls: 0}")
    assert labels("routes: [{match: '(no route)', db_calls: 0}]") == {"GET (no route)"}


def test_the_default_budget_can_be_held_against_a_run(hotel_report: Report) -> None:
    outcome = check(default_budget(), hotel_report)
    assert {line.name for line in outcome.lines} >= {"latency_p99", "error_rate", "hit_rate"}


def test_a_suggested_budget_is_kept_by_itself_and_broken_by_one_call_more(hotel_report: Report) -> None:
    budget = parse_budget(suggest(hotel_report))
    assert check(budget, hotel_report).state == "pass"
    for name in ("db_calls", "embedding_calls", "model_calls"):
        for route in hotel_report.routes:
            limit = budget.limit_for(route.service, route.method, route.route, name)
            mean = getattr(route, f"{name}_per_request")
            assert route.route is None or (limit and limit.max is not None and mean <= limit.max < mean + 1)


def test_a_suggested_budget_leaves_room_for_another_mix_of_requests(measured: Measured) -> None:
    dice = random.Random(2)
    counts = [dice.choice((1, 3)) for _ in range(800)]
    first = measured([10] * 400, db_calls=lambda n: counts[n])
    other = measured([10] * 400, db_calls=lambda n: counts[400 + n])
    assert check(parse_budget(suggest(first)), other).state == "pass"
    assert "db_calls: 2.2" in suggest(first)
    few = suggest(measured([10] * 8, db_calls=lambda n: 1 + 4 * (n % 2)))
    assert "# no db_calls: 3 ± 2.1 over 8 requests; needs 330" in few
    assert parse_budget(few).routes[0].limits.keys() == {"model_calls", "embedding_calls"}
    assert "db_calls: 3.15" in suggest(measured([10] * 8, db_calls=lambda n: 1 + 4 * (n % 2)), replay=True)
