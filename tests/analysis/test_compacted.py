"""Summing up changes no figure: a report says the same of a store young, half compacted and compacted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Filters, NothingToReport, Report, Store, StoreError, open_store, report
from taximeter_analysis.rollup import whole_segments
from taximeter_collector.store.compaction import Merge, merge
from taximeter_collector.store.segments import segments
from taximeter_collector.store.upkeep import Rules, keep
from tests.analysis.stores import EPOCH_NS, Builder, hotel

EPOCH = EPOCH_NS / 1e9
FILTERS = (
    Filters(),
    Filters(since=EPOCH + 20, until=EPOCH + 50),
    Filters(tenant="alpenhof"),
    Filters(service="hotel-chat", until=EPOCH + 30),
    Filters(version="nobody's"),
)


def tangled() -> Builder:
    """The hotel, and what makes ownership hard: services that call themselves, strays, no agent, bad ids."""
    build = hotel(seed=3, requests=400)
    for number in range(30):
        at = number * 2000
        outer = build.request("/outer", at, 900, agent=number % 2 == 0)
        build.db(outer, 5, 100, "SELECT outer")
        step = build.span(outer, 10, 700, name="step", kind="internal")
        hop = build.span(outer, 120, 400, name="GET", http_method="GET", parent_id=step["span_id"])
        trace = {"trace_hi": outer["trace_hi"], "trace_lo": outer["trace_lo"]}
        inner = build.request(
            "/inner", at + 150, 300, parent_id=hop["span_id"], agent=number % 3 == 0, **trace
        )
        for k in range(6):
            build.db(inner, 3 + k, 20, "SELECT inner WHERE id = %s")
        build.db(inner, 299.5, 2000, "SELECT late")  # ends long after its request, in another segment
        build.model(outer, 500, 300, tokens=(100, 5, 50), cost=0.125)
        build.db(outer, 550, 20, "SELECT parentless", parent_id=2**60 + number)
        build.db(None, at, 50, "VACUUM")
        build.model(None, at, 500, cost=0.5, operation="embeddings")
    return build


def read(path: Path, filters: Filters) -> Any:
    """A report's figures; sums of money and seconds rounded to what addition in another order leaves."""
    with open_store(path) as store:
        try:
            found: Report = report(store, filters, now=0.0, slow_s=1.0)
        except NothingToReport as nothing:
            return str(nothing).replace(str(path), "")
    return rounded(dataclasses.asdict(dataclasses.replace(found, store="")))


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return 0.0 if value == 0 else float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tangled().write_log(tmp_path_factory.mktemp("young") / "store", cuts=9)


def test_every_figure_is_the_same_before_and_after(young: Path, tmp_path: Path) -> None:
    before = [read(young, filters) for filters in FILTERS]
    path = tangled().write_log(tmp_path / "store", cuts=9)
    found = segments(path / "spans")
    merge(path, Merge(tuple(found[:4])))
    assert [read(path, filters) for filters in FILTERS] == before, "half compacted"
    merge(path, Merge(tuple(found[5:])))
    assert [read(path, filters) for filters in FILTERS] == before, (
        "two summed segments and a young one between"
    )
    done = keep(path, Rules(), everything=True, grace_s=-1)
    assert (done.written, done.removed) == (1, 22)
    assert len(list((path / "spans").glob("*.parquet"))) == 1
    assert [read(path, filters) for filters in FILTERS] == before, "compacted"
    with open_store(path) as store:
        assert store.check().ok
        [(summed, loose)] = store.rows(
            "SELECT bool_and(summed), count(*) FILTER (owner_id IS NULL) FROM spans"
        )
        assert summed
        assert loose > 0


def test_a_compacted_store_is_not_read_again(young: Path, tmp_path: Path) -> None:
    """Else the sums would be for nothing."""
    path = hotel(seed=3, requests=400).write_log(tmp_path / "store")
    keep(path, Rules(), everything=True, grace_s=-1)
    with open_store(path) as store:
        report(store)
        assert store.rows("SELECT count(*) FROM opened")[0][0] == 0


def test_totals_of_whole_segments_say_what_their_rows_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hotel(seed=3, requests=600).write_log(tmp_path / "store", cuts=9)
    found = segments(path / "spans")
    for part in (found[:3], found[3:6]):  # calls beside their request's segment; the last three stay young
        merge(path, Merge(tuple(part)))

    def told(filters: Filters) -> Any:
        with open_store(path) as store:
            figures = rounded(dataclasses.asdict(report(store, filters, now=0.0)))
            [(opened,)] = store.rows("SELECT count(*) FROM opened")
            return figures, opened, len(store.totals()), len(whole_segments(store))

    answers = [told(filters) for filters in FILTERS[:4]]
    assert [answer[2] for answer in answers] == [2] * 4, "both merged segments say their totals"
    assert answers[0][1] > 0, "and some of their requests are worked out again"
    assert [answer[3] for answer in answers] == [2, 1, 2, 1], "used where the window has them whole"
    monkeypatch.setattr(Store, "totals", lambda self: {})
    assert [told(filters)[0] for filters in FILTERS[:4]] == [answer[0] for answer in answers]


def test_totals_are_not_said_where_an_account_is_missing(tmp_path: Path) -> None:
    path = tangled().write_log(tmp_path / "store", cuts=3)
    keep(path, Rules(), everything=True, grace_s=-1)
    with open_store(path) as store:
        assert store.totals() == {}


def test_a_store_of_the_first_version_is_read_and_brought_up_to_date(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from taximeter_collector.store.schema import SUMS, VERSION_KEY

    path = tangled().write_log(tmp_path / "store", cuts=3)
    before = read(path, Filters())
    for table, added in SUMS.items():
        for file in (path / table).glob("*.parquet"):
            old = pq.read_table(file)
            old = old.drop_columns([name for name in added if name in old.column_names])
            pq.write_table(old.replace_schema_metadata({VERSION_KEY: "1"}), file)
    assert read(path, Filters()) == before
    keep(path, Rules(), everything=True, grace_s=-1)
    assert read(path, Filters()) == before
    [file] = (path / "requests").glob("*.parquet")
    assert "seen_db_calls" in pq.read_schema(file).names
    assert keep(path, Rules(), everything=True).written == 0, "nothing more to do"


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from taximeter_collector.store.schema import VERSION_KEY

    path = tangled().write_log(tmp_path / "store", cuts=2)
    file = next((path / "spans").glob("*.parquet"))
    pq.write_table(pq.read_table(file).replace_schema_metadata({VERSION_KEY: "99"}), file)
    with pytest.raises(StoreError, match=r"spans: written by a later version .*schema 99"):
        open_store(path)


def test_an_id_used_twice_multiplies_no_row(tmp_path: Path) -> None:
    build = Builder()
    row = build.request("/a", 0, 100, db_calls=2)
    twin = build.db(row, 1, 5, "SELECT 1")
    build.db(row, 10, 5, "SELECT 2", span_id=twin["span_id"])
    path = build.write_log(tmp_path / "store", cuts=2)
    keep(path, Rules(), everything=True, grace_s=-1)
    with open_store(path) as store:
        assert store.rows("SELECT count(*), count(owner_id) FROM spans") == [(3, 2)]
        found = report(store)
    assert found.totals_from_spans.db_calls == 2
    assert found.split is not None and math.isclose(found.split.db_s, 0.01)
