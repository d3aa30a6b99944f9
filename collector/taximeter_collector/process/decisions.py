"""Decisions on disk, beside the log of what was kept: one row for all that was decided together.

A row for each trace would cost more than deciding it. Tables::

    decided  number, first, kept, reason, at_seq, count, size, trace_ids
             number: of the decision; first: of the row's first trace among all it was made for (it is written
             in as many rows as there are requests with its spans); trace_ids: ids of ``size`` bytes each
    stage    key, value     log_id: of the first log, whose numbers at_seq and late are;
                            late: rows up to it had their late spans passed on

Earlier releases wrote a row for each trace into ``decisions``; :func:`restored` takes them over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

from taximeter_collector.log_index import Transaction
from taximeter_collector.process.tail_sampling import Decided, Decision

SCHEMA = """
CREATE TABLE IF NOT EXISTS decided (number INTEGER, first INTEGER, kept INTEGER, reason TEXT, at_seq INTEGER,
    count REAL, size INTEGER, trace_ids BLOB, PRIMARY KEY (number, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stage (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
_INSERT = "INSERT INTO decided VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_Row = tuple[int, int, bool, str, int, float, int, bytes]


def write(
    database: sqlite3.Connection, decided: Iterable[Decided], forgotten: Iterable[int], late: int
) -> None:
    """What was decided since the last time; within a transaction."""
    database.executemany(_INSERT, [row for one in decided for row in _rows(one)])
    database.executemany("DELETE FROM decided WHERE number = ?", [(number,) for number in forgotten])
    database.execute("INSERT OR REPLACE INTO stage VALUES ('late', ?)", (str(late),))


def restored(database: sqlite3.Connection, log_id: str) -> tuple[list[Decided], int]:
    """The decisions of earlier runs in their order, and ``late``: both for the first log of this id."""
    with Transaction(database):
        _take_over(database)
        state = dict(database.execute("SELECT key, value FROM stage"))
        if state.get("log_id") != log_id:  # its numbers mean nothing here, the decisions still hold
            state["late"] = "0"
            values = {"log_id": log_id, "late": "0"}
            database.executemany("INSERT OR REPLACE INTO stage VALUES (?, ?)", values.items())
            database.execute("UPDATE decided SET at_seq = 0")
    whole = [list(rows) for _, rows in groupby(_read(database), lambda one: one.number)]
    decided = [rows[0]._replace(trace_ids=[i for one in rows for i in one.trace_ids]) for rows in whole]
    return decided, int(state["late"])


def forget(database: sqlite3.Connection, trace_ids: Collection[bytes]) -> None:
    """Take these traces out of every decision; within a transaction or none."""
    for statement in SCHEMA.split(";"):
        database.execute(statement)
    _take_over(database)
    for one in list(_read(database)):
        left = [trace_id for trace_id in one.trace_ids if trace_id not in trace_ids]
        if len(left) < len(one.trace_ids):
            database.execute("DELETE FROM decided WHERE number = ? AND first = ?", (one.number, one.first))
            database.executemany(_INSERT, _rows(one._replace(trace_ids=left)))


def _rows(one: Decided) -> Iterator[_Row]:
    """One row, for all ids are of one length; or one for each length, where an old log has strange ones."""
    first = one.first
    by_size: dict[int, list[bytes]] = {}
    for trace_id in one.trace_ids:
        by_size.setdefault(len(trace_id), []).append(trace_id)
    kept, reason, at_seq, count = (
        one.decision.kept,
        one.decision.reason,
        one.decision.at_seq,
        one.decision.count,
    )
    for size, ids in by_size.items():
        yield one.number, first, kept, reason, at_seq, count, size, b"".join(ids)
        first += len(ids)


def _read(database: sqlite3.Connection) -> Iterator[Decided]:
    found = database.execute("SELECT * FROM decided ORDER BY number, first")
    for number, first, kept, reason, at_seq, count, size, joined in found:
        ids = [joined[at : at + size] for at in range(0, len(joined), size)] if size else [b""]
        yield Decided(number, Decision(bool(kept), reason, at_seq, count), ids, [], first)


def _take_over(database: sqlite3.Connection) -> None:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'decisions'").fetchone():
        return
    query = "SELECT kept, reason, at_seq, count, trace_id FROM decisions ORDER BY at_seq, kept, reason, count"
    old = database.execute(query).fetchall()
    for number, ((kept, *rest), rows) in enumerate(groupby(old, lambda row: row[:4]), 1):
        one = Decided(number, Decision(bool(kept), *rest), [row[4] for row in rows], [])
        database.executemany(_INSERT, _rows(one))
    database.execute("DROP TABLE decisions")
