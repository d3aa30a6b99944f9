"""The durable log's invariants, on real files."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import zlib
from pathlib import Path

import pytest

from taximeter_collector.errors import Refusal, StartError
from taximeter_collector.log import Log
from taximeter_collector.packing import gzip_member, worth_packing
from tests.collector.support import trace_request

EVERY = 1 << 60


def opened(tmp_path: Path, *cursors: str, **options: int | float) -> Log:
    log = Log(tmp_path / "log" / "traces.sqlite", "traces", **options)  # type: ignore[arg-type]
    log.register(cursors or ("c",))
    log.start()
    return log


async def test_what_is_appended_is_read_in_order_and_after_a_restart(tmp_path: Path) -> None:
    log = opened(tmp_path)
    stored = await asyncio.gather(*(log.append(b"%d" % n, 1, "otlp") for n in range(50)))
    assert stored == [True] * 50
    first = await log.read(0, EVERY, EVERY, {"otlp"})
    await log.close()
    again = opened(tmp_path)
    second = await again.read(0, EVERY, EVERY, {"otlp"})
    assert first == second
    assert sorted(row.payload for row in second.rows) == sorted(b"%d" % n for n in range(50))
    assert [row.seq for row in second.rows] == list(range(1, 51))
    await again.close()


async def test_reading_is_bounded_and_filtered_by_receiver(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(6):
        await log.append(bytes([number]) * 100, 10, "a" if number % 2 else "b")
    batch = await log.read(0, 250, EVERY, {"a", "b"})
    assert [row.seq for row in batch.rows] == [1, 2]
    batch = await log.read(0, EVERY, 30, {"a", "b"})
    assert (len(batch.rows), batch.last) == (3, 3)
    batch = await log.read(0, 1, 1, {"a", "b"})
    assert len(batch.rows) == 1, "a request larger than the limit is passed as it is"
    batch = await log.read(0, EVERY, EVERY, {"a"})
    assert ([row.seq for row in batch.rows], batch.last) == ([2, 4, 6], 6)
    await log.close()


async def test_duplicates_within_the_window_even_trimmed_and_restarted(tmp_path: Path) -> None:
    now = 10**18
    log = opened(tmp_path, clock=lambda: now)  # type: ignore[arg-type]
    assert await log.append(b"x", 1, "otlp") is True
    assert await log.append(b"x", 1, "otlp") is False
    assert await log.append(b"x", 1, "other receiver") is True
    await log.move("c", 2)
    assert log.bytes_stored == 0
    await log.close()
    now += 599 * 10**9
    log = opened(tmp_path, clock=lambda: now)  # type: ignore[arg-type]
    assert await log.append(b"x", 1, "otlp") is False
    now += 2 * 10**9
    assert await log.append(b"x", 1, "otlp") is True
    assert log.last_seq == 3
    await log.close()


async def test_trimming_waits_for_the_slowest_cursor_and_seq_is_never_used_again(tmp_path: Path) -> None:
    log = opened(tmp_path, "fast", "slow")
    for number in range(4):
        await log.append(bytes([number]) * 10, 1, "otlp")
    await log.move("fast", 4)
    assert log.bytes_stored == 40
    await log.move("slow", 3)
    assert log.bytes_stored == 10
    await log.move("slow", 4)
    assert log.bytes_stored == 0
    await log.close()
    log = opened(tmp_path, "fast", "slow")
    assert (log.position("slow"), log.last_seq) == (4, 4)
    await log.append(b"new", 1, "otlp")
    assert log.last_seq == 5
    await log.close()


async def test_a_new_cursor_begins_at_the_oldest_and_an_old_one_is_given_up(tmp_path: Path) -> None:
    log = opened(tmp_path, "old")
    for number in range(4):
        await log.append(bytes([number]), 1, "otlp")
    await log.move("old", 2)
    await log.close()
    log = Log(tmp_path / "log" / "traces.sqlite", "traces")
    assert log.register(["new"]) == {"old": 2}
    assert log.position("new") == 2
    await log.close()


async def test_full_means_refused_not_dropped(tmp_path: Path) -> None:
    log = opened(tmp_path, max_bytes=100)
    assert await log.append(bytes(60), 1, "otlp")
    with pytest.raises(Refusal) as caught:
        await log.append(bytes(61), 1, "otlp")
    assert caught.value.retryable
    await log.move("c", 1)
    assert await log.append(bytes(61), 1, "otlp")
    await log.close()


async def test_a_failed_write_refuses_and_the_log_goes_on(tmp_path: Path) -> None:
    log = opened(tmp_path)
    await log.append(b"1", 1, "otlp")
    blocker = sqlite3.connect(log.path, isolation_level=None)
    log._index.execute("PRAGMA busy_timeout=50")
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Refusal, match="could not be written") as caught:
        await log.append(b"2", 1, "otlp")
    assert caught.value.retryable
    blocker.execute("ROLLBACK")
    blocker.close()
    assert await log.append(b"2", 1, "otlp") is True
    assert (log.last_seq, log.bytes_stored) == (2, 2)
    await log.close()


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log" / "traces.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StartError, match="move it aside"):
        Log(path, "traces")
    path.unlink()
    Log(path, "traces")._index.execute("UPDATE meta SET value='99' WHERE key='format'")
    with pytest.raises(StartError, match="has format 99 for traces; this release reads formats 1 to 3"):
        Log(path, "traces")


async def test_the_disks_reserve_is_left_to_the_cursors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    await log.append(b"x" * 100, 1, "otlp")
    monkeypatch.setattr("taximeter_collector.log.room", lambda path: 50)
    with pytest.raises(Refusal, match="50 bytes left beyond its reserve") as refused:
        await log.append(b"y" * 100, 1, "otlp")
    assert (refused.value.reason, refused.value.retryable) == ("disk_full", True)
    await log.move("c", 1)
    assert log.bytes_stored == 0
    await log.close()


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "log" / "traces.segments").glob("*.seg"))


async def test_a_damaged_request_is_quarantined_and_counted_and_its_neighbours_are_read(
    tmp_path: Path,
) -> None:
    log = opened(tmp_path)
    for number in range(10):
        await log.append(bytes([number]) * 100, 10 + number, "otlp")
    await log.close()
    [path] = segments(tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(bytes([3]) * 100) + 50] ^= 1  # in the payload of the fourth
    content[content.index(bytes([7]) * 100) - 30] ^= 1  # in the head of the eighth
    path.write_bytes(content)
    log = opened(tmp_path)
    batch = await log.read(0, EVERY, EVERY, {"otlp"})
    assert [row.payload[0] for row in batch.rows] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert batch.last == 10
    assert (log.damaged_requests, log.damaged_items) == (2, 13 + 17)
    assert sorted(f.name for f in (tmp_path / "log" / "quarantine").iterdir()) == [
        "traces-4.bin",
        "traces-8.bin",
    ]
    await log.read(0, EVERY, EVERY, {"otlp"})
    assert log.damaged_requests == 2, "the same damage, met by another cursor, counts once"
    await log.close()


async def test_a_damaged_index_is_made_anew_from_the_records(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(300):
        await log.append(b"%d" % number * 50, 1, "otlp")
    await log.move("c", 100)
    identity = log.log_id
    await log.close()
    content = bytearray(log.path.read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
    log.path.write_bytes(content)
    log = opened(tmp_path)
    assert log.log_id == identity, "exporters that keep their own position find it again"
    batch = await log.read(0, EVERY, EVERY, {"otlp"})
    assert {b"%d" % n * 50 for n in range(100, 300)} <= {row.payload for row in batch.rows}
    assert await log.append(b"299" * 50, 1, "otlp") is False, "and duplicates are still known"
    assert await log.append(b"new", 1, "otlp") is True
    assert log.last_seq > 300
    await log.close()


async def test_the_index_is_completed_from_records_that_a_power_cut_took_from_it(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(5):
        await log.append(b"%d" % number, 1, "otlp")
    await log.close()
    index = sqlite3.connect(log.path)
    index.execute("DELETE FROM requests WHERE seq > 3")
    index.execute("DELETE FROM digests")
    index.execute("UPDATE sqlite_sequence SET seq=3 WHERE name='requests'")
    index.commit()
    index.close()
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"\xabRECa record that was never finished")
    log = opened(tmp_path)
    batch = await log.read(0, EVERY, EVERY, {"otlp"})
    assert [row.payload for row in batch.rows] == [b"0", b"1", b"2", b"3", b"4"]
    assert await log.append(b"4", 1, "otlp") is False
    assert await log.append(b"5", 1, "otlp") is True
    assert (log.last_seq, log.damaged_requests) == (6, 0)
    await log.close()


async def test_files_are_removed_when_every_cursor_has_passed_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taximeter_collector.segments.SEGMENT_BYTES", 1000)
    log = opened(tmp_path, "fast", "slow")
    for number in range(30):
        await log.append(bytes([number]) * 200, 1, "otlp")
    assert len(segments(tmp_path)) > 5
    await log.move("fast", 30)
    assert len(segments(tmp_path)) > 5
    await log.move("slow", 29)
    assert len(segments(tmp_path)) <= 2
    batch = await log.read(29, EVERY, EVERY, {"otlp"})
    assert [row.payload for row in batch.rows] == [bytes([29]) * 200]
    await log.close()


async def test_large_payloads_are_stored_packed_and_read_as_they_came(tmp_path: Path) -> None:
    payloads = [trace_request(number * 100, 100) for number in range(20)]
    noise, small = random.Random(1).randbytes(2000), b"small" * 50
    log = opened(tmp_path)
    for payload in (*payloads, noise, small):
        await log.append(payload, 1, "otlp")
    plain = sum(map(len, (*payloads, noise, small)))
    held = log.bytes_stored
    assert held < plain / 3, "the limit is on what lies on the disk"
    assert held <= sum(path.stat().st_size for path in segments(tmp_path))
    recent = await log.read(0, EVERY, EVERY, {"otlp"})
    await log.close()
    log = opened(tmp_path)
    assert log.bytes_stored == held
    batch = await log.read(0, EVERY, EVERY, {"otlp"})
    assert batch == recent
    assert [row.payload for row in batch.rows] == [*payloads, noise, small]
    assert [bool(row.packed) for row in batch.rows] == [True] * 20 + [False] * 2
    bounded = await log.read(0, len(payloads[0] + payloads[1]), EVERY, {"otlp"})
    assert len(bounded.rows) == 2, "what is read is bounded by what it will be in memory"
    await log.move("c", 22)
    assert log.bytes_stored == 0
    await log.close()


async def test_a_damaged_packed_request_is_quarantined(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(5):
        await log.append(trace_request(number * 100, 100), 100, "otlp")
    await log.close()
    [path] = segments(tmp_path)
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content.startswith(b"\xabREP", at)]
    content[starts[2] + 60] ^= 16
    path.write_bytes(content)
    log = opened(tmp_path)
    batch = await log.read(0, EVERY, EVERY, {"otlp"})
    assert [row.seq for row in batch.rows] == [1, 2, 4, 5]
    assert (log.damaged_requests, log.damaged_items) == (1, 100)
    await log.close()


@pytest.mark.parametrize("sizes", [(100, 200), (3, 100, 0, 7), (1,)])
def test_packed_payloads_make_one_gzip_member(sizes: tuple[int, ...]) -> None:
    payloads = [trace_request(size, size) for size in sizes]
    made = gzip_member((payload, worth_packing(payload)) for payload in payloads)
    reader = zlib.decompressobj(31)
    assert reader.decompress(made) == b"".join(payloads)
    assert reader.eof and not reader.unused_data, "one member, so that readers of one read it all"


async def test_a_log_of_format_2_goes_on_and_older_releases_refuse_it(tmp_path: Path) -> None:
    log = opened(tmp_path)
    await log.append(b"old", 1, "otlp")
    await log.close()
    [path] = segments(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"TAXIMETER-LOG 3", b"TAXIMETER-LOG 2"))
    index = sqlite3.connect(log.path)
    index.execute("UPDATE meta SET value='2' WHERE key='format'")
    index.commit()
    log = opened(tmp_path)
    await log.append(new := trace_request(1, 100), 100, "otlp")
    batch = await log.read(0, EVERY, EVERY, {"otlp"})
    assert [row.payload for row in batch.rows] == [b"old", new]
    await log.close()
    assert index.execute("SELECT value FROM meta WHERE key='format'").fetchone() == ("3",)
    index.close()


async def test_a_log_of_format_1_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "log" / "traces.sqlite"
    path.parent.mkdir()
    old = sqlite3.connect(path)
    old.executescript(
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE requests (seq INTEGER PRIMARY KEY AUTOINCREMENT, received_ns INTEGER NOT NULL,
            source TEXT NOT NULL, items INTEGER NOT NULL, payload BLOB NOT NULL);
        CREATE TABLE digests (digest BLOB PRIMARY KEY, received_ns INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX digests_by_time ON digests (received_ns);
        CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL);
        INSERT INTO meta VALUES ('format', '1'), ('log_id', '0123456789abcdef'), ('signal', 'traces');
        INSERT INTO cursors VALUES ('c', 3);
        """
    )
    for number in range(1, 7):
        old.execute("INSERT INTO requests VALUES (?, 5, 'otlp', 2, ?)", (number, b"%d" % number))
    old.execute("DELETE FROM requests WHERE seq <= 3 OR seq = 6")
    old.commit()
    old.close()
    log = opened(tmp_path)
    assert (log.log_id, log.position("c"), log.last_seq, log.bytes_stored) == ("0123456789abcdef", 3, 6, 2)
    batch = await log.read(3, EVERY, EVERY, {"otlp"})
    assert [(r.seq, r.received_ns, r.items, r.payload) for r in batch.rows] == [
        (4, 5, 2, b"4"),
        (5, 5, 2, b"5"),
    ]
    await log.append(b"new", 1, "otlp")
    assert log.last_seq == 7
    await log.close()
    log = opened(tmp_path)
    batch = await log.read(4, EVERY, EVERY, {"otlp"})
    assert [r.payload for r in batch.rows] == [b"5", b"new"]
    await log.close()
