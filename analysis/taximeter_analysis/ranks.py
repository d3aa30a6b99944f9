"""The order statistics around P50, P95 and P99 of every route: the report's memory of its durations.

They carry the confidence bounds, and they are all that a later `compare` or `budget check` needs of
the requests: about 100 numbers a quantile, whether there were a thousand requests or a million.
"""

from __future__ import annotations

from taximeter_analysis.inference.quantiles import ranked_from, window
from taximeter_analysis.model import Ranked
from taximeter_analysis.store import Store

QUANTILES = (0.5, 0.95, 0.99)

Key = tuple[str | None, str | None, str | None]
EVERYTHING: Key = (None, None, None)


def by_route(store: Store) -> dict[Key, tuple[Ranked, ...]]:
    """By service, method and route."""
    return _once(store, "service, method, route")


def of_all(store: Store) -> tuple[Ranked, ...]:
    """Of all requests together; empty when there are none."""
    return _once(store, "NULL AS service, NULL AS method, NULL AS route").get(EVERYTHING, ())


def _once(store: Store, key: str) -> dict[Key, tuple[Ranked, ...]]:
    """Latency figures ask as well; the durations are sorted once."""
    if ("ranks", key) not in store.kept:
        store.kept["ranks", key] = _read(store, key)
    found: dict[Key, tuple[Ranked, ...]] = store.kept["ranks", key]
    return found


def _read(store: Store, key: str) -> dict[Key, tuple[Ranked, ...]]:
    """Every group's durations are sorted once, as a list; of it, only the ranks that `window` asks for
    are fetched. Which ranks depends on the group's size, hence two steps.
    """
    store.rows(
        f"""
        CREATE OR REPLACE TEMP TABLE sorted AS
        SELECT row_number() OVER () AS number, * FROM (
            SELECT {key}, list_sort(list(duration_ns)) AS durations FROM req GROUP BY ALL HAVING count(*) > 0)
        """
    )
    sizes = store.rows("SELECT number, len(durations), service, method, route FROM sorted")
    if not sizes:
        return {}
    windows = {number: [window(q, size) for q in QUANTILES] for number, size, *_ in sizes}
    slices = ", ".join(f"durations[w.first{i} : w.last{i} : w.step{i}]" for i in range(len(QUANTILES)))
    names = ", ".join(f"first{i}, last{i}, step{i}" for i in range(len(QUANTILES)))
    values = ", ".join(
        f"({number}, {', '.join(str(bound) for chosen in found for bound in chosen)})"
        for number, found in windows.items()
    )
    fetched = store.rows(
        f"SELECT number, {slices} FROM sorted JOIN (VALUES {values}) AS w(number, {names}) USING (number)"
    )
    store.rows("DROP TABLE sorted")
    keys = {number: (size, (service, method, route)) for number, size, service, method, route in sizes}
    result: dict[Key, tuple[Ranked, ...]] = {}
    for number, *lists in fetched:
        size, group = keys[number]
        result[group] = tuple(
            ranked_from(q, size, first, step, [value / 1e9 for value in found])
            for q, (first, _, step), found in zip(QUANTILES, windows[number], lists, strict=True)
        )
    return result
