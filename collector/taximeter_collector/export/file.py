"""The ``file`` exporter: every request as one line of OTLP JSON, for whoever reads files.

A batch is synced to disk before its cursor moves, so a line is there or will come; a kill in between writes
it once more, as with any destination. A line cut short by a kill is cut off at the next start. With
``rotation`` a full file is renamed by the time and at most ``max_backups`` of them are kept.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from taximeter_collector.errors import StartError
from taximeter_collector.export.base import Exporter, Origin, Retry
from taximeter_collector.log import Batch

_IDS = ("traceId", "spanId", "parentSpanId")
_DAY_S = 86_400


class FileExporter(Exporter):
    """Several pipelines may share a file: lines are whole."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(name)
        self._path = Path(values["path"])
        self._append, self._rotation = values["append"], values["rotation"]
        self._create: bool = values["create_directory"]
        self._lock = asyncio.Lock()
        self._file: Any = None

    async def start(self) -> None:
        try:
            if self._create:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open(keep=self._append or self._rotation is not None)
        except OSError as error:
            raise StartError(
                f"exporters.{self.name}.path: {self._path} cannot be written ({error.strerror}): make its "
                "folder writable, or set create_directory"
            ) from error

    def _open(self, *, keep: bool) -> None:
        self._file = self._path.open("r+b" if keep and self._path.exists() else "wb")
        self._file.truncate(_whole_lines(self._path))
        self._file.seek(0, os.SEEK_END)

    async def export(self, origin: Origin, batch: Batch) -> int:
        async with self._lock:
            try:
                await asyncio.to_thread(self._write, origin, batch)
            except OSError as error:
                raise Retry(f"{self._path} cannot be written: {error}") from error
        return 0

    def _write(self, origin: Origin, batch: Batch) -> None:
        begun = self._file.tell()
        try:
            for row in batch.rows:
                line = to_json(origin.signal.request.FromString(row.payload)) + b"\n"
                if self._rotation and self._file.tell() and self._too_large(len(line)):
                    self._rotate()
                    begun = 0
                self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(begun)
            self._file.seek(begun)
            raise

    def _too_large(self, more: int) -> bool:
        return bool(self._file.tell() + more > self._rotation["max_megabytes"] << 20)

    def _rotate(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        now = time.time()
        moment = time.localtime(now) if self._rotation["localtime"] else time.gmtime(now)
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", moment) + f".{int(now * 1000) % 1000:03d}"
        while (backup := self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")).exists():
            stamp = f"{stamp[:-3]}{int(stamp[-3:]) + 1:03d}"
        self._path.rename(backup)
        self._open(keep=False)
        backups = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))
        if self._rotation["max_backups"]:
            for old in backups[: -self._rotation["max_backups"]]:
                old.unlink(missing_ok=True)
        if self._rotation["max_days"]:
            oldest = now - self._rotation["max_days"] * _DAY_S
            for old in self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"):
                if old.stat().st_mtime < oldest:
                    old.unlink(missing_ok=True)

    async def close(self) -> None:
        if self._file is not None:
            self._file.close()


def to_json(request: Any) -> bytes:
    """OTLP's JSON on one line: protobuf's, with ids in hex and enums as numbers."""
    document = json_format.MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(_hex_ids(document), ensure_ascii=False, separators=(",", ":")).encode()


def _hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_hex_ids(inner) for inner in value]
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex() if key in _IDS and isinstance(inner, str) else _hex_ids(inner)
            for key, inner in value.items()
        }
    return value


def _whole_lines(path: Path) -> int:
    """Where the last whole line ends."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - (1 << 16))
            file.seek(begin)
            at = file.read(end - begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
            end = begin
    return 0
