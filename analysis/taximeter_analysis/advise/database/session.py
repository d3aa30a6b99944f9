"""The only way to the production server: short, read-only transactions that give up before they are in
anyone's way.

EXPLAIN without ANALYZE plans and executes nothing. Every transaction is READ ONLY, waits at most half a
second for a lock and ends after `TIMEOUT_MS`. Parameters are left open: a statement is prepared and its
generic plan asked for, so nobody needs to know (or send) the values that users typed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from taximeter_analysis.advise.database.plan import Plan

TIMEOUT_MS = 5000
_LOCK_MS = 500
_NAME = "taximeter_advise"


class Refused(Exception):
    """The server did not plan a statement; the message is its own, in one line."""


def raw(text: str) -> sql.SQL:
    """SQL that is no literal of ours: deparsed by the server, or read from its statistics."""
    return sql.SQL(text)


class Session:
    """A connection for questions. Closing it leaves nothing behind."""

    def __init__(self, dsn: str, read_only: bool = True) -> None:
        """Connect. Raises ``psycopg.Error``."""
        self._connection = psycopg.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=10,
            application_name="taximeter advise db",
        )
        self._read_only = read_only

    @contextlib.contextmanager
    def transaction(self, **settings: str) -> Iterator[psycopg.Cursor[Any]]:
        """A transaction under limits, with ``settings`` for its time; always rolled back."""
        with self._connection.transaction(force_rollback=True), self._connection.cursor() as cursor:
            if self._read_only:
                cursor.execute("SET TRANSACTION READ ONLY")
            limits = {"statement_timeout": f"{TIMEOUT_MS}ms", "lock_timeout": f"{_LOCK_MS}ms"}
            for name, value in {**limits, **settings}.items():
                cursor.execute("SELECT set_config(%s, %s, true)", (name, value))
            yield cursor

    def rows(self, text: LiteralString, parameters: Any = None) -> list[tuple[Any, ...]]:
        """The rows of a catalogue query of ours. Raises ``psycopg.Error``."""
        with self.transaction() as cursor:
            return cursor.execute(text, parameters).fetchall()

    def explain(self, statement: str, settings: Mapping[str, str] | None = None, types: str = "") -> Plan:
        """The generic plan of a statement whose parameters are ``$1``, ``$2``, ...; executes nothing.

        Raises:
            Refused: the server cannot plan it (with its reason).
        """
        try:
            with self.transaction(**(settings or {})) as cursor:
                return explain(cursor, statement, types)
        except psycopg.Error as error:
            raise Refused(" ".join(str(error).split())[:200]) from error

    def execute(self, text: str, parameters: Any = None) -> None:
        """A statement that stays: on a shadow only. Raises ``psycopg.Error``."""
        if self._read_only:
            raise ValueError("this session only asks")
        self._connection.execute(raw(text), parameters)

    def close(self) -> None:
        self._connection.close()


def explain(cursor: psycopg.Cursor[Any], statement: str, types: str = "") -> Plan:
    """`Session.explain` inside a transaction that stands already. Raises ``psycopg.Error``."""
    cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    head = f"PREPARE {_NAME}{f'({types})' if types else ''} AS "
    cursor.execute(raw(head + statement))
    try:
        found = cursor.execute(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = %s", (_NAME,)
        ).fetchone()
        count = found[0] if found else 0
        values = f"({', '.join(['NULL'] * count)})" if count else ""
        answer = cursor.execute(raw(f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE {_NAME}{values}")).fetchone()
    finally:
        with contextlib.suppress(psycopg.Error):  # the transaction may have failed; it is rolled back anyway
            cursor.execute(raw(f"DEALLOCATE {_NAME}"))
    assert answer is not None
    document = answer[0] if not isinstance(answer[0], str) else json.loads(answer[0])
    return Plan(document[0]["Plan"])
