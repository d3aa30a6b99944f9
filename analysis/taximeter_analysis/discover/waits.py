"""The hint *sequential*: awaits that follow one another though none needs what the one before gave.

Two shapes, told the same way in every language: neighbouring statements that each bind what they await, the
later using no name that an earlier of the row binds; and a loop that awaits a call in each round, unless it
leaves early (a search, a retry). A hint: whether the calls may change places, only traces can say (`advise`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from taximeter_analysis.discover.model import Sighting


@dataclass(frozen=True)
class Step:
    """A statement of a block. ``awaits``: it is one that binds what it awaits from a call."""

    line: int
    last_line: int
    awaits: bool
    binds: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    what: str = ""


def rows(steps: Sequence[Step]) -> Iterator[Sighting]:
    """A sighting for each row of two or more neighbours that do not need each other."""
    row: list[Step] = []
    for step in (*steps, Step(0, 0, awaits=False)):
        bound = {name for each in row for name in each.binds}
        if step.awaits and not bound & step.uses:
            row.append(step)
            continue
        if len(row) > 1:
            yield _sighting(row)
        row = [step] if step.awaits else []


def loop(line: int, last_line: int, what: str) -> Sighting:
    """The sighting of a loop that awaits in each round."""
    return Sighting("sequential", line, last_line, f"a call awaited in each round: {what}", None)


def _sighting(row: Sequence[Step]) -> Sighting:
    what = ", ".join(_unique(step.what for step in row))
    return Sighting("sequential", row[0].line, row[-1].last_line, f"{len(row)} in a row: {what}", None)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
