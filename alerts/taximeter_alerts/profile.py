"""The windows of all rules: real ones, and short ones for a demonstration.

Only durations differ between profiles, never expressions or limits, so what the short profile
shows is what the real one does, later.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Burn:
    """One pair of windows of a multi-window burn-rate alert, as Prometheus durations."""

    rate: float
    long: str
    short: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Windows as Prometheus durations."""

    name: str
    interval: str  # between evaluations
    short: str  # of rates by route
    quiet: str  # of rates of routes with little traffic
    money: str  # of the rate of money by model
    day: str
    week: str
    history: str  # over which a value's own median is taken
    lag: str  # history ends this long ago, so that a regression is not its own history
    history_samples: int  # fewer: no history, no alert
    page: tuple[Burn, Burn]
    ticket: tuple[Burn, Burn]
    hold: str  # `for` of regressions
    brief: str  # `for` of what needs no proof
    keep: str  # `keep_firing_for`, against flapping
    new_version: str  # a version is new if it was absent so long ago
    absent: str  # how long a service that is gone is missed

    @property
    def note(self) -> str:
        """What a reader of the rendered file must know."""
        if self.name == DEFAULT.name:
            return "Profile: default (windows for production)."
        return f"PROFILE: {self.name}. Windows are shortened for a demonstration: not for production."


DEFAULT = Profile(
    name="default",
    interval="30s",
    short="5m",
    quiet="6h",
    money="30m",
    day="1d",
    week="7d",
    history="7d",
    lag="1h",
    history_samples=60,
    page=(Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m")),
    ticket=(Burn(3, "1d", "2h"), Burn(1, "3d", "6h")),
    hold="10m",
    brief="2m",
    keep="15m",
    new_version="2h",
    absent="1d",
)

DEMO = Profile(
    name="demo",
    interval="1s",
    short="15s",
    quiet="1m",
    money="20s",
    day="2m",
    week="5m",
    history="2m",
    lag="5s",
    history_samples=12,
    page=(Burn(14.4, "30s", "10s"), Burn(6, "1m", "20s")),
    ticket=(Burn(3, "2m", "40s"), Burn(1, "4m", "1m")),
    hold="10s",
    brief="3s",
    keep="0s",
    new_version="1m",
    absent="30s",
)

PROFILES = {profile.name: profile for profile in (DEFAULT, DEMO)}
