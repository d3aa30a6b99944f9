"""The contract between a cursor and an exporter.

* ``export`` returns when the destination has the batch (for a local one: when it is on disk). Only
  then does the cursor move, so a crash repeats a batch and never loses one.
* It raises :class:`Retry` when the same batch may succeed later, :class:`Permanent` when it never will.
* An exporter whose own files say how far it is overrides ``position``; the cursor then begins there, and
  the batch a crash cut off between file and cursor is not written twice.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taximeter_collector.log import Batch
from taximeter_collector.signals import Signal


class Retry(Exception):
    """Not now. ``after_s``: what the destination asked for, if it did."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Permanent(Exception):
    """Never: the destination says the request itself is wrong."""


@dataclass(frozen=True)
class Origin:
    """Where a batch comes from."""

    signal: Signal
    pipeline: str
    log_id: str


class Exporter(ABC):
    """One configured exporter; several pipelines may share it."""

    #: What one batch may hold at most (a single larger request is passed as it is).
    max_bytes = 3 << 20  # merged OTLP stays below gRPC's default limit of 4 MiB
    max_items = 1 << 62
    #: How long the first request waits for company.
    linger_s = 0.0

    def __init__(self, name: str) -> None:
        self.name = name

    async def start(self) -> None:  # noqa: B027  (what an exporter need not have)
        """Connect or open, in the event loop."""

    @abstractmethod
    async def export(self, origin: Origin, batch: Batch) -> int:
        """Deliver; returns how many items the destination rejected for good (partial success)."""

    def position(self, origin: Origin, committed: int) -> int:
        """The last seq this exporter durably has: its own files may be ahead of the committed cursor."""
        return committed

    def caught_up(self, origin: Origin) -> None:  # noqa: B027  (likewise)
        """Called once, when everything the log held at the start has been delivered."""

    async def close(self) -> None:  # noqa: B027  (likewise)
        """Release what ``start`` took."""


@dataclass(frozen=True)
class Backoff:
    """The official retry_on_failure: exponential, with jitter."""

    enabled: bool
    initial_s: float
    factor: float
    jitter: float
    max_s: float
    give_up_s: float  # 0: never

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Backoff:
        return cls(
            values["enabled"],
            values["initial_interval"],
            values["multiplier"],
            values["randomization_factor"],
            values["max_interval"],
            values["max_elapsed_time"],
        )

    def wait_s(self, attempt: int, rnd: Callable[[], float] = random.random) -> float:
        """Seconds before attempt ``attempt + 1``, counted from 1."""
        plain: float = min(self.max_s, self.initial_s * self.factor ** min(attempt - 1, 64))
        return plain * (1 + self.jitter * (2 * rnd() - 1))


#: For exporters that write to the machine itself, where there is nothing to configure.
LOCAL_BACKOFF = Backoff(True, 0.2, 2.0, 0.0, 10.0, 0.0)
