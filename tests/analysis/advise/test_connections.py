"""Connections: waits for the pool and transactions held for a model are found, their silent twins are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.advise.plants import HOTEL, found
from tests.analysis.stores import Builder


@pytest.mark.parametrize(("waited", "findings"), [(0.050, 1), (0.0001, 0)])
def test_waiting_for_the_pool(tmp_path: Path, waited: float, findings: int) -> None:
    build = Builder()
    for number in range(20):
        build.db(build.request("/a", number * 100, 90, pool_wait_s=waited), 60, 5, HOTEL)
    pool = found(build, tmp_path, "pool_wait")
    assert len(pool) == findings
    if pool:
        assert pool[0].savings["duration_s"].holds(20 * waited)


@pytest.mark.parametrize(("slowed", "findings"), [(1, 1), (5, 0)])
def test_a_full_pool_before_a_slow_database_is_left(tmp_path: Path, slowed: int, findings: int) -> None:
    """Bursts of ten that wait, and calls by themselves; with a database that is slower in a burst."""
    build = Builder()
    for number in range(20):
        for _ in range(10):
            request = build.request("/a", number * 1000, 300, pool_wait_s=0.2)
            build.db(request, 210, 8 * slowed, HOTEL)
        for alone in range(15):
            build.db(build.request("/a", number * 1000 + 400 + alone * 30, 12), 1, 8, HOTEL)
    assert len(found(build, tmp_path, "pool_wait")) == findings


@pytest.mark.parametrize(("inside", "findings"), [(True, 1), (False, 0)])
def test_a_transaction_held_across_a_model_call(tmp_path: Path, inside: bool, findings: int) -> None:
    build = Builder()
    for number in range(5):
        request = build.request("/book", number * 2000, 900)
        build.db(request, 1, 1, "BEGIN")
        build.db(request, 3, 2, "SELECT * FROM rooms WHERE id = %s FOR UPDATE")
        build.db(request, 850 if inside else 10, 1, "COMMIT")
        build.model(request, 20, 800)
    held = found(build, tmp_path, "transaction_held")
    assert len(held) == findings
    if held:
        assert "800 ms" in held[0].what


@pytest.mark.parametrize(("second", "findings"), [("1", 1), ("2", 0)])
def test_a_model_call_between_two_statements_of_one_transaction(
    tmp_path: Path, second: str, findings: int
) -> None:
    build = Builder()
    for number in range(5):
        request = build.request("/book", number * 2000, 900)
        for at, transaction in ((3, "1"), (850, second)):
            build.db(
                request, at, 2, "SELECT 1 FROM rooms", attributes={"taximeter.db.transaction": transaction}
            )
        build.model(request, 20, 800)
    assert len(found(build, tmp_path, "transaction_held")) == findings
