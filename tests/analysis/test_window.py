"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from taximeter_analysis.window import Filters, parse_duration, parse_instant, to_ns

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("7d", 604800),
        ("2", 2),
        ("0.5", 0.5),
        ("10min", 600),
        ("1 h 5 m", 3900),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "fast", "-2s", "2x", "2s!", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write 500ms, 2s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T08:15:00Z", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("2026-11-23T09:15:00+01:00", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("2026-11-23T08:15", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("20261122", datetime(2026, 11, 22, tzinfo=UTC)),
        ("24h", datetime(2026, 11, 22, 12, 0, tzinfo=UTC)),
        ("1h30m", datetime(2026, 11, 23, 10, 30, tzinfo=UTC)),
    ],
)
def test_instants(text: str, expected: datetime) -> None:
    assert parse_instant(text, NOW) == expected.timestamp()


def test_what_is_no_instant() -> None:
    with pytest.raises(ValueError, match="'yesterday' is neither an instant nor a duration"):
        parse_instant("yesterday", NOW)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"since 2026-11-23T12:00:00Z is not before until 2026-11-23T12:00:00Z"
    ):
        Filters(since=NOW, until=NOW)


def test_instants_keep_their_microseconds() -> None:
    assert to_ns(1_800_000_000.123456) == 1_800_000_000_123_456_000
