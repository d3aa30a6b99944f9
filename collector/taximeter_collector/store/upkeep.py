"""Keeps a span store in order: compaction, retention, and the removal of what they made superfluous.

One at a time per store (an advisory lock). ``python -m taximeter_collector.store.upkeep`` is what the
exporter starts, so that the memory a merge takes is not the collector's and a kill of it costs nothing;
``taximeter store compact`` runs the same by hand.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taximeter_collector.log import DEDUPLICATION_WINDOW_S
from taximeter_collector.store.compaction import DAY_S, Merge, merge, plan, plan_all
from taximeter_collector.store.schema import SCHEMA_VERSION, VERSION_KEY
from taximeter_collector.store.segments import TABLES, Segment, segments, superseded, sync_folder

#: A superseded file stays this long, for readers that listed it before.
GRACE_S = 120.0


class InUse(Exception):
    """Another process keeps this store at the moment."""


@dataclass(frozen=True)
class Rules:
    """What to keep. 0: no limit."""

    max_age_s: float = 0.0
    max_bytes: int = 0

    @property
    def slot_s(self) -> float:
        """Rows are merged within slots of this length, so that old ones can go soon after their time."""
        return min(DAY_S, max(600.0, self.max_age_s / 8)) if self.max_age_s else DAY_S


@dataclass
class Done:
    """What came of it."""

    merged: int = 0  # segments of `spans` that became part of larger ones
    written: int = 0  # larger ones
    expired: int = 0  # segments of `spans` dropped by retention
    removed: int = 0  # superseded files deleted


@contextlib.contextmanager
def lock(store: Path) -> Iterator[None]:
    """Be the only one that keeps this store.

    Raises:
        InUse: somebody else is.
    """
    descriptor = os.open(store / ".upkeep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{store}: another process is compacting it; wait until it is done") from None
        yield
    finally:
        os.close(descriptor)


def needed(store: Path, rules: Rules, now: float) -> bool:
    """Whether `keep` would do anything: looks at names, sizes and times only."""
    found = segments(store / "spans")
    return (
        next_merge(found, rules, now) is not None
        or bool(expired(found, segments(store / "requests"), rules, now))
        or any(_removable(store / table, now) for table in TABLES)
    )


def next_merge(found: list[Segment], rules: Rules, now: float) -> Merge | None:
    """The next merge of segments that are out of the writer's deduplication window."""
    gone = superseded(found)
    counted = [segment for segment in found if segment not in gone]
    return plan(counted, settled_before=now - DEDUPLICATION_WINDOW_S, slot_s=rules.slot_s)


def expired(spans: list[Segment], requests: list[Segment], rules: Rules, now: float) -> list[Segment]:
    """The segments of ``spans`` that the rules give up, oldest first; never the newest of all."""
    gone = superseded(spans)
    counted = [segment for segment in spans if segment not in gone]
    begins = [(segment.prefix, segment.first) for segment in counted]
    weight = {segment: segment.size for segment in counted}  # with its requests
    for segment in requests:
        at = bisect.bisect_right(begins, (segment.prefix, segment.first)) - 1
        if at >= 0 and counted[at].prefix == segment.prefix:
            weight[counted[at]] += segment.size
    total = sum(weight.values())
    given_up = []
    for segment in sorted(counted, key=lambda each: each.modified)[:-1]:
        too_old = rules.max_age_s and segment.modified < now - rules.max_age_s
        too_much = rules.max_bytes and total > rules.max_bytes
        if not (too_old or too_much):
            break
        given_up.append(segment)
        total -= weight[segment]
    return given_up


def keep(
    store: Path,
    rules: Rules,
    *,
    now: Callable[[], float] = time.time,
    everything: bool = False,
    grace_s: float = GRACE_S,
) -> Done:
    """Do all that is due.

    Args:
        store: the store's directory.
        rules: what to keep.
        now: the clock.
        everything: merge all that can be merged, however young, and write again what is of an older schema.
        grace_s: how long superseded files stay for readers that began before.

    Raises:
        InUse: another process is at it.
        OSError: the disk is full or the like; nothing is lost.
    """
    done = Done()
    with lock(store):
        _expire(store, rules, now(), done)
        if everything:
            found = segments(store / "spans")
            gone = superseded(found)
            counted = [segment for segment in found if segment not in gone]
            current = {segment.path for segment in counted if _is_current(segment.path)}
            for wanted in plan_all(counted, current, slot_s=rules.slot_s):
                _merge(store, wanted, done)
        else:
            while due := next_merge(segments(store / "spans"), rules, now()):
                _merge(store, due, done)
        _remove_superseded(store, now(), grace_s, done)
    return done


def _merge(store: Path, wanted: Merge, done: Done) -> None:
    merge(store, wanted)
    done.merged += len(wanted.spans)
    done.written += 1


def _is_current(path: Path) -> bool:
    """Whether a segment is summed up and in today's schema."""
    try:
        file = pq.ParquetFile(path)
        version = (file.schema_arrow.metadata or file.metadata.metadata or {}).get(VERSION_KEY.encode())
        column = file.schema_arrow.get_field_index("summed")
        if version != str(SCHEMA_VERSION).encode() or column < 0 or not file.num_row_groups:
            return False
        statistics = file.read_row_group(0, columns=["summed"]).column("summed")
        return bool(len(statistics) and statistics[0].as_py())
    except (OSError, pa.ArrowException):
        return False


def _expire(store: Path, rules: Rules, now: float, done: Done) -> None:
    for segment in expired(segments(store / "spans"), segments(store / "requests"), rules, now):
        # Requests first: a request without its spans would be asked for them.
        for table in TABLES:
            for other in segments(store / table):
                if other.path.name == segment.path.name or other.within(segment):
                    other.path.unlink(missing_ok=True)
            sync_folder(store / table)
        done.expired += 1


def _removable(folder: Path, now: float, grace_s: float = GRACE_S) -> list[Path]:
    found = []
    for old, holder in superseded(segments(folder)).items():
        with contextlib.suppress(FileNotFoundError):
            if holder.path.stat().st_ctime <= now - grace_s:  # when it took its name
                found.append(old.path)
    return found


def _remove_superseded(store: Path, now: float, grace_s: float, done: Done) -> None:
    for table in TABLES:
        for path in _removable(store / table, now, grace_s):
            path.unlink(missing_ok=True)
            done.removed += 1
        sync_folder(store / table)


def main() -> int:
    parser = argparse.ArgumentParser(description="compaction and retention of one span store, once")
    parser.add_argument("store", type=Path)
    parser.add_argument("--max-age", type=float, default=0.0, help="seconds")
    parser.add_argument("--max-bytes", type=int, default=0)
    args = parser.parse_args()
    os.nice(10)  # whoever waits for an answer comes first
    try:
        done = keep(args.store, Rules(args.max_age, args.max_bytes))
    except InUse:
        done = Done()
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(done)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
