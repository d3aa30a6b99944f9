"""A fleet that has an official collector already: what comes through it is what comes straight."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter_collector.prometheus.expose import _edge
from tests.collector import fleet
from tests.official import official_collector


def test_by_way_of_an_official_collector_nothing_changes(tmp_path: Path) -> None:
    official_collector()
    with fleet.fleet(tmp_path) as started:
        for signal, body in fleet.recorded():
            started.send(signal, body)
        started.settle()
        direct = started.series("direct")
        assert len(direct) > 2000
        assert fleet.differences(direct, started.series("behind")) == []
        assert fleet.differences(direct, started.series("official")) == []
        ours, theirs = (fleet.rows(started.stores[name]) for name in ("direct", "behind"))
        assert len(ours["spans"]) > 2000
        assert ours == theirs


@pytest.mark.parametrize(
    ("bound", "open_metrics", "plain"),
    [
        (2.0, "2.0", "2"),
        (0.005, "0.005", "0.005"),
        (262144.0, "262144.0", "262144"),
        (999999.0, "999999.0", "999999"),
        (1e6, "1e+06", "1e+06"),
        (1048576.0, "1.048576e+06", "1.048576e+06"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "1e-05", "1e-05"),
        (-1048576.0, "-1.048576e+06", "-1.048576e+06"),
        (0.0, "0.0", "0"),
        (float("inf"), "+Inf", "+Inf"),
    ],
)
def test_bounds_are_spelled_as_go_spells_them(bound: float, open_metrics: str, plain: str) -> None:
    assert _edge(bound, True) == open_metrics
    assert _edge(bound, False) == plain
