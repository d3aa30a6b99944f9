"""Opening stores: what is wrong with a path or a segment is said with value, place and remedy."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taximeter_analysis import NothingToReport, StoreError, open_store, report
from taximeter_analysis.store import NoStore
from taximeter_collector.store.schema import REQUESTS, SPANS
from tests.analysis.stores import Builder, write_segment


def small(path: Path) -> Path:
    build = Builder()
    build.db(build.request("/a", 0, 10), 1, 1, "SELECT 1")
    return build.write(path)


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(NoStore, match=r"nowhere: no such directory; .*--store"):
        open_store(tmp_path / "nowhere")


def test_a_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(NoStore, match="is a file, not a directory"):
        open_store(path)


def test_a_directory_above_the_store_is_noticed(tmp_path: Path) -> None:
    small(tmp_path / "data" / "spanstore")
    with pytest.raises(NoStore, match=r"did you mean --store .*data/spanstore\?"):
        open_store(tmp_path / "data")


def test_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "spans").mkdir()
    (tmp_path / "spans" / ".000001.parquet").touch()  # half written: not a segment yet
    (tmp_path / "spans" / "000001.parquet.tmp").touch()
    with pytest.raises(NothingToReport, match="the span store is empty"):
        open_store(tmp_path)


def test_segments_without_rows_hold_nothing(tmp_path: Path) -> None:
    for name, schema in (("spans", SPANS), ("requests", REQUESTS)):
        (tmp_path / name).mkdir()
        pq.write_table(schema.empty_table(), tmp_path / name / "1.parquet")
    with open_store(tmp_path) as store, pytest.raises(NothingToReport, match="holds no request"):
        report(store)


def test_a_table_may_have_no_segment_yet(tmp_path: Path) -> None:
    path = small(tmp_path / "store")
    for segment in (path / "requests").iterdir():
        segment.unlink()
    with open_store(path) as store:
        assert report(store).totals_from_spans.outside_db_calls == 1


def test_a_damaged_segment_is_named(tmp_path: Path) -> None:
    path = small(tmp_path / "store")
    (path / "spans" / "bad.parquet").write_bytes(b"PAR1 this is no parquet file")
    with pytest.raises(StoreError, match=r"spans/bad\.parquet: cannot be read .*move the file out"):
        open_store(path)


def test_a_segment_removed_while_reading_is_named(tmp_path: Path) -> None:
    path = small(tmp_path / "store")
    with open_store(path) as store:
        for segment in (path / "requests").iterdir():
            segment.unlink()
        with pytest.raises(StoreError, match=r"requests/000000\.parquet: cannot be read .*run again"):
            report(store)


def test_another_schema_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "store"
    (path / "requests").mkdir(parents=True)
    schema = pa.schema([field for field in REQUESTS if field.name not in ("cost_usd", "tenant")])
    pq.write_table(schema.empty_table(), path / "requests" / "1.parquet")
    with pytest.raises(StoreError, match=r"requests: the segments lack the column\(s\) tenant, cost_usd"):
        open_store(path)


def test_a_path_with_quotes_and_stars(tmp_path: Path) -> None:
    path = small(tmp_path / "o'brien's [*] störe")
    with open_store(path) as store:
        assert report(store).totals.requests == 1


def test_check_counts_duplicates_and_orphans(tmp_path: Path) -> None:
    build = Builder()
    for number in range(5):
        build.db(build.request("/a", number, 10), 1, 1, "SELECT 1")
    path = build.write(tmp_path / "store")
    with open_store(path) as store:
        check = store.check()
        assert (check.ok, check.spans, check.requests) == (True, 10, 5)
    write_segment(path / "spans" / "again.parquet", SPANS, build.spans[:3])
    write_segment(path / "requests" / "again.parquet", REQUESTS, build.requests[:1])
    orphan = {**build.requests[0], "span_id": 2**64 - 1}
    write_segment(path / "requests" / "orphan.parquet", REQUESTS, [orphan])
    with open_store(path) as store:
        check = store.check()
    assert not check.ok
    assert (check.duplicate_spans, check.duplicate_requests, check.requests_without_span) == (3, 1, 1)


def test_reading_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path = small(tmp_path / "store")
    before = {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    with open_store(path) as store:
        assert report(store, now=1.0) == report(store, now=1.0)  # and reading twice is the same
    assert {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()} == before


def test_names_are_the_users_own(tmp_path: Path) -> None:
    """A service name that looks like SQL is a value, never text of a query."""
    from taximeter_analysis import Filters

    name = "'; DROP VIEW requests; --"
    build = Builder(name)
    build.request("/a", 0, 1, tenant="x' OR 1=1 --")
    with open_store(build.write(tmp_path / "store")) as store:
        assert report(store, Filters(service=name)).services == (name,)
        with pytest.raises(NothingToReport, match="nobody"):
            report(store, Filters(tenant="nobody' OR 1=1 --"))
