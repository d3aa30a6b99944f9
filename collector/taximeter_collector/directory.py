"""The data directory and its one owner.

Everything the collector keeps lies under one directory: ``log/`` (the durable log),
``state/`` (exporters' checkpoints), ``dead-letters/``. Two owners would tear the cursors apart, so
the first takes an advisory lock, which the kernel frees whatever way the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from taximeter_collector.config.loader import CollectorConfig
from taximeter_collector.errors import StartError

DEFAULT_DATA_DIRECTORY = Path("taximeter-data")

#: What the log leaves free on its disk, so that cursors can move and exporters finish: without it
#: a full disk could not even be emptied. A tenth of the disk where that is less.
RESERVE_BYTES = 64 << 20


def room(path: Path, reserve: int = RESERVE_BYTES) -> int:
    """Bytes free on the disk of ``path`` beyond the reserve; negative when that is touched."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize - min(reserve, disk.f_blocks * disk.f_frsize // 10)


class DataDirectory:
    """A locked data directory; the lock lives as long as this object is not closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StartError(
                f"the data directory {path} cannot be used ({error.strerror}): make it writable, or name "
                "another one (extensions.file_storage.directory or --data-dir)"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StartError(
                f"the data directory {path} is in use by another collector (process {owner}): stop it, or "
                "give this one its own directory (extensions.file_storage.directory or --data-dir)"
            ) from None
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def log(self, signal: str) -> Path:
        return self.path / "log" / f"{signal}.sqlite"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def data_directory(config: CollectorConfig, data_dir: Path | None) -> Path:
    """Where the data lies: ``file_storage`` says, else ``--data-dir``, else the default."""
    storage = config.extension("file_storage")
    return Path((storage and storage.values["directory"]) or data_dir or DEFAULT_DATA_DIRECTORY)


def state_file(directory: Path, name: str) -> Path:
    """Where the exporter ``name`` keeps its checkpoint."""
    folder = directory / "state"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{file_name(name)}.sqlite"


def file_name(component: str) -> str:
    """A component or pipeline id as a file name: ``otlp_http/tempo`` -> ``otlp_http~tempo``."""
    return "".join(c if c.isalnum() or c in "_-." else "~" for c in component)
