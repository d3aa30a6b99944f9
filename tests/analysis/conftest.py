"""Stores that several tests read. They are written once per session and never changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter_analysis import Report, Store, open_store, report
from tests.analysis.stores import Builder, hotel

NOW = 1_800_000_100.0


@pytest.fixture(scope="session")
def hotel_rows() -> Builder:
    """The rows of a store like the demo's: 17 routes, 2,000 requests."""
    return hotel()


@pytest.fixture(scope="session")
def hotel_path(hotel_rows: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hotel_rows.write(tmp_path_factory.mktemp("hotel") / "store", segments=3)


@pytest.fixture(scope="session")
def hotel_store(hotel_path: Path) -> Iterator[Store]:
    with open_store(hotel_path) as store:
        yield store


@pytest.fixture(scope="session")
def hotel_report(hotel_store: Store) -> Report:
    return report(hotel_store, now=NOW)
