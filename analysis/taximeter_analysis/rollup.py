"""One pass over the selected requests: their sums by service, method, route and tenant.

Totals, routes and tenants are sums of these sums, so a hundred million spans are read once for all three. Of
a segment that lies within the window not even that: compaction has kept its sums (`store.totals`).
Deviations add up too, from each group's own (Chan, Golub and LeVeque's rule), without the cancellation
that sums of squares would bring.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from taximeter_analysis.store import Store, literal
from taximeter_collector.store.totals import COLUMNS, COUNTS, REALS, SLOW_NS, SPREAD

__all__ = ["SPREAD", "deviation", "roll_up", "with_means"]

KEY = ("service", "method", "route", "tenant")

_ROLLED = f"""
CREATE OR REPLACE TEMP TABLE rolled AS
SELECT {", ".join(KEY)}, {COLUMNS.format(slow_ns="getvariable('slow_ns')")}
FROM req WHERE {{rest}} GROUP BY ALL"""

_WANTED = " AND ".join(
    f"(getvariable('{name}') IS NULL OR {name} = getvariable('{name}'))"
    for name in ("service", "tenant", "version")
)
#: Of whole segments: what they say themselves,
_WHOLE = f"INSERT INTO rolled BY NAME SELECT * EXCLUDE (version) FROM whole WHERE {_WANTED}"
_MOVED = {name: name for name in (*COUNTS, *REALS) if name.startswith("seen_")} | {
    f"split_{kind}_s": f"busy_{kind}_ns" for kind in ("db", "model", "http")
}
_DIFFERENCES = ", ".join(
    f"sum(coalesce({column}, 0) - coalesce(was_{column}, 0)){' / 1e9' if column != name else ''} AS {name}"
    for name, column in _MOVED.items()
)
#: and how their requests that were worked out again differ from that (all else of a request stays as it was).
_DIFFERENCE = f"""
INSERT INTO rolled BY NAME
SELECT service, http_method AS method, http_route AS route, tenant, {_DIFFERENCES}
FROM opened WHERE NOT ({{rest}}) GROUP BY ALL"""


def roll_up(store: Store) -> None:
    """Make the table ``rolled`` for the present selection, once."""
    if "rolled" in store.kept:
        return
    whole = whole_segments(store)
    rest = f"filename NOT IN ({', '.join(map(literal, whole))})" if whole else "true"
    store.rows(_ROLLED.format(rest=rest))
    if whole:
        store.show("whole", pa.concat_tables(whole.values()))
        store.rows(_WHOLE)
        store.rows(_DIFFERENCE.format(rest=rest))
    store.kept["rolled"] = True


def whole_segments(store: Store) -> dict[str, pa.Table]:
    """The totals of the segments that lie wholly within the window."""
    [(since, until, slow_ns)] = store.rows(
        "SELECT getvariable('since')::BIGINT, getvariable('until')::BIGINT, getvariable('slow_ns')::BIGINT"
    )
    if slow_ns != SLOW_NS:
        return {}
    return {
        name: table
        for name, table in store.totals().items()
        if (since is None or pc.min(table["first_ns"]).as_py() >= since)
        and (until is None or pc.max(table["last_ns"]).as_py() < until)
    }


def with_means(key: str) -> str:
    """``rolled`` with the common mean of each group of ``key`` (columns; empty: all): ``mid_<name>``."""
    window = f"OVER (PARTITION BY {key})" if key else "OVER ()"
    mids = ", ".join(
        f"{name} / nullif(n_{name}, 0) AS mean_{name}, "
        f"sum({name}) {window} / nullif(sum(n_{name}) {window}, 0) AS mid_{name}"
        for name in SPREAD
    )
    return f"(SELECT *, {mids} FROM rolled)"


def deviation(name: str) -> str:
    """The standard deviation of a column over the requests of a group of `with_means`; null: under two."""
    squares = f"sum(n_{name} * (var_{name} + (mean_{name} - mid_{name}) ** 2))"
    return f"CASE WHEN sum(n_{name}) > 1 THEN sqrt({squares} / (sum(n_{name}) - 1)) END"
