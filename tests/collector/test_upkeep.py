"""Compaction and retention: which segments, in what order, and what a crash or a full disk leaves behind."""

# ruff: noqa: ASYNC220, ASYNC240  (a test may block: nobody else runs in its loop)
from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from taximeter_collector.export.base import Retry
from taximeter_collector.store import compaction, upkeep
from taximeter_collector.store import segments as files
from taximeter_collector.store.compaction import Merge, merge, plan, plan_all
from taximeter_collector.store.segments import Segment, counting, segment_name, segments, superseded
from taximeter_collector.store.upkeep import InUse, Rules, expired, keep
from tests.collector.storing import ORIGIN, batch, expected, exporter_of, write

ROOT = Path(__file__).parents[2]


def ids(folder: Path, table: str = "spans") -> Counter[int]:
    """How often each span counts, for a reader that lists the files now."""
    found: Counter[int] = Counter()
    for path in counting((folder / table).glob("*.parquet")):
        found.update(pq.ParquetFile(path).read(columns=["span_id"]).column("span_id").to_pylist())
    return found


def seg(
    first: int, last: int, size: int = 1000, modified: float = 0.0, prefix: str = "01234567-t"
) -> Segment:
    return Segment(prefix, first, last, Path(segment_name(prefix, first, last)), size, modified)


def test_a_segment_within_another_does_not_count() -> None:
    wide, narrow, beside = seg(1, 10), seg(3, 4), seg(11, 12)
    again, other = seg(1, 4), seg(3, 4, prefix="01234567-u")
    found = superseded([narrow, other, beside, wide, again])
    assert found == {narrow: wide, again: wide}
    names = [Path(segment.path.name) for segment in (wide, narrow, beside, again, other)]
    assert counting([*names, Path("theirs.parquet"), Path(".x.tmp.parquet")]) == sorted(
        [wide.path, beside.path, other.path, Path("theirs.parquet")]
    )


def test_neighbours_of_a_size_class_are_merged() -> None:
    small = [seg(n, n) for n in range(1, 8)]
    assert plan(small, settled_before=1.0) is None, "seven are too few"
    small.append(seg(8, 8))
    chosen = plan(small, settled_before=1.0)
    assert chosen is not None
    assert chosen.name == segment_name("01234567-t", 1, 8)
    assert plan(small, settled_before=0.0) is None, "too young"
    big = seg(5, 5, size=compaction.TARGET_BYTES)
    assert plan([*small[:4], big, *small[5:]], settled_before=1.0) is None, "not across a large one"
    days = [seg(n, n, modified=86400.0 * (n > 4)) for n in range(1, 9)]
    assert plan(days, settled_before=1e9) is None, "not across days"


def test_a_row_is_rewritten_a_few_times_at_most() -> None:
    """Ten thousand flushes, planned to the end: the work stays proportional to the data."""
    found = [seg(n, n, size=100_000) for n in range(1, 10_001)]
    written = 0
    while chosen := plan(found, settled_before=1.0):
        size = sum(segment.size for segment in chosen.spans)
        written += size
        assert size <= compaction.TARGET_BYTES * 3 // 2
        at = found.index(chosen.spans[0])
        merged = seg(chosen.spans[0].first, chosen.spans[-1].last, size)
        found[at : at + len(chosen.spans)] = [merged]
    assert written <= 3 * 10_000 * 100_000
    assert len(found) < 40


def test_all_means_all() -> None:
    found = [seg(n, n) for n in range(1, 4)] + [seg(4, 4, modified=86400.0)]
    assert [len(one.spans) for one in plan_all(found, {found[3].path})] == [3]
    assert [len(one.spans) for one in plan_all(found, set())] == [3, 1]


def test_retention_gives_up_the_oldest_and_never_the_newest() -> None:
    spans = [seg(n, n, size=100, modified=float(n)) for n in range(1, 6)]
    requests = [seg(n, n, size=50, modified=float(n)) for n in range(1, 6)]

    def dropped(**rules: Any) -> list[int]:
        return [segment.first for segment in expired(spans, requests, Rules(**rules), now=10.0)]

    assert dropped() == []
    assert dropped(max_age_s=7.5) == [1, 2]
    assert dropped(max_age_s=1.0) == [1, 2, 3, 4]
    assert dropped(max_bytes=750) == []
    assert dropped(max_bytes=749) == [1]
    assert dropped(max_bytes=1) == [1, 2, 3, 4]


async def test_retention_drops_both_tables(tmp_path: Path) -> None:
    await write(tmp_path, range(1, 9))
    for path in tmp_path.rglob("*-000000000000000[1-4]-*.parquet"):
        os.utime(path, (1e9, 1e9))
    merge(tmp_path, Merge(tuple(segments(tmp_path / "spans")[:4])))
    done = keep(tmp_path, Rules(max_age_s=86400 * 30))
    assert (done.expired, ids(tmp_path)) == (1, expected(range(5, 9)))
    assert ids(tmp_path, "requests") == expected(range(5, 9))


async def test_superseded_files_stay_for_those_who_read_them(tmp_path: Path) -> None:
    await write(tmp_path, range(1, 4))
    assert keep(tmp_path, Rules(), everything=True).removed == 0
    assert len(list((tmp_path / "spans").glob("*"))) == 4
    assert ids(tmp_path) == expected(range(1, 4))
    later = time.time() + upkeep.GRACE_S + 1
    assert upkeep.needed(tmp_path, Rules(), later)
    assert keep(tmp_path, Rules(), now=lambda: later).removed == 6
    assert ids(tmp_path) == expected(range(1, 4))


