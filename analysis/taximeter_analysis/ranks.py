"""The order statistics around P50, P95 and P99 of every route: the report's memory of its durations.

They carry the confidence bounds, and they are all that a later `compare` or `budget check` needs of
the requests: about 160 numbers a quantile, whether there were a thousand requests or a million.

Durations are sorted once, by route. Those of all requests together are merged from the sorted ones where
that is needed only: samples of each route bound how many values lie below a duration, so that a thin slice
of each certainly holds the wanted ranks.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from taximeter_analysis.inference.quantiles import ranked_from, window
from taximeter_analysis.model import Ranked
from taximeter_analysis.store import Store

QUANTILES = (0.5, 0.95, 0.99)
SAMPLES = 1000  # of each route

Key = tuple[str | None, str | None, str | None]
_EVERYTHING: Key = (None, None, "\0all")  # no route is named so


def by_route(store: Store) -> dict[Key, tuple[Ranked, ...]]:
    """By service, method and route."""
    return {key: found for key, found in _once(store).items() if key != _EVERYTHING}


def of_all(store: Store) -> tuple[Ranked, ...]:
    """Of all requests together; empty when there are none."""
    return _once(store).get(_EVERYTHING, ())


def _once(store: Store) -> dict[Key, tuple[Ranked, ...]]:
    """Latency figures ask as well; the durations are sorted once."""
    if "ranks" not in store.kept:
        store.kept["ranks"] = _read(store)
    found: dict[Key, tuple[Ranked, ...]] = store.kept["ranks"]
    return found


def _read(store: Store) -> dict[Key, tuple[Ranked, ...]]:
    store.rows(
        """
        CREATE OR REPLACE TEMP TABLE sorted AS
        SELECT row_number() OVER () AS number, * FROM (
            SELECT service, method, route, list_sort(list(duration_ns)) AS durations FROM req GROUP BY ALL)
        """
    )
    groups = store.rows(
        f"""
        SELECT number, (service, method, route), len(durations) AS size,
            greatest(1, size // {SAMPLES}) AS step, durations[1 : size : greatest(1, size // {SAMPLES})]
        FROM sorted
        """
    )
    if not groups:
        return {}
    result = _windows(store, {number: (size, tuple(key)) for number, key, size, *_ in groups})
    result[_EVERYTHING] = _together(store, [Samples(number, *rest) for number, _, *rest in groups])
    store.rows("DROP TABLE sorted")
    return result


def _windows(store: Store, groups: dict[int, tuple[int, Key]]) -> dict[Key, tuple[Ranked, ...]]:
    """The ranks that `window` asks for, of every group. Which they are depends on its size."""
    windows = {number: [window(q, size) for q in QUANTILES] for number, (size, _) in groups.items()}
    slices = ", ".join(f"durations[w.first{i} : w.last{i} : w.step{i}]" for i in range(len(QUANTILES)))
    names = ", ".join(f"first{i}, last{i}, step{i}" for i in range(len(QUANTILES)))
    values = ", ".join(
        f"({number}, {', '.join(str(bound) for chosen in found for bound in chosen)})"
        for number, found in windows.items()
    )
    fetched = store.rows(
        f"SELECT number, {slices} FROM sorted JOIN (VALUES {values}) AS w(number, {names}) USING (number)"
    )
    result: dict[Key, tuple[Ranked, ...]] = {}
    for number, *lists in fetched:
        size, key = groups[number]
        result[key] = tuple(
            ranked_from(q, size, first, step, [value / 1e9 for value in found])
            for q, (first, _, step), found in zip(QUANTILES, windows[number], lists, strict=True)
        )
    return result


def _together(store: Store, groups: Sequence[Samples]) -> tuple[Ranked, ...]:
    count = sum(group.size for group in groups)
    result = []
    for q in QUANTILES:
        first, last, step = window(q, count)
        slices = slices_of(groups, first, last)
        values = ", ".join(f"({number}, {skip + 1}, {end})" for number, (skip, end) in slices.items())
        rows = store.rows(
            "SELECT durations[w.first : w.last] FROM sorted "
            f"JOIN (VALUES {values}) AS w(number, first, last) USING (number)"
        )
        found = sorted(value for (part,) in rows for value in part)
        skipped = sum(skip for skip, _ in slices.values())
        kept = [found[rank - skipped - 1] / 1e9 for rank in range(first, last + 1, step)]
        result.append(ranked_from(q, count, first, step, kept))
    return tuple(result)


@dataclass(frozen=True)
class Samples:
    """A sorted group of values, of which each ``step``-th is known: ranks 1, 1 + step, ..."""

    number: int
    size: int
    step: int
    values: Sequence[int]

    def below(self, value: float) -> tuple[int, int]:
        """The least and the most values that can be less than this one."""
        found = bisect.bisect_left(self.values, value)
        return self._bounds(found)

    def upto(self, value: float) -> tuple[int, int]:
        """The least and the most that can be at most this one."""
        return self._bounds(bisect.bisect_right(self.values, value))

    def _bounds(self, found: int) -> tuple[int, int]:
        return ((found - 1) * self.step + 1, min(found * self.step, self.size)) if found else (0, 0)


def slices_of(groups: Sequence[Samples], first: int, last: int) -> dict[int, tuple[int, int]]:
    """How many values of each group to skip, and up to which to read, to have ranks ``first`` to ``last``.

    All that is skipped is less than the value of rank ``first`` among all groups together.
    """
    values = sorted({value for group in groups for value in group.values})
    # The largest known value under which there are surely fewer than ``first`` ...
    place = bisect.bisect_left(
        values, first, key=lambda value: sum(group.below(value)[1] for group in groups)
    )
    low = values[place - 1] if place else values[0]
    # ... and the smallest up to which there are surely ``last``.
    place = bisect.bisect_left(values, last, key=lambda value: sum(group.upto(value)[0] for group in groups))
    high = values[place] if place < len(values) else float("inf")
    return {group.number: (group.below(low)[0], group.upto(high)[1]) for group in groups}
