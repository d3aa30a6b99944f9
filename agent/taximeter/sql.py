"""What a SQL statement is, cheaply: its summary, whether it counts, and its text without literals.

A summary (``SELECT guests rooms``) is the low-cardinality name the semantic conventions ask
for. This is no parser: one pass of a tokeniser that knows strings, comments and parentheses,
bounded in what it reads and returns, and cached by text. Where it cannot know whether a string
has ended (the statement is cut, a quote follows a backslash, which escapes it in some dialects
only, a comment stays open), everything that follows is taken for literal: a guest's words are
never mistaken for a statement's. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

MAX_TEXT: Final = 16_384  # characters of a statement that are looked at
MAX_SUMMARY: Final = 128
_MAX_CACHED: Final = 4096  # a longer statement is looked at each time: the cache has a size
_MAX_TARGETS: Final = 6

_WORD: Final = r"(?:[^\W\d][\w$]*|\"(?:[^\"]|\"\")+\"|`[^`]+`)"
_TOKEN: Final = re.compile(
    rf"""(?P<skip>--[^\n]*|/\*)
    |(?P<literal>
        [eE]'(?:[^'\\]++|''|\\.)*+(?P<closed>')?
        |(?:[uU]&|[bBxXnN])?'(?:[^'\\]++|''|\\(?!'))*+(?P<ended>')?
        |\$(?P<tag>(?:[^\W\d]\w*)?)\$)
    |(?P<name>{_WORD}(?:\s*\.\s*{_WORD})*)
    |(?P<number>(?:0[xXoObB]_?[0-9a-fA-F_]+|(?:\d[\d_]*)?\.?\d[\d_]*(?:[eE][+-]?\d+)?)\w*)
    |(?P<other>\$\d+|%\(\w+\)s|%s|[(),;])
    |(?P<open>["`])""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")
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


def describe(text: str) -> Statement:
    """Describe ``text``; never raises, whatever it holds."""
    return _cached(text) if len(text) <= _MAX_CACHED else _describe(text[:MAX_TEXT])


def _describe(text: str) -> Statement:
    first = operation = ""
    targets: list[str] = []
    ctes: set[str] = set()
    queries = [True]  # whether the parenthesis we are in holds a query (FROM means a table there)
    previous = before = ""
    clean: list[str] = []
    for kept, token in _tokens(text):
        clean.append(kept)
        if token is None:
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
            target = name.replace('"', "").replace("`", "")
            if target not in targets and len(targets) < _MAX_TARGETS:
                targets.append(target)
        if not (word in {"ONLY", "LATERAL"} and previous.upper() in _TARGET_AFTER):
            previous, before = name, previous
    operation = (operation if first == "WITH" else "") or first
    summary = " ".join((operation, *targets))[:MAX_SUMMARY]
    return Statement(operation, summary, "".join(clean).strip(), bool(first) and first not in _CONTROL)


_cached = lru_cache(maxsize=2048)(_describe)


def _tokens(text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Every piece of ``text`` without literals and comments, and its token if it is one."""
    at = 0
    while (token := _TOKEN.search(text, at)) is not None:
        if token.start() > at:
            yield text[at : token.start()], None
        at = token.end()
        if token["skip"] is not None:
            if token["skip"] == "/*":
                at = _comment_end(text, at)
        elif token["literal"] is not None:
            yield "?", None
            at = _literal_end(text, token)
        elif token["open"] is not None:
            yield "?", None  # an identifier that does not end, or a string of another dialect
            return
        elif token["number"] is not None:
            yield "?", None
        else:
            yield token[0], token
    yield text[at:], None


def _literal_end(text: str, token: re.Match[str]) -> int:
    if (tag := token["tag"]) is not None:
        end = text.find(f"${tag}$", token.end())
        return len(text) if end < 0 else end + len(tag) + 2
    return token.end() if token["closed"] or token["ended"] else len(text)


def _comment_end(text: str, at: int) -> int:
    depth = 1
    for mark in _COMMENT.finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)
