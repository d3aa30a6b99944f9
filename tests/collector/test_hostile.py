"""The short version of ``make prove-hostile``: a stranger's requests in process and over sockets."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.collector.prove_hostile import Table, in_process, over_sockets


async def test_every_mutated_request_is_taken_or_refused_for_good_and_counted() -> None:
    table: Table = defaultdict(Counter)
    assert await in_process(4000, 3, table) == []
    assert sum(kinds["refused"] for kinds in table.values()) > 2000
    assert sum(kinds["accepted"] for kinds in table.values()) > 500


@pytest.mark.e2e
def test_a_running_collector_outlives_strangers_and_serves_others(tmp_path: Path) -> None:
    table: Table = defaultdict(Counter)
    assert over_sockets(600, 3, table, tmp_path) == []
