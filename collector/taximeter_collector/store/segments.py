"""Segment files: their names, which of them count, and how one comes to be in one piece.

A segment is named by the range of the log it holds::

    <log id, 8 hex digits>-<pipeline>-<first seq>-<last seq>.parquet

and the name is all the bookkeeping there is. Compaction writes the rows of several segments as one
whose range spans theirs; from the moment of its rename on, a segment whose range lies within
another's of the same log and pipeline is *superseded*: no reader counts it, and it is deleted later,
when readers that began before are done. So there is no manifest to tear, and at no moment is a
row missing or there twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

TABLES = ("requests", "spans")  # in the order in which they are written
_NAME = re.compile(r"([0-9a-f]{8}-.+)-(\d{16})-(\d{16})\.parquet")


@dataclass(frozen=True, order=True)
class Segment:
    """One file of a table. ``modified``: when its newest row was written (a merge keeps that)."""

    prefix: str  # log id and pipeline
    first: int
    last: int
    path: Path
    size: int
    modified: float

    def within(self, other: Segment) -> bool:
        return (
            self.prefix == other.prefix
            and other.first <= self.first
            and self.last <= other.last
            and self.path != other.path
        )


def segment_name(prefix: str, first: int, last: int) -> str:
    return f"{prefix}-{first:016d}-{last:016d}.parquet"


def range_of(name: str) -> tuple[str, int, int] | None:
    """(log and pipeline, first seq, last seq) of a file name; None for a file of somebody else's naming."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None


def segments(folder: Path) -> list[Segment]:
    """Every segment of a table, superseded ones included, in order of log, pipeline and range."""
    found = []
    for path in folder.glob("*.parquet"):
        named = range_of(path.name)
        try:
            status = path.stat()
        except FileNotFoundError:  # deleted since it was listed
            continue
        if named is not None:
            found.append(Segment(*named, path, status.st_size, status.st_mtime))
    return sorted(found)


def superseded(found: Iterable[Segment]) -> dict[Segment, Segment]:
    """Each superseded segment and one that holds its rows."""
    # Widest first where ranges begin together, so that the reach seen so far is always a holder's.
    ordered = sorted(found, key=lambda segment: (segment.prefix, segment.first, -segment.last))
    result: dict[Segment, Segment] = {}
    holder: Segment | None = None
    for segment in ordered:
        if holder is not None and segment.within(holder):
            result[segment] = holder
        else:
            holder = segment
    return result


def counting(files: Iterable[Path]) -> list[Path]:
    """The files a reader reads: all but superseded ones; files of another naming always count."""
    files = sorted(files)
    named = [Segment(*spec, path, 0, 0.0) for path in files if (spec := range_of(path.name)) is not None]
    gone = {segment.path for segment in superseded(named)}
    return [path for path in files if path not in gone and not path.name.startswith((".", "_"))]


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Have ``write`` fill a temporary file, then fsync and rename it: there in one piece, or not at all.

    Raises:
        OSError: the disk is full or the like; what was begun is removed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def adopt(temporary: Path, path: Path, modified: float) -> None:
    """Give a finished temporary file its name and the age of its newest row, durably."""
    os.utime(temporary, (modified, modified))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a removal in it durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
