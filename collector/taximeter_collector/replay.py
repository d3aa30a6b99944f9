"""``taximeter collector dead-letters``: list what no destination took, and send it again.

A replay hands each letter to the exporter it was meant for, and to no other, without going through
the log: the others have it already. The file is taken aside first, so a running collector
goes on writing letters meanwhile; what is refused again goes back, with its new reason. A
replay that is killed leaves the file under its other name, and the next one takes it up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taximeter_collector.config.loader import CollectorConfig
from taximeter_collector.directory import DataDirectory, data_directory
from taximeter_collector.errors import StartError
from taximeter_collector.export.base import Exporter, Origin, Permanent, Retry
from taximeter_collector.export.dead_letters import SUFFIX, DeadLetters, read, take
from taximeter_collector.export.make import make_exporter
from taximeter_collector.log import Batch, Row
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.signals import SIGNALS

_TAKEN = ".replaying"
_REMOTE = ("otlp_grpc", "otlp_http")
_TRIES = 5
_LOG_ID = "dead1e77"  # of letters: in a store's file names, where a log's id stands otherwise


def listing(config: CollectorConfig, data_dir: Path | None) -> str:
    """One line a file: how many letters and items, since when, and the last reason."""
    lines = []
    for path in _files(data_directory(config, data_dir)):
        headers = [header for header, _ in read(path)]
        if headers:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(headers[0]["failed_ns"] / 1e9))
            lines.append(
                f"{path.name}: {len(headers)} requests, {sum(h['items'] for h in headers)} items, "
                f"since {since} UTC; last reason: {headers[-1]['reason']}"
            )
    return "\n".join(lines) or "no dead letters"


def replay(config: CollectorConfig, data_dir: Path | None, names: Sequence[str]) -> int:
    """Send the letters again (of the named exporters, else all); returns how many are left."""
    folder = data_directory(config, data_dir)
    taken: dict[Path, dict[str, Any]] = {}
    for path in _files(folder):
        first = next((header for header, _ in read(path)), None)
        if first is None or (names and first["exporter"] not in names):
            continue
        if first["exporter"] not in config.exporters:
            raise StartError(f"{path.name}: exporters.{first['exporter']} is not in this configuration")
        taken[path] = first
    if not taken:
        return 0
    local = {h["exporter"] for h in taken.values()} - {
        name for name, component in config.exporters.items() if component.type in _REMOTE
    }
    # A local exporter owns its files: only whoever owns the directory may write through it.
    directory = DataDirectory(folder) if local else None
    try:
        return asyncio.run(_send_all(config, folder, taken))
    finally:
        if directory is not None:
            directory.close()


async def _send_all(config: CollectorConfig, folder: Path, taken: dict[Path, dict[str, Any]]) -> int:
    left = 0
    for path, first in taken.items():
        aside = path if path.name.endswith(_TAKEN) else path.with_name(path.name + _TAKEN)
        if aside != path:
            if aside.exists():
                continue  # an earlier replay was killed: its file goes first, this one the next time
            take(path, aside.name)
        exporter = make_exporter(config, first["exporter"], folder, OwnMetrics())
        await exporter.start()
        try:
            left += await _send(exporter, aside, DeadLetters.of(folder, first))
        finally:
            await exporter.close()
        aside.unlink()
    return left


async def _send(exporter: Exporter, path: Path, back: DeadLetters) -> int:
    left = 0
    letters = list(read(path))
    for number, (header, payload) in enumerate(letters, 1):
        row = Row(header["seq"], header["received_ns"], header["items"], payload)
        origin = Origin(SIGNALS[header["signal"]], header["pipeline"], _LOG_ID)
        try:
            await _persist(exporter, origin, Batch([row], row.seq, row.seq))
        except (Permanent, Retry) as error:
            await asyncio.to_thread(back.write, row, str(error))
            left += 1
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{exporter.name}: {number}/{len(letters)}, {left} refused again ")
    return left


async def _persist(exporter: Exporter, origin: Origin, batch: Batch) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            await exporter.export(origin, batch)
            return
        except Retry as retry:
            if attempt == _TRIES:
                raise
            await asyncio.sleep(retry.after_s or 0.2 * 2**attempt)


def _files(folder: Path) -> list[Path]:
    letters = folder / "dead-letters"
    return [*letters.glob(f"*{SUFFIX}{_TAKEN}"), *sorted(letters.glob(f"*{SUFFIX}"))]
