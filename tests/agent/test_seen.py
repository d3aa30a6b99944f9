"""The ceiling of a cache's hit rate: which lookups no cache could have answered."""

from __future__ import annotations

from taximeter.seen import Seen


def test_a_key_is_known_from_its_second_lookup_on_and_by_cache() -> None:
    seen = Seen()
    assert [seen.before("a", key) for key in ("x", "x", ["x"], ["x"], 1, 1)] == [False, True] * 3
    assert not seen.before("b", "x")


def test_memory_is_bounded_and_what_is_used_is_kept() -> None:
    seen = Seen(generation=100)
    for number in range(1_000):
        seen.before("a", number)
        assert seen.before("a", "often") == bool(number)
    assert len(seen._new) + len(seen._old) <= 200
    assert seen.before("a", 950)
    assert not seen.before("a", 10)
