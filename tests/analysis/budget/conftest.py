"""Reports for the budget's tests: one route whose requests are made to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Report, open_store, report
from tests.analysis.conftest import NOW
from tests.analysis.stores import Builder

Measured = Callable[..., Report]


@pytest.fixture
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """``measured([10, 20], db_calls=2)``: a report of requests of so many ms on ``GET /a``."""

    def make(took_ms: Sequence[float], every_ms: float = 100, **row: Any) -> Report:
        build = Builder()
        for number, took in enumerate(took_ms):
            account = {name: value(number) if callable(value) else value for name, value in row.items()}
            build.request("/a", number * every_ms, took, tenant="t", **account)
        path: Path = tmp_path_factory.mktemp("measured")
        with open_store(build.write(path)) as store:
            return report(store, now=NOW)

    return make
