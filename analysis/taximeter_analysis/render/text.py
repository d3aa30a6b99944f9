"""Pieces of Markdown and XML from strangers' strings: what came from a route name stays a route name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from taximeter_analysis.render.units import plain

_MARKUP = "\\`*_{}[]<>#|!~&$"


def markdown(text: str | None) -> str:
    """A string as literal Markdown text, on one line."""
    return "".join(f"\\{letter}" if letter in _MARKUP else letter for letter in plain(text, 300))


def code(text: str | None, limit: int = 300) -> str:
    """A string as Markdown code within a table's cell; a backtick in it becomes an apostrophe."""
    return f"`{plain(text, limit).replace('`', chr(39)).replace('|', '¦')}`"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a Markdown table; all but the first ``left`` columns are aligned right."""
    rule = ["---" if index < left else "---:" for index in range(len(columns))]
    lines = [columns, rule, *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def xml(text: str) -> str:
    """A string without the characters that XML 1.0 cannot hold."""
    return "".join(
        letter if letter in "\t\n" or unicodedata.category(letter) not in ("Cc", "Cs", "Cn") else "\ufffd"
        for letter in text
    )
