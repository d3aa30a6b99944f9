"""Run-time switches: ``fix.*`` removes one of the weaknesses, ``fault.*`` adds one. All start off.

A flag exists by standing in ``FLAGS``; switching an unknown one is an error that lists them.
"""

from __future__ import annotations

from collections.abc import Mapping

FLAGS: Mapping[str, str] = {
    "fix.batch_reservations": "the reservations list joins guests and rooms: 2 statements, not 2 + 2 per row",
    "fault.n_plus_one_rooms": "the rooms list asks for each room's rate by itself: 2 + 1 per room, not 2",
    "fault.long_prompts": "a chat sends the house rules ten times over, for several times the money",
    "fault.cold_cache": "the embedding cache is never asked: every question is embedded again",
    "fault.errors": "one request in four about a hotel asks for a column that does not exist: status 500",
}


class UnknownFlag(LookupError):
    """A flag that is not in ``FLAGS``."""


class Flags:
    """The state of every flag in this process."""

    def __init__(self) -> None:
        self._on: set[str] = set()

    def __getitem__(self, name: str) -> bool:
        """Whether a declared flag is on. Raises ``UnknownFlag``."""
        self._check(name)
        return name in self._on

    def switch(self, changes: Mapping[str, bool]) -> None:
        """Switch several flags, or none when one of them is unknown (``UnknownFlag``)."""
        for name in changes:
            self._check(name)
        for name, on in changes.items():
            (self._on.add if on else self._on.discard)(name)

    @property
    def active(self) -> list[str]:
        """Names of the flags that are on, sorted."""
        return sorted(self._on)

    def as_dict(self) -> dict[str, dict[str, str | bool]]:
        return {name: {"on": name in self._on, "description": text} for name, text in FLAGS.items()}

    @staticmethod
    def _check(name: str) -> None:
        if name not in FLAGS:
            raise UnknownFlag(f"there is no flag {name!r}; known are: {', '.join(FLAGS)}")
