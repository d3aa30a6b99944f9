"""Choosing indexes: few, short, and each worth it to a statement that costs.

For each statement the cheapest candidate is taken, and of those about as cheap the one with fewest keys; then
whether a second (on a joined table) is worth as much again. Over all statements, an index goes that others
can stand in for. What is left is judged with all of it in place: an index is advised only for statements
whose plan then uses it and whose cost fell by `MIN_GAIN` or more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taximeter_analysis.advise.database.candidates import Candidate
from taximeter_analysis.advise.database.plan import Plan
from taximeter_analysis.advise.database.planner import Planner
from taximeter_analysis.advise.database.session import Refused
from taximeter_analysis.advise.database.workload import Statement

MIN_GAIN = 5.0
_SECOND_GAIN = 1.5  # what another index must add
_SAME = 1.1  # costs this near are the same
_SLACK = 20.0  # in units of cost: five pages read at random
_PICKS = 3
_MIN_GAINS = {"gin": 2.0}  # the planner knows nothing of what is contained, and assumes much


@dataclass(frozen=True)
class Effect:
    """What all advised indexes together do to one statement."""

    statement: Statement
    before: Plan
    after: Plan

    @property
    def gain(self) -> float:
        """How many times less it costs."""
        return self.before.cost / max(self.after.cost, 1e-9)


@dataclass(frozen=True)
class Advised:
    """An index and the statements that it serves."""

    index: Candidate
    effects: tuple[Effect, ...]


def search(
    planner: Planner, wanted: Mapping[Statement, Sequence[Candidate]]
) -> tuple[list[Advised], list[Effect]]:
    """(advised indexes, the effect on every statement, served or not).

    ``wanted`` has the candidates of each statement that the planner knows.
    """
    base: dict[Statement, Plan] = {}
    picked: dict[Statement, list[Candidate]] = {}
    for statement, candidates in wanted.items():
        with contextlib.suppress(Refused):
            base[statement] = planner.plan(statement.planned, ())
            picked[statement] = _pick(planner, statement, candidates, base[statement].cost)
    chosen = _fewer(planner, picked)
    effects = [
        Effect(statement, plan, planner.plan(statement.planned, chosen) if chosen else plan)
        for statement, plan in base.items()
    ]
    advised = _served(chosen, effects)
    if len(advised) < len(chosen):  # what serves nobody goes, and the rest is judged without it
        kept = [each.index for each in advised]
        effects = [
            Effect(
                each.statement,
                each.before,
                planner.plan(each.statement.planned, kept) if kept else each.before,
            )
            for each in effects
        ]
        advised = _served(kept, effects)
    return sorted(advised, key=lambda each: -sum(one.statement.total_s for one in each.effects)), effects


def _served(chosen: Sequence[Candidate], effects: Sequence[Effect]) -> list[Advised]:
    """Each index with the statements whose plans use it and cost enough less; without any, it is left out."""
    found = []
    for index in chosen:
        served = [
            each for each in effects if index.name in each.after.indexes and each.gain >= _needed([index])
        ]
        if served:
            found.append(Advised(index, tuple(served)))
    return found


def _pick(
    planner: Planner, statement: Statement, candidates: Sequence[Candidate], cost: float
) -> list[Candidate]:
    start = cost
    chosen: list[Candidate] = []
    while len(chosen) < _PICKS:
        costs = {}
        for each in candidates:
            if each not in chosen:
                with contextlib.suppress(Refused):
                    costs[each] = planner.plan(statement.planned, [*chosen, each]).cost
        if not costs:
            break
        least = min(costs.values())
        if cost / max(least, 1e-9) < _SECOND_GAIN:
            break
        near = [each for each, value in costs.items() if value <= least * _SAME + _SLACK]
        best = min(near, key=lambda each: (len(each.keys) + (2 if each.where else 0), costs[each], each))
        chosen.append(best)
        cost = costs[best]
    return chosen if start / max(cost, 1e-9) >= _needed(chosen) else []


def _needed(chosen: Sequence[Candidate]) -> float:
    """How many times less a statement must cost."""
    return min((_MIN_GAINS.get(each.method, MIN_GAIN) for each in chosen), default=MIN_GAIN)


def _fewer(planner: Planner, picked: Mapping[Statement, Sequence[Candidate]]) -> list[Candidate]:
    """The picks of all statements, less those that another can stand in for."""
    chosen = sorted(
        {each for picks in picked.values() for each in picks}, key=lambda each: (len(each.keys), each)
    )
    for each in list(chosen):
        rest = [other for other in chosen if other != each]
        if not any((other.schema, other.table) == (each.schema, each.table) for other in rest):
            continue
        touched = [statement for statement, picks in picked.items() if each in picks]
        if all(
            planner.plan(one.planned, rest).cost <= planner.plan(one.planned, chosen).cost * _SAME + _SLACK
            for one in touched
        ):
            chosen = rest
    return chosen
