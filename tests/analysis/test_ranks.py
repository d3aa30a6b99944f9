"""The order statistics that a report keeps: equal to sorting everything, and their bounds hold."""

from __future__ import annotations

import math
import random
import statistics
from fractions import Fraction
from pathlib import Path

import pytest

from taximeter_analysis import Report, Store, open_store, ranks, report
from taximeter_analysis.inference import distributions, quantiles, tails
from tests.analysis.stores import Builder


def binomial_upper(k: int, n: int, p: Fraction) -> float:
    """P(Bin(n, p) >= k) in exact fractions."""
    return float(sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)))


@pytest.mark.parametrize(
    ("k", "n", "p"), [(1, 59, "1/20"), (3, 50, "1/20"), (29, 60, "1/2"), (199, 200, "99/100")]
)
def test_binomial_tail_equals_exact_fractions(k: int, n: int, p: str) -> None:
    share = Fraction(p)
    assert distributions.binomial_at_least(k, n, float(share)) == pytest.approx(
        binomial_upper(k, n, share), rel=1e-9
    )


def test_student_t_equals_the_tables() -> None:
    assert distributions.t_quantile(0.95, 5) == pytest.approx(2.015048, abs=1e-5)
    assert distributions.t_quantile(0.975, 10) == pytest.approx(2.228139, abs=1e-5)
    assert distributions.t_quantile(0.95, math.inf) == pytest.approx(1.644854, abs=1e-5)


def test_a_confidence_bound_needs_59_requests_for_p95_and_299_for_p99() -> None:
    assert (quantiles.needed(0.5), quantiles.needed(0.95), quantiles.needed(0.99)) == (5, 59, 299)
    for q, needs in ((0.95, 59), (0.99, 299)):
        assert quantiles.ranked(q, range(1, needs + 1)).high == needs
        assert quantiles.ranked(q, range(1, needs)).high is None


@pytest.mark.parametrize("count", [1, 2, 58, 59, 300, 2000, 30_000])
@pytest.mark.parametrize("q", ranks.QUANTILES)
def test_kept_ranks_hold_the_quantile_and_its_surroundings(q: float, count: int) -> None:
    values = [float(number) for number in range(1, count + 1)]
    kept = quantiles.ranked(q, values)
    assert kept.value == math.ceil(Fraction(str(q)) * count)
    assert len(kept.values) <= 162
    assert [values[kept.first - 1 + kept.step * i] for i in range(len(kept.values))] == list(kept.values)


def test_bounds_hold_as_often_as_they_say() -> None:
    """Uniform durations: the true P95 is 0.95. Each bound must be right in 95 of 100 samples or more."""
    dice = random.Random(3)
    right = {"low": 0, "high": 0}
    for _ in range(600):
        kept = quantiles.ranked(0.95, sorted(dice.random() for _ in range(200)))
        assert kept.low is not None
        assert kept.high is not None
        right["low"] += kept.low <= 0.95
        right["high"] += kept.high >= 0.95
    assert min(right.values()) >= 0.95 * 600 - 3 * math.sqrt(600 * 0.05 * 0.95)
    assert max(right.values()) < 600  # bounds that never fail would be too wide to be of use


def test_the_rank_test_equals_shuffling_the_requests() -> None:
    """Its chance is that of all ways to deal the same requests out to two runs; here 4,000 of them."""
    dice = random.Random(5)
    before = sorted(dice.lognormvariate(0, 0.8) for _ in range(150))
    after = sorted(dice.lognormvariate(0.1, 0.8) for _ in range(300))

    def lifted(one: list[float], other: list[float]) -> float:
        return tails.lifted(quantiles.ranked(0.95, sorted(one)), quantiles.ranked(0.95, sorted(other)), 1.0)

    found, times, as_high = lifted(before, after), 4000, 0
    for _ in range(times):
        dealt = dice.sample([*before, *after], 450)
        as_high += lifted(dealt[:150], dealt[150:]) >= found
    chance = 1 - statistics.NormalDist().cdf(found)
    assert 0.02 < chance < 0.98
    assert chance == pytest.approx(as_high / times, abs=4 * math.sqrt(0.25 / times))


