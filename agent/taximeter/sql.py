"""What a SQL statement is, cheaply: its summary, whether it counts, and its text without literals.

A summary (``SELECT guests rooms``) is the low-cardinality name the semantic conventions ask
for. This is no parser: one pass of a tokeniser that knows strings, comments and parentheses,
bounded in what it reads and returns, and cached by text. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

MAX_TEXT: Final = 16_384  # characters of a statement that are looked at
MAX_SUMMARY: Final = 128
_MAX_TARGETS: Final = 6

_STRING: Final = r"[eE]?'(?:[^'\\]|''|\\.)*'|\$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$"
_TOKEN: Final = re.compile(
    rf"""(?P<skip>--[^\n]*|/\*.*?\*/)
    |(?P<literal>{_STRING})
    |(?P<name>(?:[A-Za-z_][\w$]*|"(?:[^"]|"")+")(?:\s*\.\s*(?:[A-Za-z_][\w$]*|"(?:[^"]|"")+"))*)
    |(?P<number>\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b)
    |(?P<other>\$\d+|%\(\w+\)s|%s|[(),;])""",
    re.VERBOSE | re.DOTALL,
)
_VERBS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
_TARGET_AFTER: Final = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "CALL", "COPY", "USING"})
_NO_TARGET: Final = frozenset({"SELECT", "LATERAL", "ONLY", "SET", "OF", "NOWAIT", "SKIP", "IF", "UNNEST"})
#: Transaction control: not what the user asks of the database, and never counted.
_CONTROL: Final = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"})


class Statement(NamedTuple):
    """What is known of one statement text."""

    operation: str  # SELECT, INSERT, ...; empty where there is no statement
    summary: str  # "SELECT guests"
    text: str  # literals replaced by "?"
    counted: bool  # False for transaction control and for the empty statement of a pool's check


@lru_cache(maxsize=2048)
def describe(text: str) -> Statement:
    """Describe ``text``; never raises, whatever it holds."""
    text = text[:MAX_TEXT]
    first = operation = ""
    targets: list[str] = []
    ctes: set[str] = set()
    queries = [True]  # whether the parenthesis we are in holds a query (FROM means a table there)
    previous = before = ""
    for token in _TOKEN.finditer(text):
        if token["skip"] or token["literal"] or token["number"]:
            continue
        if (other := token["other"]) is not None:
            if other == "(":
                queries.append(False)
            elif other == ")" and len(queries) > 1:
                queries.pop()
            previous, before = other, previous
            continue
        name = token["name"]
        word = name.upper()
        first = first or word
        if word in _VERBS:
            queries[-1] = True
            if len(queries) == 1 and not operation and previous != "FOR":
                operation = word
        if word == "AS" and first == "WITH" and before in {"WITH", ",", "RECURSIVE"}:
            ctes.add(previous)
        is_target = (
            previous.upper() in _TARGET_AFTER
            and queries[-1]
            and before.upper() != "FOR"  # SELECT ... FOR UPDATE
            and word not in _NO_TARGET
        )
        if is_target and name not in ctes:
            target = name.replace('"', "")
            if target not in targets and len(targets) < _MAX_TARGETS:
                targets.append(target)
        if not (word in {"ONLY", "LATERAL"} and previous.upper() in _TARGET_AFTER):
            previous, before = name, previous
    operation = (operation if first == "WITH" else "") or first
    summary = " ".join((operation, *targets))[:MAX_SUMMARY]
    return Statement(operation, summary, _without_literals(text), bool(first) and first not in _CONTROL)


def _without_literals(text: str) -> str:
    def replace(token: re.Match[str]) -> str:
        return "?" if token["literal"] or token["number"] else "" if token["skip"] else token[0]

    return _TOKEN.sub(replace, text).strip()
