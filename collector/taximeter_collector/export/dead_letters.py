"""Where a request goes that its destination will never take: a file, so that nothing is lost in silence.

One file per pipeline and exporter, ``dead-letters/<pipeline>+<exporter>.dead``, of records::

    4 bytes  length of the header, big-endian
    header   JSON: signal, pipeline, exporter, seq, received_ns, failed_ns, items, reason, size, crc32
    payload  ``size`` bytes: the serialised Export*ServiceRequest

Appended and fsynced before the cursor moves on. A record cut short by a crash is the last
one and is repeated after the restart, so a reader stops at it and loses nothing. A file that
has reached :data:`MAX_BYTES` takes no more: the exporter then waits, as for a full disk, until
somebody replays or removes it, because dropping what was acknowledged is nobody's wish.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from taximeter_collector.directory import file_name
from taximeter_collector.log import Row

MAX_BYTES = 1 << 30
SUFFIX = ".dead"


class DeadLetters:
    """Append-only; opened when the first letter comes."""

    def __init__(
        self, directory: Path, signal: str, pipeline: str, exporter: str, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self.path = directory / "dead-letters" / f"{file_name(pipeline)}+{file_name(exporter)}{SUFFIX}"
        self._max_bytes = max_bytes
        self._end: tuple[int, int] | None = None  # inode of the file, and where its whole records end
        self._about = {"signal": signal, "pipeline": pipeline, "exporter": exporter}

    @classmethod
    def of(cls, directory: Path, header: Mapping[str, Any]) -> DeadLetters:
        """The file that a letter with this header belongs to."""
        return cls(directory, header["signal"], header["pipeline"], header["exporter"])

    def write(self, row: Row, reason: str) -> None:
        """Append one request durably; raises OSError."""
        about = {
            **self._about,
            "seq": row.seq,
            "received_ns": row.received_ns,
            "failed_ns": time.time_ns(),
            "items": row.items,
            "reason": reason,
        }
        whole_record = record(about, row.payload)
        self.path.parent.mkdir(exist_ok=True)
        with _alone(self.path.parent), self.path.open("r+b" if self.path.exists() else "wb") as file:
            inode, size = os.fstat(file.fileno()).st_ino, os.fstat(file.fileno()).st_size
            if self._end is None or self._end[0] != inode or size < self._end[1]:
                self._end = (inode, _end_of_whole_records(self.path))  # the first, or the file was taken
            whole = self._end[1]
            if whole and whole + len(whole_record) > self._max_bytes:
                raise OSError(
                    errno.EDQUOT,
                    f"it holds {whole} bytes, limit {self._max_bytes}: replay it "
                    "(taximeter collector dead-letters replay) or move it away",
                )
            file.truncate(whole)
            file.seek(whole)
            file.write(whole_record)
            file.flush()
            os.fsync(file.fileno())
        self._end = (inode, whole + len(whole_record))


def record(header: Mapping[str, Any], payload: bytes) -> bytes:
    """One letter as it stands in the file; size and checksum are added."""
    whole = {**header, "size": len(payload), "crc32": zlib.crc32(payload)}
    encoded = json.dumps(whole).encode()
    return struct.pack(">I", len(encoded)) + encoded + payload


def replace(path: Path, records: Iterable[bytes]) -> None:
    """Put other records in a file's place, durably; without any, the file goes."""
    with _alone(path.parent):
        part = path.with_name(f".{path.name}.tmp")
        with part.open("wb") as file:
            for each in records:
                file.write(each)
            file.flush()
            os.fsync(file.fileno())
            empty = not file.tell()
        part.rename(path)
        if empty:
            path.unlink()


def take(path: Path, name: str) -> Path:
    """Rename a file of letters so that no writer has it any more; returns its new path."""
    with _alone(path.parent):
        return path.rename(path.with_name(name))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time has the folder: the collector that writes, or a replay that takes a file."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The whole records of a dead-letter file: header and payload."""
    with path.open("rb") as file:
        while len(size := file.read(4)) == 4:
            try:
                header = json.loads(file.read(struct.unpack(">I", size)[0]))
            except ValueError:
                return
            payload = file.read(header["size"])
            if len(payload) < header["size"] or zlib.crc32(payload) != header["crc32"]:
                return
            yield header, payload


def _end_of_whole_records(path: Path) -> int:
    end = 0
    if path.exists():
        size = path.stat().st_size
        with path.open("rb") as file:
            while len(head := file.read(4)) == 4:
                length = struct.unpack(">I", head)[0]
                try:
                    body = json.loads(file.read(length))["size"]
                except (ValueError, KeyError):
                    break
                if end + 4 + length + body > size:
                    break
                end += 4 + length + body
                file.seek(end)
    return end