@pytest.mark.parametrize(("one", "other"), [(120, 120), (112, 5000), (5000, 112)])
def test_the_same_requests_are_rarely_called_slower_whatever_the_lengths(one: int, other: int) -> None:
    dice, false = random.Random(11), 0
    for _ in range(300):
        before, after = (
            quantiles.ranked(0.95, sorted(dice.paretovariate(1.5) for _ in range(n))) for n in (one, other)
        )
        false += tails.shift(before, after).p_not_higher <= 0.05
    assert 1 <= false <= 300 * 0.04 + 3.5 * math.sqrt(300 * 0.04 * 0.96)


def test_bounds_of_a_ratio_hold_it_and_a_quantile_that_did_not_rise_is_not_called_higher() -> None:
    dice = random.Random(13)
    before = [dice.lognormvariate(0, 0.5) for _ in range(3000)]
    found = tails.shift(
        quantiles.ranked(0.95, sorted(before)), quantiles.ranked(0.95, sorted(1.2 * v for v in before))
    )
    assert found.low < 1.2 < found.high
    assert found.ratio == pytest.approx(1.2)
    assert found.p_not_higher < 0.01
    assert found.p_not_lower >= 0.5
    far = tails.shift(
        quantiles.ranked(0.95, sorted(before)), quantiles.ranked(0.95, sorted(99 * v for v in before))
    )
    assert far.p_not_higher < 1e-6
    assert far.low > 20
    # All below P95 slower, P95 itself not: that is no rise of P95.
    flat = [1.0] * 940 + [10.0] * 60
    same = tails.shift(quantiles.ranked(0.95, flat), quantiles.ranked(0.95, [1.5] * 940 + [10.0] * 60))
    assert same.p_not_higher >= 0.5


def test_every_route_and_the_whole_equal_plain_python(hotel_report: Report, hotel_rows: Builder) -> None:
    everything = sorted(row["duration_ns"] / 1e9 for row in hotel_rows.requests)
    assert hotel_report.ranked == tuple(quantiles.ranked(q, everything) for q in ranks.QUANTILES)
    for route in hotel_report.routes:
        durations = sorted(
            row["duration_ns"] / 1e9
            for row in hotel_rows.requests
            if (row["http_method"], row["http_route"]) == (route.method, route.route)
        )
        assert route.ranked == tuple(quantiles.ranked(q, durations) for q in ranks.QUANTILES)
        assert [sample.value for sample in route.ranked] == [
            route.latency.p50, route.latency.p95, route.latency.p99,
        ]  # fmt: skip


def test_spread_is_the_standard_deviation_over_requests(hotel_report: Report, hotel_rows: Builder) -> None:
    [chat] = [route for route in hotel_report.routes if route.label == "POST /hotels/{hotel}/chat"]
    tokens = [row["input_tokens"] for row in hotel_rows.requests if row["http_route"] == chat.route]
    mean = sum(tokens) / len(tokens)
    expected = math.sqrt(sum((value - mean) ** 2 for value in tokens) / (len(tokens) - 1))
    assert chat.spread.input_tokens == pytest.approx(expected)


def test_no_requests_no_ranks(tmp_path: Path) -> None:
    build = Builder()
    build.db(None, 0, 1, "SELECT 1")
    with open_store(build.write(tmp_path)) as store:
        found = report(store)
        assert (found.ranked, found.routes) == ((), ())
        assert found.spread.db_calls is None


def test_nothing_is_left_in_the_database(hotel_store: Store) -> None:
    report(hotel_store)
    assert ("labels",) not in hotel_store.rows("SELECT table_name FROM duckdb_tables()")
