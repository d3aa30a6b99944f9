"""Thirty routes, drawn from a seed: fifteen whose calls need each other, fifteen with calls that do not.

A route is a list of steps; a step says which earlier ones it *needs*, and in what way. The service runs the
steps from this table, and the judge takes from it which pairs of calls may never run at once. The ways are as
real code hides a dependency: some a trace shows as a value, some only by what never happens.

Ids are as in a real database: each table has its own, so that an equal value means something. Some are asked
for often, most seldom.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

SEED = 2026
TABLES = 6
ROWS = 20_000
SPACE = 1_000_000  # ids of table 3 are 3,000,001 and so on

Way = Literal[
    "value",  # a column of the answer is the parameter
    "computed",  # a function of the answer is
    "list",  # all ids of the answer are
    "guard",  # nothing more is asked when the answer is empty
    "condition",  # nor when the answer says so
    "write",  # reads what the earlier has written
    "lock",  # reads under the earlier's lock
    "transaction",  # reads in the snapshot of an explicit transaction
    "vector",  # searches with the vector that was asked for
    "model",  # asks what a model's answer is about
]
WAYS: tuple[Way, ...] = (
    *("value", "computed", "list", "guard", "condition"),
    *("write", "lock", "transaction", "vector", "model"),
)


@dataclass(frozen=True)
class Step:
    """One call. ``needs``: numbers of earlier steps; ``way``: how it needs the first of them."""

    kind: Literal["read", "write", "lock", "embed", "model", "search"]
    table: int
    needs: tuple[int, ...] = ()
    way: Way | None = None


@dataclass(frozen=True)
class Route:
    """A route and its steps, in the order of the code."""

    number: int
    dependent: bool
    steps: tuple[Step, ...]

    @property
    def path(self) -> str:
        return f"/route-{self.number:02d}"

    def statement(self, at: int) -> str:
        """The SQL of a step: its own text, so that no two routes share one."""
        step = self.steps[at]
        if step.kind == "write":
            return f"UPDATE t{step.table} SET hits = hits + 1 WHERE id = %s"
        target = next((each.table for each in self.steps if each.needs[:1] == (at,)), step.table)
        source, where = f"t{step.table} t", "WHERE t.id = %s"
        if step.way == "list":
            where = "WHERE t.id = ANY(%s)"
        if step.kind == "search":
            source, where = "(SELECT * FROM faq ORDER BY embedding <=> %s::vector LIMIT 1) t", ""
        lock = "FOR UPDATE OF t" if step.kind == "lock" else ""
        return (
            f"SELECT t.id, t.ref{target}, t.label AS answer_{self.number:02d}_{at} FROM {source} "
            f"CROSS JOIN LATERAL pg_sleep(t.delay) {where} {lock}".strip()
        )

    def bound(self) -> set[tuple[int, int]]:
        """Pairs of steps of which the later needs the earlier, directly or not."""
        found: set[tuple[int, int]] = set()
        for later, step in enumerate(self.steps):
            for earlier in step.needs:
                found |= {(earlier, later)} | {(first, later) for first, last in found if last == earlier}
        return found


def routes(seed: int = SEED) -> list[Route]:
    """All thirty."""
    draw = random.Random(seed)
    ways = [*WAYS, *draw.sample(WAYS, 5)]
    shapes = [draw.choice(_SHAPES) for _ in range(15 - len(_SHAPES))] + list(_SHAPES)
    draw.shuffle(shapes)
    found = [Route(number, True, _chain(way, draw)) for number, way in enumerate(ways)]
    for number, shape in enumerate(shapes, 15):
        tables = draw.sample(range(TABLES), len(shape))
        for at, needs in enumerate(shape):
            if needs and needs in shape[:at]:  # both ask for what one reference names: of one table
                tables[at] = tables[shape.index(needs)]
        steps = (
            Step("embed", table) if needs is None else Step("read", table, needs, "value" if needs else None)
            for table, needs in zip(tables, shape, strict=True)
        )
        found.append(Route(number, False, tuple(steps)))
    return found


#: What each call of an independent route needs: nothing, or the value of an earlier one. None: an embedding.
_SHAPES: tuple[tuple[tuple[int, ...] | None, ...], ...] = (
    ((), ()),
    ((), (), ()),
    ((), (), (), ()),
    ((), (), None),
    ((), (0,), (0,)),  # one, then two by its answer
    ((), (0,), (), (2,)),  # two chains
    ((), (0,), ()),  # a chain and one more
    ((), (), (0,), (1,)),  # two chains, interleaved
)


def _chain(way: Way, draw: random.Random) -> tuple[Step, ...]:
    table, other, last = draw.sample(range(TABLES), 3)
    if way == "write":
        return Step("write", table), Step("read", table, (0,), way)
    if way == "lock":
        return Step("lock", table), Step("read", other, (0,), way)
    if way == "vector":
        return Step("embed", table), Step("search", table, (0,), way)
    if way == "model":
        return Step("read", table), Step("model", table, (0,), "value"), Step("read", other, (1,), way)
    third = (Step("read", last, (1,), "value"),) if draw.random() < 0.4 else ()
    return Step("read", table), Step("read", other, (0,), way), *third


def key(draw: random.Random, step: Step) -> int:
    """An id of the step's table that a request asks for: few often, most seldom."""
    return step.table * SPACE + int(ROWS ** draw.random())
