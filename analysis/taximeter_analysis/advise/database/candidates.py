"""Indexes that a plan gives reason to think of: from its filters, joins, sorts and vector distances.

Columns compared for equality come first, the one with most different values in front (it can then serve other
statements as a prefix), then either what is sorted by or one range. A condition on a literal may become the
WHERE of a partial index. Nothing here is advice: a planner says what each candidate would do.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from taximeter_analysis.advise.database.plan import PARAMETER, Plan, bare, split

_MAX_KEYS = 4
_COMPARED = (" = ANY ", " >= ", " <= ", " = ", " > ", " < ", " @> ", " && ", " @@ ")
_GIN = (" @> ", " && ", " @@ ")
_PLAIN = re.compile(r'^\(?("[^"]+"|[a-z_]\w*)\)?(?:::(?:text|character varying|bpchar))?$')
_COLUMN = r'("[^"]+"|[a-z_]\w*)'
#: pgvector's operator -> the name of its operator class, after the type's name
DISTANCES = {"<=>": "cosine_ops", "<->": "l2_ops", "<#>": "ip_ops", "<+>": "l1_ops"}
_DISTANCE = re.compile(r"^(?P<side>.+?) (?P<operator><=>|<->|<#>|<\+>) (?P<other>.+)$")

#: (schema, table, column) -> (different values as pg_stats has them, average width in bytes, type)
Columns = Mapping[tuple[str, str, str], tuple[float, int, str]]


@dataclass(frozen=True, order=True)
class Candidate:
    """An index that does not exist."""

    schema: str
    table: str
    keys: tuple[str, ...]  # as they stand in CREATE INDEX
    where: str = ""
    method: str = "btree"
    width: int = field(default=16, compare=False)  # bytes of a row's keys
    #: key that is an expression -> different values of the one column in it, as in pg_stats
    distinct: tuple[tuple[str, float], ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """A name that says what it is on; the same for the same index, and short enough for Postgres."""
        words = re.findall(r"[a-z_]\w*", " ".join(self.keys).lower())
        text = "_".join([self.table.strip('"').lower(), *(each for each in words if each not in _NOISE)])
        if self.where or len(text) > 50 or any(" " in key or "(" in key for key in self.keys):
            text = f"{text[:50]}_{hashlib.sha256(self.target.encode()).hexdigest()[:6]}"
        return f"{text}_idx"

    @property
    def target(self) -> str:
        """What follows ON."""
        where = f" WHERE {self.where}" if self.where else ""
        using = "" if self.method == "btree" else f" USING {self.method}"
        return f"{quoted(self.schema)}.{quoted(self.table)}{using} ({', '.join(self.keys)}){where}"

    def create(self, concurrently: bool = True) -> str:
        """The statement that makes it."""
        return f"CREATE INDEX {'CONCURRENTLY ' if concurrently else ''}{quoted(self.name)} ON {self.target}"


_NOISE = {"desc", "asc", "nulls", "first", "last", "text", "character", "varying"}


def quoted(name: str) -> str:
    """An identifier as SQL takes it."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        return name
    return '"' + name.replace('"', '""') + '"'


@dataclass
class _Wishes:
    """What a plan would like to find in an index of one table."""

    equal: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    gin: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)  # key -> condition on a literal
    sorts: list[list[str]] = field(default_factory=list)


def candidates(plan: Plan, columns: Columns) -> list[Candidate]:
    """Every index worth asking a planner about, for one plan."""
    relations = plan.relations
    wishes: dict[str, _Wishes] = defaultdict(_Wishes)
    for condition in plan.conditions():
        _read_condition(condition, relations, wishes)
    for keys in plan.sort_keys():
        _read_sort(keys, relations, wishes)
    for alias, column in _extremes(plan, relations):
        wishes[alias].sorts.append([column])
    found: dict[Candidate, None] = {}
    for alias, wish in wishes.items():
        schema, table = relations[alias]
        for keys, where, method in _sets(wish, schema, table, columns):
            width = sum(columns.get((schema, table, _name(key)), (0.0, 16, ""))[1] for key in keys)
            distinct = tuple(_distinct_of(keys, schema, table, columns)) if method == "btree" else ()
            found[Candidate(schema, table, tuple(keys), where, method, width, distinct)] = None
    return list(found)


def _distinct_of(keys: list[str], schema: str, table: str, columns: Columns) -> Iterator[tuple[str, float]]:
    for key in keys:
        inside = [
            columns[schema, table, word][0]
            for word in dict.fromkeys(re.findall(r"[a-z_]\w*", re.sub(r"'[^']*'|::[\w ]+", "", key)))
            if (schema, table, word) in columns
        ]
        if "(" in key and len(inside) == 1 and inside[0]:
            yield key, inside[0]


