"""A plan as EXPLAIN (VERBOSE, FORMAT JSON) gives it, and the conditions in it.

The server writes conditions out in full and with every column's alias, whatever views, functions and CTEs
they came through; so indexes can be thought of from the plan, and no SQL need be parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_CONDITIONS = ("Filter", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Order By")
_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")


@dataclass(frozen=True, eq=False)
class Plan:
    """A node of a plan with all below it."""

    node: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.node["Node Type"])

    @property
    def cost(self) -> float:
        return float(self.node["Total Cost"])

    @property
    def rows(self) -> float:
        return float(self.node["Plan Rows"])

    @property
    def below(self) -> list[Plan]:
        return [Plan(each) for each in self.node.get("Plans", ())]

    def walk(self) -> Iterator[Plan]:
        """This node and all below it, from the top."""
        yield self
        for each in self.below:
            yield from each.walk()

    @cached_property
    def indexes(self) -> frozenset[str]:
        """Names of the indexes it uses."""
        return frozenset(each.node["Index Name"] for each in self.walk() if "Index Name" in each.node)

    @cached_property
    def relations(self) -> dict[str, tuple[str, str]]:
        """alias -> (schema, table) of every table that is scanned."""
        return {
            each.node["Alias"]: (each.node["Schema"], each.node["Relation Name"])
            for each in self.walk()
            if "Relation Name" in each.node and "Schema" in each.node
        }

    def conditions(self) -> Iterator[str]:
        """Every single condition, without the ANDs that tie them."""
        for each in self.walk():
            for name in _CONDITIONS:
                if name in each.node:
                    yield from conjuncts(each.node[name])

    def sort_keys(self) -> Iterator[list[str]]:
        """The keys of every sort."""
        for each in self.walk():
            if "Sort Key" in each.node:
                yield list(each.node["Sort Key"])

    def shape(self) -> str:
        """Kinds and tables, without costs: to tell whether two plans are the same."""
        name = self.node.get("Relation Name") or self.node.get("Index Name") or ""
        inner = ", ".join(each.shape() for each in self.below)
        return self.kind + (f" {name}" if name else "") + (f" ({inner})" if inner else "")

    def scans(self) -> list[str]:
        """How each table is read, in order of names: ``guests: Seq Scan``."""
        return sorted(f"{each.node['Alias']}: {each.kind}" for each in self.walk() if each.kind in _SCANS)

    def text(self) -> str:
        """The plan for people, a line a node."""
        return "\n".join(_lines(self, 0))


def _lines(plan: Plan, depth: int) -> Iterator[str]:
    node = plan.node
    line = ("  " * depth) + ("-> " if depth else "") + plan.kind
    if "Index Name" in node:
        line += f" using {node['Index Name']}"
    if "Relation Name" in node:
        line += f" on {node['Relation Name']}"
    yield f"{line}  (cost {plan.cost:,.0f}, rows {plan.rows:,.0f})"
    for name in (*_CONDITIONS, "Sort Key"):
        if name in node:
            value = node[name] if isinstance(node[name], str) else ", ".join(node[name])
            yield f"{'  ' * (depth + 1)}   {name}: {value[:160]}"
    for each in plan.below:
        yield from _lines(each, depth + 1)


def conjuncts(text: str) -> list[str]:
    """The parts of ``(a) AND (b) AND (c)``, without their brackets; anything else is one part.

    >>> conjuncts("((o.paid = true) AND (o.at > $1))")
    ['o.paid = true', 'o.at > $1']
    """
    text = _bare(text.strip())
    parts = split(text, " AND ")
    return [text] if len(parts) == 1 else [each for part in parts for each in conjuncts(part)]


def split(text: str, by: str) -> list[str]:
    """Split at ``by`` outside of brackets and quotes."""
    depth, start, parts = 0, 0, []
    for at, letter in outside_quotes(text):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and text.startswith(by, at):
            parts.append(text[start:at])
            start = at + len(by)
    parts.append(text[start:])
    return parts


def outside_quotes(text: str) -> Iterator[tuple[int, str]]:
    """(place, letter) of everything that stands in no literal and no quoted name."""
    quote = ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            yield at, letter


def _bare(text: str) -> str:
    """Without brackets around the whole."""
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for at, letter in outside_quotes(text):
            depth += (letter == "(") - (letter == ")")
            if depth == 0 and at < len(text) - 1:
                return text
        text = text[1:-1].strip()
    return text


bare = _bare
PARAMETER = re.compile(r"\$\d+")