async def test_two_do_not_keep_one_store(tmp_path: Path) -> None:
    await write(tmp_path, range(1, 2))
    with upkeep.lock(tmp_path), pytest.raises(InUse, match="another process is compacting it"):
        keep(tmp_path, Rules())


async def test_the_exporter_has_it_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await write(tmp_path, range(1, 12))
    for path in tmp_path.rglob("*.parquet"):
        os.utime(path, (time.time() - 3600,) * 2)
    exporter = exporter_of(tmp_path, upkeep_interval="50ms", retention={"max_age": "720h"})
    await exporter.start()
    try:
        for _ in range(600):
            if (
                "store_merged_segments" in exporter._own.render()
                and 'merged_segments{exporter="span_store"} 11' in (exporter._own.render())
            ):
                break
            await asyncio.sleep(0.05)
        assert 'taximeter_collector_store_merged_segments{exporter="span_store"} 11' in exporter._own.render()
    finally:
        await exporter.close()
    assert ids(tmp_path) == expected(range(1, 12))
    # What a merge took in is not written again: the merged name says how far the store is.
    assert exporter_of(tmp_path).position(ORIGIN, 0) == 11


class Reader(threading.Thread):
    """Lists and reads a store again and again, and holds it against what was acknowledged before."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.acknowledged, self.reads = folder, 0, 0
        self.problems: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            known = self.acknowledged
            try:
                found = ids(self.folder)
            except Exception as error:
                self.problems.append(repr(error))
                return
            missing = expected(range(1, known + 1)) - found
            twice = [number for number, times in found.items() if times > 1]
            if missing or twice:
                self.problems.append(f"acknowledged {known}: missing {len(missing)}, twice {len(twice)}")
            self.reads += 1


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "spans").mkdir()
    thread = Reader(tmp_path)
    thread.start()
    yield thread
    thread.stopping.set()
    thread.join()


async def test_killed_at_any_moment_while_others_read(tmp_path: Path, reader: Reader) -> None:
    """Six kills of a writer that compacts: what it had acknowledged is there, once, for every reader."""
    dice = random.Random(5)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.collector.storing", str(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            deadline = None
            for line in process.stdout:
                reader.acknowledged = int(line)
                deadline = deadline or time.monotonic() + dice.uniform(0, 0.6)
                if time.monotonic() > deadline:
                    break
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert ids(tmp_path) >= expected(range(1, reader.acknowledged + 1))
    assert reader.problems == []
    assert reader.reads > 6
    assert reader.acknowledged > 6
    exporter = exporter_of(tmp_path)
    await exporter.start()
    await exporter.close()
    done = exporter.position(ORIGIN, 0)  # as at the next start: a half written range is taken back
    keep(tmp_path, Rules(), everything=True, grace_s=-1)
    assert ids(tmp_path) == ids(tmp_path, "requests") == expected(range(1, done + 1))
    assert not list(tmp_path.rglob("*.tmp"))


class Crash(BaseException):
    """The power fails."""


async def test_a_crash_at_every_single_step_of_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename, fsync and removal of one upkeep in turn is the last thing that happens."""
    await write(tmp_path, range(1, 5))
    whole, steps, at = expected(range(1, 5)), 0, 0
    countdown = [10**9]

    def counted(original: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            countdown[0] -= 1
            if countdown[0] < 0:
                raise Crash
            return original(*args, **kwargs)

        return step

    for owner, name in ((Path, "rename"), (Path, "unlink"), (files, "sync_folder"), (upkeep, "sync_folder")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    while steps == at:
        countdown[0] = at
        try:
            keep(tmp_path, Rules(), everything=True, grace_s=-1)
        except Crash:
            steps += 1
        countdown[0] = 10**9
        assert ids(tmp_path) == whole, f"after a crash at step {at}"
        assert ids(tmp_path, "requests") == whole
        at += 1
    assert steps > 3
    assert len(list((tmp_path / "spans").glob("*.parquet"))) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a small file system here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk(small_disk: Path) -> None:
    """The writer is told to retry, what it had stays readable, and with room again it goes on."""
    exporter = exporter_of(small_disk, upkeep_interval="0")
    await exporter.start()
    number = 0
    filler = small_disk / "filler"
    filler.write_bytes(os.urandom(1_500_000))

    with pytest.raises(Retry, match="cannot be written"):
        for number in range(1, 1000):
            await exporter.export(ORIGIN, batch(number, 40, os.urandom(256).hex()))
    acknowledged = expected(range(1, number), 40)
    assert ids(small_disk) == ids(small_disk, "requests") == acknowledged
    with contextlib.suppress(OSError), (small_disk / "crumbs").open("wb", buffering=0) as rest:
        while True:
            rest.write(bytes(4096))
    with pytest.raises(OSError, match=r"No space left|cannot merge"):
        keep(small_disk, Rules(), everything=True)
    assert ids(small_disk) == ids(small_disk, "requests") == acknowledged
    assert not list(small_disk.rglob(".*.tmp"))
    filler.unlink()
    (small_disk / "crumbs").unlink()
    await exporter.export(ORIGIN, batch(number, 40, os.urandom(256).hex()))
    keep(small_disk, Rules(), everything=True)
    assert ids(small_disk) == ids(small_disk, "requests") == expected(range(1, number + 1), 40)
    await exporter.close()


async def test_a_disk_that_fills_between_the_two_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(tmp_path, range(1, 3))
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # requests, its folder, then spans
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    exporter = exporter_of(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Retry, match="No space left"):
        await exporter.export(ORIGIN, batch(3))
    assert ids(tmp_path) == ids(tmp_path, "requests") == expected(range(1, 3))
    await exporter.export(ORIGIN, batch(3))
    assert ids(tmp_path) == ids(tmp_path, "requests") == expected(range(1, 4))
