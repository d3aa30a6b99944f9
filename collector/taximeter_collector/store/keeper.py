"""The exporter's side of `store.upkeep`: looks now and then whether there is anything to do, and has it done.

The work runs in a process of its own. Whatever happens to that process, the exporter goes on writing
segments; a failure is counted, logged, and tried again at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.store.upkeep import Rules, needed

_logger = logging.getLogger(__name__)


class Keeper:
    """One span store's upkeep, at an interval."""

    def __init__(
        self, exporter: str, directory: Path, interval_s: float, retention: Mapping[str, Any], own: OwnMetrics
    ) -> None:
        self._exporter, self._directory, self._own = exporter, directory, own
        self._interval_s = interval_s
        self._rules = Rules(retention["max_age"], retention["max_size_mib"] << 20)
        self._task: asyncio.Task[None] | None = None
        for name in ("merged_segments", "expired_segments", "upkeep_failures"):
            self._add(name, 0)

    def start(self) -> None:
        if self._interval_s:
            self._task = asyncio.create_task(self._run(), name=f"upkeep of {self._exporter}")

    async def close(self) -> None:
        """Stop, in the middle of a merge if need be: nothing is lost by it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                if await asyncio.to_thread(needed, self._directory, self._rules, time.time()):
                    await self._keep()
            except OSError as error:
                self._failed(str(error))

    async def _keep(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "taximeter_collector.store.upkeep", str(self._directory),
            "--max-age", str(self._rules.max_age_s), "--max-bytes", str(self._rules.max_bytes),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            words = err.decode(errors="replace").strip().splitlines()
            self._failed(words[-1] if words else f"the process ended with code {process.returncode}")
            return
        done = json.loads(out)
        self._add("merged_segments", done["merged"])
        self._add("expired_segments", done["expired"])

    def _failed(self, reason: str) -> None:
        self._add("upkeep_failures", 1)
        _logger.warning(
            "exporter %s: compaction or retention failed, will be tried again: %s", self._exporter, reason
        )

    def _add(self, name: str, amount: int) -> None:
        self._own.add(f"taximeter_collector_store_{name}", amount, exporter=self._exporter)
