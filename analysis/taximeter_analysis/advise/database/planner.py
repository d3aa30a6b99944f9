"""Who says what an index would do: the server itself with hypopg, or a shadow of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import psycopg

from taximeter_analysis.advise.database.candidates import Candidate
from taximeter_analysis.advise.database.plan import Plan
from taximeter_analysis.advise.database.session import Refused, Session, explain, raw


class Planner(Protocol):
    """Plans statements as if some candidates existed."""

    label: str

    def declare(self, candidates: Sequence[Candidate]) -> dict[Candidate, str]:
        """Make candidates known; returns those that cannot be, each with the reason."""
        ...

    def plan(self, statement: str, chosen: Collection[Candidate]) -> Plan:
        """The plan with the chosen ones, under their `Candidate.name`. Raises `Refused`."""
        ...


class Hypothetical:
    """hypopg: indexes that exist for this connection's EXPLAIN alone, on the server itself."""

    label = "hypopg on the server"

    def __init__(self, session: Session) -> None:
        self._session = session

    def declare(self, candidates: Sequence[Candidate]) -> dict[Candidate, str]:
        refused = {}
        for each in candidates:
            try:
                with self._session.transaction() as cursor:
                    cursor.execute("SELECT hypopg_reset()")
                    cursor.execute("SELECT * FROM hypopg_create_index(%s)", (each.create(False),))
            except psycopg.Error as error:
                refused[each] = " ".join(str(error).split())[:120]
        return refused

    def plan(self, statement: str, chosen: Collection[Candidate]) -> Plan:
        names = {}
        try:
            with self._session.transaction() as cursor:
                cursor.execute("SELECT hypopg_reset()")
                for each in chosen:
                    row = cursor.execute(
                        "SELECT indexname FROM hypopg_create_index(%s)", (each.create(False),)
                    ).fetchone()
                    names[row[0] if row else ""] = each.name
                plan = explain(cursor, statement)
                cursor.execute("SELECT hypopg_reset()")
        except psycopg.Error as error:
            raise Refused(" ".join(str(error).split())[:200]) from error
        for node in plan.walk():
            name = node.node.get("Index Name")
            if name in names:
                node.node["Index Name"] = names[name]
        return plan


def has_hypopg(session: Session) -> bool:
    """Whether the extension is created in this database."""
    return bool(session.rows("SELECT 1 FROM pg_extension WHERE extname = 'hypopg'"))


class Shadow:
    """Real indexes on tables without rows, one set of them valid at a time (see `shadow`)."""

    label = "a shadow with the server's statistics"

    def __init__(self, session: Session, settings: dict[str, str]) -> None:
        self._session = session
        self._settings = settings
        self._known: set[str] = set()

    def declare(self, candidates: Sequence[Candidate]) -> dict[Candidate, str]:
        """Index sizes and tables must be set after this (`shadow.Sizes`)."""
        refused = {}
        for each in candidates:
            try:
                self._session.execute(each.create(False))
                self._known.add(each.name)
            except psycopg.Error as error:
                refused[each] = " ".join(str(error).split())[:120]
        return refused

    def plan(self, statement: str, chosen: Collection[Candidate]) -> Plan:
        names = [each.name for each in chosen]
        try:
            with self._session.transaction(**self._settings) as cursor:
                cursor.execute(raw("SET LOCAL allow_system_table_mods = on"))
                cursor.execute(
                    "UPDATE pg_index SET indisvalid = false FROM pg_class c WHERE c.oid = indexrelid "
                    "AND c.relname = ANY(%s) AND NOT c.relname = ANY(%s)",
                    (sorted(self._known), names),
                )
                return explain(cursor, statement)
        except psycopg.Error as error:
            raise Refused(" ".join(str(error).split())[:200]) from error
