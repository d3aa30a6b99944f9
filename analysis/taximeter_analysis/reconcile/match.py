"""Holds both sides against each other, row by row, and asks for what explains a difference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from taximeter_analysis.reconcile import explain
from taximeter_analysis.reconcile.exports import ALL, Export
from taximeter_analysis.reconcile.model import FIGURES, Figures, Key, Reconciliation, Row, Side
from taximeter_analysis.reconcile.names import base
from taximeter_analysis.reconcile.ours import Seen

TOLERANCE = 0.001
_HALF_A_CENT = 0.005


@dataclass(frozen=True)
class Pair:
    """Both sides of one row, before it is judged. ``told``: the figures that the exports tell of that day."""

    ours: Side
    theirs: Side
    told: frozenset[str]

    def differing(self, tolerance: float) -> tuple[str, ...]:
        return tuple(name for name in FIGURES if name in self.told and not self.agrees(name, tolerance))

    def agrees(self, name: str, tolerance: float) -> bool:
        one = float(getattr(self.ours.figures, name) or 0.0)
        two = float(getattr(self.theirs.figures, name) or 0.0)
        slack = tolerance * max(abs(one), abs(two))
        if name == "cost_usd":
            slack = max(slack, _HALF_A_CENT if max(one, two) >= 1.0 else 0.0, 1e-9)
        return abs(one - two) <= slack


def reconcile(
    exports: Sequence[Export], seen: Seen, store: str, tolerance: float = TOLERANCE, now: float = 0.0
) -> Reconciliation:
    """Compare on the days and figures that the exports tell."""
    theirs, told = _theirs(exports)
    pairs = pair(theirs, told, seen.days())
    context = explain.Context(pairs, theirs, told, seen, tolerance, now)
    rows = []
    for key in sorted(pairs, key=lambda key: (key[0], key[1], key[2])):
        found = pairs[key]
        differing = found.differing(tolerance)
        reasons = explain.row(key, found, differing, context)
        rows.append(_row((key[0], str(key[1]), _name(key, found)), found, differing, reasons))
    totals = [_total(provider, pairs, tolerance) for provider in sorted({key[0] for key in pairs})]
    return Reconciliation(
        sources=tuple(str(export) for export in exports),
        store=store,
        tolerance=tolerance,
        agrees=all(row.agrees for row in rows),
        rows=tuple(rows),
        totals=tuple(totals),
        findings=tuple(explain.all_rows(context)),
    )


Told = Mapping[tuple[str, date], set[str]]


def _theirs(exports: Iterable[Export]) -> tuple[dict[Key, Side], Told]:
    sides: dict[Key, Side] = defaultdict(Side)
    told: dict[tuple[str, date], set[str]] = defaultdict(set)
    for export in exports:
        for day in export.days:
            told[export.provider, day] |= set(export.tells)
        for entry in export.entries:
            name = entry.model if entry.model == ALL else base(entry.model)
            sides[entry.provider, entry.day, name].add(entry.side)
            sides[entry.provider, entry.day, name].names.add(entry.model)
    return dict(sides), told


def pair(
    theirs: Mapping[Key, Side], told: Told, days: Mapping[tuple[str, date, str], Side]
) -> dict[Key, Pair]:
    """Both sides by provider, day and base name, on the days of the exports."""
    ours: dict[Key, Side] = defaultdict(Side)
    for (provider, day, model), side in days.items():
        if (provider, day) in told:
            ours[provider, day, base(model)].add(side)
    whole = {(provider, day) for provider, day, model in theirs if model == ALL}
    pairs: dict[Key, Pair] = {}
    for key in theirs.keys() | ours.keys():
        provider, day, model = key
        figures = set(told[provider, day])
        if (provider, day) in whole:  # money of that day is told as one sum
            figures = figures & {"cost_usd"} if model == ALL else figures - {"cost_usd"}
        mine = ours.get(key, Side())
        if model == ALL:
            mine = Side()
            for (other, that, _), side in ours.items():
                if (other, that) == (provider, day):
                    mine.add(side)
        pairs[key] = Pair(mine, theirs.get(key, Side()), frozenset(figures))
    return {key: found for key, found in pairs.items() if found.told}


def _name(key: Key, found: Pair) -> str:
    names = found.ours.names | found.theirs.names
    return next(iter(names)) if len(names) == 1 else key[2]


def _row(names: tuple[str, str, str], found: Pair, differing: tuple[str, ...], reasons: Iterable[str]) -> Row:
    theirs = Figures(**{name: getattr(found.theirs.figures, name) for name in found.told})
    return Row(*names, found.ours.figures, theirs, not differing, differing, tuple(reasons))


def _total(provider: str, pairs: Mapping[Key, Pair], tolerance: float) -> Row:
    """Sums over the rows that tell a figure: one told of half the days is not set against all of them."""
    ours, theirs = Side(), Side()
    told: set[str] = set()
    for (whose, _, _), found in pairs.items():
        if whose != provider:
            continue
        told |= found.told
        mine = Figures(**{name: getattr(found.ours.figures, name) for name in found.told})
        ours.figures.add(mine)
        theirs.figures.add(Figures(**{name: getattr(found.theirs.figures, name) for name in found.told}))
    whole = Pair(ours, theirs, frozenset(told))
    return _row((provider, "all days", "all models"), whole, whole.differing(tolerance), ())
