"""Two reports leaf by leaf: counts and texts exactly, sums of reals to their last bits but a few.

DuckDB adds in the order in which its threads come by, so the last bits of a sum are nobody's promise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

#: Leaves of the report that are about the report, not about the run; texts; and what only a comparison reads.
ASIDE = {
    "schema_version", "generated_at", "store", "service_filter", "tenant_filter", "version_filter",
    "notes", "quantile_method", "projection", "first", "step", "values",
}  # fmt: skip


def leaves(value: Any, where: str = "$") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in ASIDE or where == "$.window":
                yield from leaves(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        yield f"{where}.length", len(value)
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{where}[{index}]")
    else:
        yield where, value


def differences(ours: Any, theirs: Any) -> list[str]:
    """Leaves that differ: counts and texts exactly, seconds and money beyond 1e-12 of the value."""
    left, right = dict(leaves(ours)), dict(leaves(theirs))
    found = [f"{name} is only on one side" for name in left.keys() ^ right.keys()]
    for name in left.keys() & right.keys():
        one, two = left[name], right[name]
        if isinstance(one, float) and isinstance(two, float | int):
            same = math.isclose(one, two, rel_tol=1e-12, abs_tol=1e-12)
        else:
            same = type(one) is type(two) and one == two
        if not same:
            found.append(f"{name}: report {one!r}, raw {two!r}")
    return sorted(found)
