"""Whether a repeated statement walks: its parameters come out of its own last answer.

A tree climbed by its parents, and pages by key, send one statement with different parameters, as an N+1 does.
What tells them apart is where the parameter came from. That is compared here, with the values themselves,
while the request runs; recorded is yes or nothing. So it needs no hash, and no word leaves the process.

Looked at from a statement's second time in a request on, so what is sent once costs a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

MAX_STATEMENTS: Final = 64  # of a request whose last answers are held
MAX_VALUES: Final = 16  # of a row, and of a statement's parameters
MAX_KEY: Final = 256  # characters of a value that may be a key


class Walks:
    """Of one request, what its repeated statements asked and were answered last."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[int, tuple[set[str], set[str]]] = {}  # statement -> (asked, answered)

    def step(self, statement: int, parameters: Any) -> bool:
        """A repeated statement is sent: did its last answer hold a parameter that is new?"""
        asked = set(_keys(parameters))
        before, answered = self._last.get(statement, (asked, set()))
        if statement in self._last or len(self._last) < MAX_STATEMENTS:
            self._last[statement] = asked, set()
        return not answered.isdisjoint(asked - before)

    def answer(self, statement: int, rows: Iterable[Any]) -> None:
        """What it was answered: the first row and the last, as tuples or texts."""
        if (last := self._last.get(statement)) is not None:
            for row in rows:
                last[1].update(_keys(row))


def _keys(values: Any) -> Iterator[str]:
    """Scalars that may be keys, as texts, so that 42 and "42" agree."""
    if isinstance(values, dict):
        values = list(values.values())
    if not isinstance(values, list | tuple):
        return
    for value in values[:MAX_VALUES]:
        if isinstance(value, str):
            if 0 < len(value) <= MAX_KEY:
                yield value
        elif isinstance(value, int | float | Decimal | UUID | date) and not isinstance(value, bool):
            yield str(value)
