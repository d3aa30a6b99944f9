"""The order statistics of every route: P50, P95 and P99, and those around them.

They carry the confidence bounds, and they are all that a later `compare` or `budget check` needs of
the requests: about 160 numbers a quantile, whether there were a thousand requests or a million.

Durations and times to the first byte are read once, eight bytes each, into arrays in which every route (and
every step of the time line) has its place, and sorted around the quantiles only: the database takes
several times the time and the memory for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from taximeter_analysis.inference.quantiles import rank_of, ranked_from, window
from taximeter_analysis.model import Ranked
from taximeter_analysis.rollup import roll_up
from taximeter_analysis.store import Store

QUANTILES = (0.5, 0.95, 0.99)

#: So many groups are picked one by one; more are sorted.
_BY_MASK = 4

Key = tuple[str | None, str | None, str | None]
Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ranks:
    """Of all requests, and by service, method and route; ``first_byte`` where there is such a time."""

    of_all: tuple[Ranked, ...] = ()
    by_route: Mapping[Key, tuple[Ranked, ...]] = field(default_factory=dict)
    first_byte: Mapping[Key, tuple[int, list[float], float]] = field(default_factory=dict)
    steps: Mapping[int, Step] = field(default_factory=dict)


@dataclass
class Step:
    """The requests that began in a step of time. Durations are nanoseconds, and gone once sorted."""

    requests: int = 0
    errors: int = 0
    cost_usd: float = 0.0
    p50: int = 0
    p95: int = 0
    parts: list[Values] = field(default_factory=list, repr=False)

    def add(self, durations: Values, failed: Values, costs: Values) -> None:
        self.requests += len(durations)
        self.errors += int(np.count_nonzero(failed))
        self.cost_usd += float(np.nansum(costs))  # pairwise: the error stays in the last digit
        self.parts.append(durations)

    def settle(self) -> None:
        self.p50, self.p95 = _lowest(np.concatenate(self.parts), QUANTILES[:2])
        self.parts.clear()


Steps = defaultdict[int, Step]


class _Grouped:
    """An array with a place for each group; values come in any order."""

    def __init__(self, sizes: Sequence[int], kind: type[np.generic]) -> None:
        self.values: Values = np.empty(sum(sizes), kind)
        self._ends = np.cumsum([0, *sizes])
        self._next = self._ends[:-1].copy()
        self.label = np.min_scalar_type(len(sizes))

    def add(self, group: int, values: Values) -> None:
        at = self._next[group]
        self.values[at : at + len(values)] = values
        self._next[group] += len(values)

    def of(self, group: int) -> Values:
        return self.values[self._ends[group] : self._ends[group + 1]]


def _parts(groups: Values, *columns: Values) -> Iterator[tuple[int, list[Values]]]:
    """The columns' values of each group. Groups are of up to 16 bits: they sort in linear time."""
    present = np.flatnonzero(np.bincount(groups)).tolist()
    if len(present) <= _BY_MASK:  # as with steps of time: rows come nearly in order
        for group in present:
            chosen = groups == group
            yield group, [values[chosen] for values in columns]
        return
    order = np.argsort(groups, kind="stable")
    groups, columns = groups[order], tuple(values[order] for values in columns)
    cuts = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
    for start, end in pairwise(cuts):
        if end > start:
            yield int(groups[start]), [values[start:end] for values in columns]


def ranks(store: Store, step_ns: int = 0, first_ns: int = 0) -> Ranks:
    """The selection's order statistics, read once; by steps of time if the first to ask wants them."""
    if "ranks" not in store.kept:
        store.kept["ranks"] = _read(store, step_ns, first_ns)
    found: Ranks = store.kept["ranks"]
    return found


def _read(store: Store, step_ns: int, first_ns: int) -> Ranks:
    roll_up(store)
    store.rows(
        """
        CREATE OR REPLACE TEMP TABLE labels AS
        SELECT row_number() OVER () - 1 AS number, * FROM (
            SELECT service, method, route, sum(requests)::BIGINT AS size,
                sum(first_bytes)::BIGINT AS first_bytes
            FROM rolled GROUP BY service, method, route)
        """
    )
    routes = store.rows("SELECT service, method, route, size, first_bytes FROM labels ORDER BY number")
    if not routes:
        return Ranks()
    keys: list[Key] = [row[:3] for row in routes]
    durations = _Grouped([row[3] for row in routes], np.int64)
    first_bytes = _Grouped([row[4] for row in routes], np.float64)
    steps = _fill(store, durations, first_bytes, step_ns, first_ns)
    store.rows("DROP TABLE labels")
    found = {}
    for number, (key, row) in enumerate(zip(keys, routes, strict=True)):
        if row[4]:
            values = first_bytes.of(number)
            found[key] = (row[4], _lowest(values, QUANTILES), float(values.max()))
    del first_bytes
    by_route = {key: _ranked(durations.of(number)) for number, key in enumerate(keys)}
    return Ranks(_ranked(durations.values), by_route, found, steps)


def _fill(store: Store, durations: _Grouped, first_bytes: _Grouped, step_ns: int, first_ns: int) -> Steps:
    """One read of all requests."""
    steps: Steps = defaultdict(Step)
    of_steps = (
        f", ((start_ns - {first_ns:d}) // {step_ns:d})::USMALLINT AS step, failed, cost_usd"
        if step_ns
        else ""
    )
    for batch in store.batches(
        f"""
        SELECT number::UINTEGER AS number, duration_ns, first_byte_s{of_steps} FROM req JOIN labels
        ON req.service IS NOT DISTINCT FROM labels.service AND req.method IS NOT DISTINCT FROM labels.method
        AND req.route IS NOT DISTINCT FROM labels.route
        """
    ):
        numbers = batch["number"].to_numpy().astype(durations.label)
        took = batch["duration_ns"].to_numpy()
        waited = batch["first_byte_s"].to_numpy(zero_copy_only=False)  # NaN: has none
        for number, (their, first) in _parts(numbers, took, waited):
            durations.add(number, their)
            first_bytes.add(number, first[~np.isnan(first)])
        if step_ns:
            at = batch["step"].to_numpy()
            failed = batch["failed"].to_numpy(zero_copy_only=False)
            costs = batch["cost_usd"].to_numpy(zero_copy_only=False)
            for step, parts in _parts(at, took, failed, costs):
                steps[step].add(*parts)
    for each in steps.values():
        each.settle()
    return steps


def _lowest(values: Values, wanted: Sequence[float]) -> list[Any]:
    """Quantiles by the nearest rank; the values come into another order."""
    places = [rank_of(q, len(values)) - 1 for q in wanted]
    values.partition(sorted(set(places)))
    return list(values[places].tolist())


def _ranked(durations: Values) -> tuple[Ranked, ...]:
    """The ranks that `window` asks for, of nanoseconds, which it puts into another order."""
    windows = [window(q, len(durations)) for q in QUANTILES]
    durations.partition(sorted({rank - 1 for first, last, _ in windows for rank in (first, last)}))
    result = []
    for q, (first, last, step) in zip(QUANTILES, windows, strict=True):
        kept = np.sort(durations[first - 1 : last])[::step].tolist()
        result.append(ranked_from(q, len(durations), first, step, [value / 1e9 for value in kept]))
    return tuple(result)
