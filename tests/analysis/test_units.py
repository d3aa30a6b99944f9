"""Numbers as people read them."""

from __future__ import annotations

import random
import re

import pytest

from taximeter_analysis.render import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0, "0 s"), (0.0000123, "12.3 µs"), (0.00085, "850 µs"),
        (0.0009996, "1.00 ms"), (0.0123, "12.3 ms"),
        (0.1, "100 ms"), (0.9996, "1.00 s"), (1.2345, "1.23 s"), (9.999, "10.0 s"),
        (12.34, "12.3 s"), (59.96, "1 min 00 s"),
        (125, "2 min 05 s"), (12000, "3 h 20 min"), (216000, "2.5 d"),
    ],
)  # fmt: skip
def test_seconds(value: float | None, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0, "$0"), (1e-9, "<$0.000001"), (0.0000123, "$0.000012"), (0.000123, "$0.000123"),
        (0.0015, "$0.00150"), (0.83509, "$0.835"), (1.5, "$1.50"), (999.99, "$999.99"), (29591.3, "$29,591"),
    ],
)  # fmt: skip
def test_money(value: float | None, text: str) -> None:
    assert units.money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (987, "987"),
        (999.6, "1.00k"),
        (12345, "12.3k"),
        (1150853, "1.15M"),
        (2.5e9, "2.50B"),
    ],
)
def test_compact(value: float | None, text: str) -> None:
    assert units.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0%"),
        (0.00005, "<0.1%"),
        (0.0085, "0.9%"),
        (0.0994, "9.9%"),
        (0.57, "57%"),
        (1, "100%"),
    ],
)
def test_percent(value: float | None, text: str) -> None:
    assert units.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (4.0, "4"), (0.523, "0.52"), (20.83, "20.8"), (1234.5, "1,234")]
)
def test_per_request(value: float | None, text: str) -> None:
    assert units.per_request(value) == text


def test_seconds_are_right_to_three_figures_anywhere() -> None:
    dice = random.Random(1)
    scale = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}
    for _ in range(5000):
        value = 10 ** dice.uniform(-5, 1.77)
        found = re.fullmatch(r"([\d.]+) (µs|ms|s)", units.seconds(value))
        assert found is not None
        assert float(found[1]) * scale[found[2]] == pytest.approx(value, rel=0.0051)
        assert len(found[1].replace(".", "").lstrip("0")) == 3


def test_strangers_strings_stay_on_one_line_and_drive_nothing() -> None:
    assert units.plain("SELECT 1\n  FROM\tt") == "SELECT 1 FROM t"
    assert units.plain("a\x1b[31mred\x1b[0m\u202e\x00") == "a\ufffd[31mred\ufffd[0m\ufffd\ufffd"
    assert units.plain("x" * 5000, 10) == "xxxxxxxxx…"
    assert units.plain(None) == "-"


def test_bounds_share_a_unit() -> None:
    assert units.between(0.0462, 0.0610) == "46.2-61.0 ms"
    assert units.between(0.9, 1.45) == "0.900-1.45 s"
    assert (units.between(2.0, None), units.between(None, 0.1)) == ("over 2.00 s", "under 100 ms")
    assert units.between(None, None) == "-"
    assert units.between(50, 90) == "50.0 s to 1 min 30 s"
