"""Times as people type them: instants, durations, and the window of a report.

``--since`` and ``--until`` take an ISO 8601 instant (UTC unless it carries an offset) or a
duration, which means that long ago. What cannot be read is a ValueError that shows examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)")
_NS = 1_000_000_000


@dataclass(frozen=True)
class Filters:
    """Which requests a report is about. Instants are Unix seconds; ``until`` is exclusive."""

    since: float | None = None
    until: float | None = None
    service: str | None = None
    tenant: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(
                f"the window is empty: since {iso(self.since)} is not before until {iso(self.until)}; "
                "give an earlier since or a later until"
            )

    def describe(self) -> str:
        """The filters in words, for messages; empty when there are none."""
        parts = [
            f"since {iso(self.since)}" if self.since is not None else "",
            f"until {iso(self.until)}" if self.until is not None else "",
            f"service {self.service!r}" if self.service is not None else "",
            f"tenant {self.tenant!r}" if self.tenant is not None else "",
            f"version {self.version!r}" if self.version is not None else "",
        ]
        return ", ".join(part for part in parts if part)


def iso(instant: float) -> str:
    """An instant (Unix seconds) as ``2026-11-23T08:15:00Z``."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_duration(text: str) -> float:
    """Seconds of ``2s``, ``500ms``, ``1h30m``, ``7d``; a bare number is seconds.

    Raises:
        ValueError: anything else, with the value and examples.
    """
    compact = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", compact):
        return float(compact)
    if not compact or _PART.sub("", compact).strip():
        raise ValueError(f"{text!r} is no duration; write 500ms, 2s, 15m, 1h30m, 24h or 7d")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(compact))


def parse_instant(text: str, now: float) -> float:
    """Unix seconds of an ISO 8601 instant, or of ``now`` minus a duration.

    Raises:
        ValueError: anything else, with the value and examples.
    """
    if not text.strip().isdigit():  # 20261123 is a day, not a number of seconds
        try:
            return now - parse_duration(text)
        except ValueError:
            pass
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an instant nor a duration; write 2026-11-23T08:15:00Z, 2026-11-23 (UTC), "
            "or 15m, 24h, 7d for that long ago"
        ) from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def to_ns(instant: float) -> int:
    """Nanoseconds of Unix seconds, to the microsecond (a float holds no more)."""
    return round(instant * 1_000_000) * (_NS // 1_000_000)
