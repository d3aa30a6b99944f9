"""The statements that cost most: from ``pg_stat_statements``, from the span store, or both.

The store knows statements as the code wrote them, literals and all; the server knows how often each ran since
its last reset. Placeholders of drivers (``%s``, ``?``, ``:name``) become ``$1``, ``$2``, which is what
PREPARE takes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import psycopg

from taximeter_analysis.advise.database.plan import outside_quotes
from taximeter_analysis.advise.database.session import Session
from taximeter_analysis.store import Store

_PLANNABLE = re.compile(
    r"^\s*(?:/\*.*?\*/\s*)*(SELECT|WITH|UPDATE|DELETE|INSERT)\b", re.IGNORECASE | re.DOTALL
)
_PLACEHOLDER = re.compile(r"%\((\w+)\)s|%s|(?<![:\w]):([A-Za-z_]\w*)|(?<![\w?@])\?(?![\w?|&-])|\$(\d+)")
#: what asks the server about itself: monitoring, drivers, and this very command
_CATALOGUE = re.compile(
    r"\bpg_(?:catalog\.|stat|class|index|proc|attribute|settings|prepared|extension|type|database|is_in_rec)|"
    r"\bset_config\(|\bcurrent_setting\(|\bhypopg_|\binformation_schema\.",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"\b(LIMIT|FETCH\s+FIRST)\s+(?:\(\s*)?\$\d+(?:::\w+)?(?:\s*\))?", re.IGNORECASE)
_OFFSET = re.compile(r"\bOFFSET\s+\$\d+(?:::\w+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """A statement with what it cost; ``text`` as it was found, ``planned`` as it is given to EXPLAIN."""

    text: str
    planned: str
    calls: int
    total_s: float
    rows: float | None  # a call, where known
    source: str

    @property
    def mean_s(self) -> float:
        return self.total_s / self.calls if self.calls else 0.0


def numbered(text: str) -> str:
    """The statement with ``$1``, ``$2`` for whatever its driver writes.

    >>> numbered("SELECT 1 FROM a WHERE b = %s AND c = %(c)s AND d = %(c)s")
    'SELECT 1 FROM a WHERE b = $1 AND c = $2 AND d = $2'
    """
    if "%%" in text and "%s" in text:
        text = text.replace("%%", "%")
    free = {at for at, _ in outside_quotes(text)}
    names: dict[str, int] = {}
    count = max((int(each) for each in re.findall(r"\$(\d+)", text)), default=0)
    out, start = [], 0
    for found in _PLACEHOLDER.finditer(text):
        if found.start() not in free or found[3]:
            continue
        name = found[1] or found[2]
        if name in names:
            number = names[name]
        else:
            count += 1
            number = count
            if name:
                names[name] = number
        out += [text[start : found.start()], f"${number}"]
        start = found.end()
    return "".join([*out, text[start:]])


def plannable(text: str, rows: float | None) -> str:
    """What EXPLAIN is given: LIMIT with the number of rows that came, since an open one is taken for 10 %."""
    limit = max(1, math.ceil(rows)) if rows is not None else 10
    closed = _OFFSET.sub("OFFSET 0", _LIMIT.sub(rf"\1 {limit}", numbered(text)))
    return renumbered(closed.rstrip().rstrip(";"))[0]


def renumbered(text: str) -> tuple[str, list[int]]:
    """(the text with its parameters counted from 1 without gaps, their old numbers).

    >>> renumbered("a = $3 AND b = $1 AND c = $3")
    ('a = $2 AND b = $1 AND c = $2', [1, 3])
    """
    old = sorted({int(each) for each in re.findall(r"\$(\d+)", text)})
    return re.sub(r"\$(\d+)", lambda found: f"${old.index(int(found[1])) + 1}", text), old


def make(text: str, calls: int, total_s: float, rows: float | None, source: str) -> Statement | None:
    """A statement, or None where there is nothing to plan (SET, COPY, BEGIN, our own questions)."""
    if not _PLANNABLE.match(text) or _CATALOGUE.search(text):
        return None
    return Statement(text, plannable(text, rows), calls, total_s, rows, source)


def from_server(session: Session, limit: int) -> tuple[list[Statement], list[str]]:
    """(the dearest statements of this database by ``pg_stat_statements``, notes)."""
    try:
        found = session.rows(
            "SELECT query, calls::bigint, total_exec_time / 1000, rows::float8 / greatest(calls, 1) "
            "FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = "
            "current_database()) "
            "ORDER BY total_exec_time DESC LIMIT %s",
            (limit * 3,),
        )
    except psycopg.Error as error:
        return [], [
            f"pg_stat_statements cannot be read ({_line(error)}); statements come from the span store alone"
        ]
    notes = []
    hidden = sum(1 for text, *_ in found if text == "<insufficient privilege>")
    if hidden:
        notes.append(f"{hidden} statements of other roles are hidden: GRANT pg_read_all_stats to this role")
    made = (make(text, calls, total, rows, "server") for text, calls, total, rows in found if text)
    return [each for each in made if each is not None][:limit], notes


def from_store(store: Store, limit: int) -> list[Statement]:
    """The dearest statements of the span store."""
    found = store.rows(
        """
        SELECT db_statement, count(*), sum(duration_ns) / 1e9, avg(db_rows) FROM spans
        WHERE db_statement IS NOT NULL AND db_system = 'postgresql' AND status <> 'error'
        GROUP BY db_statement ORDER BY 3 DESC LIMIT ?
        """,
        [limit * 3],
    )
    made = (make(text, calls, total, rows, "store") for text, calls, total, rows in found)
    return [each for each in made if each is not None][:limit]


def merged(statements: Iterable[Statement], limit: int) -> list[Statement]:
    """One list, dearest first; a statement that both know is the store's text (which has its literals)."""
    known: dict[str, Statement] = {}
    for each in statements:
        key = re.sub(r"\$\d+(?:::\w+)?|'[^']*'|\b\d+\b|\s+", "", each.planned).lower()
        other = known.get(key)
        if other is None:
            known[key] = each
        else:
            text = each if each.source == "store" else other
            longest = max(each, other, key=lambda one: one.total_s)
            known[key] = replace(text, calls=longest.calls, total_s=longest.total_s)
    return sorted(known.values(), key=lambda each: -each.total_s)[:limit]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
