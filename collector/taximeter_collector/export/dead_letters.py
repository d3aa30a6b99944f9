"""Where a request goes that its destination will never take: a file, so that nothing is lost in silence.

One file per pipeline and exporter, ``dead-letters/<pipeline>+<exporter>.dead``, of records::

    4 bytes  length of the header, big-endian
    header   JSON: signal, pipeline, exporter, seq, received_ns, failed_ns, items, reason, size, crc32
    payload  ``size`` bytes: the serialised Export*ServiceRequest

Appended and fsynced before the cursor moves on. A record cut short by a crash is the last
one and is repeated after the restart, so a reader stops at it and loses nothing.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taximeter_collector.directory import file_name
from taximeter_collector.log import Row


class DeadLetters:
    """Append-only; opened when the first letter comes."""

    def __init__(self, folder: Path, signal: str, pipeline: str, exporter: str) -> None:
        self.path = folder / f"{file_name(pipeline)}+{file_name(exporter)}.dead"
        self._about = {"signal": signal, "pipeline": pipeline, "exporter": exporter}

    def write(self, row: Row, reason: str) -> None:
        """Append one request durably; raises OSError."""
        header = json.dumps(
            {
                **self._about,
                "seq": row.seq,
                "received_ns": row.received_ns,
                "failed_ns": time.time_ns(),
                "items": row.items,
                "reason": reason,
                "size": len(row.payload),
                "crc32": zlib.crc32(row.payload),
            }
        ).encode()
        self.path.parent.mkdir(exist_ok=True)
        whole = _end_of_whole_records(self.path)
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.truncate(whole)
            file.seek(whole)
            file.write(struct.pack(">I", len(header)) + header + row.payload)
            file.flush()
            os.fsync(file.fileno())


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