def _read_condition(text: str, relations: Mapping[str, object], wishes: dict[str, _Wishes]) -> None:
    for alias in relations:
        if text.endswith((" IS NULL", " IS NOT NULL")) and (key := _own(text.rpartition(" IS ")[0], alias)):
            wishes[alias].fixed[key] = _without(text, alias)
            if text.endswith(" IS NULL"):
                wishes[alias].equal.append(key)
        elif re.fullmatch(rf"(NOT )?{re.escape(alias)}\.{_COLUMN}", text):  # a boolean by itself
            wishes[alias].fixed[_without(text.removeprefix("NOT "), alias)] = _without(text, alias)
    for operator in _COMPARED:
        sides = split(text, operator)
        if len(sides) == 2:
            for side, other in (sides, sides[::-1]):
                _read_side(side, other, operator, relations, wishes)
            return


def _read_side(
    side: str, other: str, operator: str, relations: Mapping[str, object], wishes: dict[str, _Wishes]
) -> None:
    for alias in relations:
        key = _own(side, alias)
        if key is None or _mentions(other, alias):
            continue
        wish = wishes[alias]
        joined = any(_mentions(other, name) for name in relations)
        if operator in _GIN:
            wish.gin.append(key)
        elif operator in (" = ", " = ANY "):
            (wish.joined if joined else wish.equal).append(key)
            if not joined and not PARAMETER.search(other) and operator == " = ":
                wish.fixed[key] = f"{key} = {other}"
        elif not joined:
            wish.ranges.append(key)


def _read_sort(keys: list[str], relations: Mapping[str, object], wishes: dict[str, _Wishes]) -> None:
    for alias in relations:
        distance = _DISTANCE.match(bare(keys[0]))
        if distance and (key := _own(distance["side"], alias)):
            wishes[alias].vectors.append(f"{key} {distance['operator']}")
            return
        own = []
        for text in keys:
            side, _, order = text.partition(" DESC")
            if (key := _own(side, alias)) is None:
                break
            own.append(f"{key} DESC{order}" if text != side else key)
        if own:  # the first keys are enough: the rest is an incremental sort
            wishes[alias].sorts.append(own)


def _extremes(plan: Plan, relations: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """min(a.b) and max(a.b)."""
    for each in plan.walk():
        for text in each.node.get("Output", ()) if each.kind == "Aggregate" else ():
            for alias in relations:
                found = re.search(rf"\b(?:min|max)\({re.escape(alias)}\.{_COLUMN}\)", text)
                if found:
                    yield alias, found[1]


def _own(text: str, alias: str) -> str | None:
    """The text as the key of an index on the table, where it is made of that table's columns alone."""
    inner = bare(text)
    found = re.findall(rf'("[^"]+"|[A-Za-z_]\w*)\.{_COLUMN}', re.sub(r"'[^']*'", "''", inner))
    if not found or any(each[0] != alias for each in found) or PARAMETER.search(inner):
        return None
    key = _without(inner, alias)
    plain = _PLAIN.match(key)
    if plain:
        return plain[1]
    return key if re.match(r"^[a-z_]\w*\(", key) and key.endswith(")") else f"({key})"


def _without(text: str, alias: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(alias)}\.", "", text)


def _mentions(text: str, alias: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(alias)}\.", text) is not None


def _name(key: str) -> str:
    return key.partition(" ")[0].strip('"')


def _sets(wish: _Wishes, schema: str, table: str, columns: Columns) -> Iterator[tuple[list[str], str, str]]:
    def distinct(key: str) -> float:
        # As pg_stats: negative is a share of the rows, so more than any count.
        found = columns.get((schema, table, _name(key)), (0.0, 16, ""))[0]
        return 1e12 * -found if found < 0 else found

    equal = sorted(dict.fromkeys(wish.equal), key=lambda key: (-distinct(key), key))
    yield from _ordered(wish, equal, "")
    for key, condition in wish.fixed.items():
        rest = [each for each in equal if each != key]
        yield from _ordered(wish, rest, condition)
    for key in dict.fromkeys(wish.gin):
        yield [key], "", "gin"
    for text in dict.fromkeys(wish.vectors):
        key, _, operator = text.rpartition(" ")
        kind = columns.get((schema, table, _name(key)), (0.0, 16, "vector"))[2].partition("(")[0]
        kind = key.rpartition("::")[2].partition("(")[0] if "::" in key else kind
        yield [f"{key} {kind or 'vector'}_{DISTANCES[operator]}"], "", "hnsw"


def _ordered(wish: _Wishes, equal: list[str], where: str) -> Iterator[tuple[list[str], str, str]]:
    """Sets of b-tree keys: equal columns first, then an order or a range."""
    heads = [equal, *([each] for each in equal), *(equal[:count] for count in range(2, len(equal)))]
    heads += [[key, *equal] for key in dict.fromkeys(wish.joined)]
    heads += [[*equal, key] for key in dict.fromkeys(wish.joined)]
    heads += [[key] for key in dict.fromkeys(wish.joined)]
    tails = [[], *wish.sorts, *([each] for each in dict.fromkeys(wish.ranges))]
    for head in heads:
        for tail in tails:
            keys = list(dict.fromkeys([*head, *tail]))
            bases = [_name(key) for key in keys]
            if keys and len(keys) <= _MAX_KEYS and len(set(bases)) == len(bases):
                yield keys, where, "btree"
