"""Whether a repeated statement walks: its parameters come out of its own last answer.

A tree climbed by its parents, and pages by key, send one statement with different parameters, as an N+1 does.
What tells them apart is where the parameter came from. That is compared here, with the values themselves,
while the request runs; recorded is yes or nothing. So it needs no hash, and no word leaves the process.

Looked at from a statement's second time in a request on, so what is sent once costs a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

MAX_STATEMENTS: Final = 64  # of a request whose last answers are held
MAX_VALUES: Final = 16  # of a row, and of a statement's parameters
MAX_KEY: Final = 256  # characters of a value that may be a key
_NUMBERS: Final = (int, float, Decimal, UUID, date)


class Walks:
    """Of one request, what its repeated statements asked and were answered last."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[int, list[Sequence[str]]] = {}  # statement -> [asked, answered]

    def step(self, statement: int, parameters: Any) -> bool:
        """A repeated statement is sent: did its last answer hold a parameter that is new?"""
        asked = keys(parameters)
        last = self._last.get(statement)
        if last is None:
            if len(self._last) < MAX_STATEMENTS:
                self._last[statement] = [asked, ()]
            return False
        before, answered = last
        last[0], last[1] = asked, ()
        for each in asked:  # noqa: SIM110  (of few: a set or a generator costs more than it saves)
            if each in answered and each not in before:
                return True
        return False

    def answer(self, statement: int, texts: Sequence[str]) -> None:
        """What it was answered: the keys of the first row and of the last."""
        if (last := self._last.get(statement)) is not None:
            last[1] = texts


def keys(values: Any) -> list[str]:
    """Scalars that may be keys, as texts, so that 42 and "42" agree."""
    if type(values) is tuple and len(values) == 1 and type(values[0]) is int:  # most often
        return [str(values[0])]
    found: list[str] = []
    if isinstance(values, dict):
        values = list(values.values())
    elif not isinstance(values, list | tuple):
        return found
    for value in values if len(values) <= MAX_VALUES else values[:MAX_VALUES]:
        kind = type(value)
        if kind is int:
            found.append(str(value))
        elif kind is str or isinstance(value, str):
            if 0 < len(value) <= MAX_KEY:
                found.append(value)
        elif kind is not bool and isinstance(value, _NUMBERS):
            found.append(str(value))
    return found


def of_rows(rows: Iterable[Any]) -> list[str]:
    """The keys of rows."""
    return [key for row in rows for key in keys(row)]
