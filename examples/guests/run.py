"""Plays a plan against the service and writes the log."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from .plan import Planned
from .sender import Seen, Sender

_PROGRESS_S = 5.0


@dataclass(slots=True)
class Tally:
    """Counts of what was seen so far."""

    durations_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    requests: int = 0

    def add(self, seen: Seen) -> None:
        route = f"{seen.method} {seen.route}".rstrip()
        self.requests += 1
        self.durations_ms[route].append(seen.duration_ns / 1e6)
        self.errors[route] += seen.error

    def summary(self) -> dict[str, Any]:
        """``{requests, errors, by_route: {"GET /x": {requests, errors, p50_ms, p95_ms}}}``."""
        by_route = {}
        for route, durations in sorted(self.durations_ms.items()):
            durations.sort()
            last = len(durations) - 1
            by_route[route] = {
                "requests": len(durations),
                "errors": self.errors[route],
                "p50_ms": round(durations[last // 2], 1),
                "p95_ms": round(durations[round(last * 0.95)], 1),
            }
        return {"requests": self.requests, "errors": sum(self.errors.values()), "by_route": by_route}


async def play(
    plan: Sequence[Planned], sender: Sender, log: TextIO, stop: asyncio.Event, prefix: str = "g"
) -> Tally:
    """Send every planned request at its time; each guest one after the other. ``prefix`` begins their ids.

    When ``stop`` is set no new request begins; those in flight are read to their end, always.
    """
    tally = Tally()
    by_guest: dict[int, list[Planned]] = defaultdict(list)
    for planned in plan:
        by_guest[planned.guest].append(planned)
    start = time.monotonic()

    async def guest(number: int, own: Sequence[Planned]) -> None:
        for count, planned in enumerate(own):
            wait_s = start + planned.at_s - time.monotonic()
            if stop.is_set() or (wait_s > 0 and await _stopped_within(stop, wait_s)):
                return
            seen = await sender.send(planned.request, f"{prefix}{number}-{count}")
            log.write(json.dumps(seen.as_dict(), separators=(",", ":")) + "\n")
            log.flush()
            tally.add(seen)

    progress = asyncio.create_task(_report(tally, len(plan), start))
    try:
        await asyncio.gather(*(guest(number, own) for number, own in by_guest.items()))
    finally:
        progress.cancel()
        await asyncio.gather(progress, return_exceptions=True)
    return tally


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _report(tally: Tally, planned: int, start: float) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_S)
        elapsed = time.monotonic() - start
        errors = sum(tally.errors.values())
        print(f"guests: {elapsed:4.0f} s, {tally.requests}/{planned} requests, {errors} errors",
              file=sys.stderr, flush=True)  # fmt: skip
