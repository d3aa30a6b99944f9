"""The order statistics around P50, P95 and P99 of every route: the report's memory of its durations.

They carry the confidence bounds, and they are all that a later `compare` or `budget check` needs of
the requests: about 160 numbers a quantile, whether there were a thousand requests or a million.

All durations are read once into an array of eight bytes each, and sorted around the quantiles only: lists in
the database take several times the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from taximeter_analysis.inference.quantiles import ranked_from, window
from taximeter_analysis.model import Ranked
from taximeter_analysis.store import Store

QUANTILES = (0.5, 0.95, 0.99)

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
        CREATE OR REPLACE TEMP TABLE labels AS
        SELECT row_number() OVER () - 1 AS number, * FROM
            (SELECT service, method, route, count(*) AS size FROM req GROUP BY ALL)
        """
    )
    groups = store.rows("SELECT service, method, route, size FROM labels ORDER BY number")
    sizes = [size for *_, size in groups]
    numbers = np.empty(sum(sizes), np.min_scalar_type(len(sizes)))  # up to 16 bits they sort in linear time
    durations = np.empty(sum(sizes), np.int64)
    at = 0
    for batch in store.batches(
        """
        SELECT number::UINTEGER AS number, duration_ns FROM req JOIN labels
        ON req.service IS NOT DISTINCT FROM labels.service AND req.method IS NOT DISTINCT FROM labels.method
        AND req.route IS NOT DISTINCT FROM labels.route
        """
    ):
        numbers[at : at + batch.num_rows] = batch["number"].to_numpy()
        durations[at : at + batch.num_rows] = batch["duration_ns"].to_numpy()
        at += batch.num_rows
    store.rows("DROP TABLE labels")
    if not groups:
        return {}
    durations = durations[np.argsort(numbers, kind="stable")]
    del numbers
    result: dict[Key, tuple[Ranked, ...]] = {}
    for (*key, size), end in zip(groups, np.cumsum(sizes), strict=True):
        result[tuple(key)] = _ranked(durations[end - size : end])
    result[_EVERYTHING] = _ranked(durations)
    return result


def _ranked(durations: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Ranked, ...]:
    """The ranks that `window` asks for, of nanoseconds, which it puts into another order."""
    windows = [window(q, len(durations)) for q in QUANTILES]
    durations.partition(sorted({rank - 1 for first, last, _ in windows for rank in (first, last)}))
    result = []
    for q, (first, last, step) in zip(QUANTILES, windows, strict=True):
        kept = np.sort(durations[first - 1 : last])[::step].tolist()
        result.append(ranked_from(q, len(durations), first, step, [value / 1e9 for value in kept]))
    return tuple(result)
