"""All detectors together: silent where all is well, within their bounds and below the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.advise.plants import advice, chats, n_plus_one, read, sequence, steady
from tests.analysis.stores import Builder


def test_a_clean_service_gets_no_findings(tmp_path: Path) -> None:
    build = Builder()
    for number in range(200):
        request = build.request("/a", number * 100, 20, tenant="t")
        given, returned = (f"g{number}",), (f"r{number}",)
        read(build, request, 2, 5, "SELECT a FROM t WHERE k = %s", given=given, returned=returned, db_rows=1)
        read(build, request, 9, 5, "UPDATE t SET a = %s", given=returned)
    assert not advice(build, tmp_path).findings


def test_one_tenant_alone(tmp_path: Path) -> None:
    build = Builder()
    n_plus_one(build)
    one = advice(build, tmp_path, tenant="b")
    (finding,) = [each for each in one.findings if each.kind == "n_plus_one"]
    assert (one.requests, finding.requests, finding.savings["db_calls"].value) == (5, 5, 30)


@pytest.mark.parametrize("plant", [n_plus_one, chats, steady, sequence])
def test_every_prediction_lies_within_its_bounds_and_below_the_whole(
    tmp_path: Path, plant: Callable[[Builder], None]
) -> None:
    build = Builder()
    plant(build)
    result = advice(build, tmp_path)
    assert result.findings
    for finding in result.findings:
        for metric, each in finding.savings.items():
            assert 0 <= each.low <= each.value <= each.high
            assert each.value <= result.totals[metric] * (1 + 1e-9)
