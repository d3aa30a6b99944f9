"""Everything about one database: gathers statements, asks a planner, and keeps what both agree on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from taximeter_analysis.advise.database.candidates import Candidate, candidates
from taximeter_analysis.advise.database.catalogue import Idle, columns, idle_indexes
from taximeter_analysis.advise.database.functions import VERDICTS, Judged, judge_functions
from taximeter_analysis.advise.database.plan import Plan
from taximeter_analysis.advise.database.planner import Hypothetical, Planner, has_hypopg
from taximeter_analysis.advise.database.search import Advised, Effect, search
from taximeter_analysis.advise.database.session import Refused, Session
from taximeter_analysis.advise.database.shadow import shadow_of
from taximeter_analysis.advise.database.values import calibrated
from taximeter_analysis.advise.database.workload import Statement, from_server, from_store, merged
from taximeter_analysis.store import Store

TOP = 100
PLANNERS = ("auto", "hypopg", "shadow")


@dataclass(frozen=True)
class DatabaseAdvice:
    """What `advise_database` found, dearest first."""

    database: str
    version: str
    planner: str
    statements: tuple[Statement, ...]
    advised: tuple[Advised, ...]
    effects: tuple[Effect, ...]  # on every statement that was judged
    unread: tuple[tuple[Statement, str], ...]  # with the server's reason
    disagreeing: tuple[Statement, ...]  # the shadow plans them otherwise than the server: no advice
    idle: tuple[Idle, ...]
    functions: tuple[Judged, ...]
    notes: tuple[str, ...]

    @property
    def total_s(self) -> float:
        return sum(each.total_s for each in self.statements)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": "taximeter.database_advice",
            "version": 1,
            "database": self.database,
            "server_version": self.version,
            "planner": self.planner,
            "statements": len(self.statements),
            "statements_s": self.total_s,
            "indexes": [_index(each) for each in self.advised],
            "drop": [
                {"table": f"{each.schema}.{each.table}", "index": each.name, "bytes": each.bytes,
                 "reason": each.reason, "detail": each.detail, "sql": each.drop}
                for each in self.idle
            ],
            "functions": [
                {"name": each.name, "verdict": each.verdict, "broken": each.broken,
                 "meaning": VERDICTS[each.verdict], "reason": each.reason, "remedy": each.remedy or None,
                 "rewrite": each.rewrite or None, "plan": each.plan.text() if each.plan else None}
                for each in self.functions
            ],
            "unread": [{"statement": each.text, "reason": reason} for each, reason in self.unread],
            "shadow_disagrees": [each.text for each in self.disagreeing],
            "notes": list(self.notes),
        }  # fmt: skip


def _index(advised: Advised) -> dict[str, Any]:
    return {
        "sql": advised.index.create(),
        "table": f"{advised.index.schema}.{advised.index.table}",
        "keys": list(advised.index.keys),
        "statements": [
            {"statement": each.statement.text, "calls": each.statement.calls,
             "total_s": each.statement.total_s, "mean_s": each.statement.mean_s,
             "cost_before": each.before.cost, "cost_after": each.after.cost, "gain": each.gain,
             "plan_before": each.before.text(), "plan_after": each.after.text()}
            for each in advised.effects
        ],
    }  # fmt: skip


def advise_database(
    dsn: str, store: Store | None = None, top: int = TOP, planner: str = "auto"
) -> DatabaseAdvice:
    """Advice on the database at ``dsn``: it is asked for its catalogue and for plans, and nothing else.

    Raises:
        psycopg.Error: it cannot be reached.
        ServerFailed: a shadow is needed and cannot be made.
        ValueError: hypopg was wanted and is not there.
    """
    session = Session(dsn)
    try:
        found, notes = from_server(session, top)
        statements = merged([*found, *(from_store(store, top) if store is not None else [])], top)
        known = columns(session)
        wanted: dict[Statement, list[Candidate]] = {}
        plans: dict[Statement, Plan] = {}
        unread = []
        for each in statements:
            try:
                plan = session.explain(each.planned)
                better = calibrated(session, each, plan)
                plans[better] = session.explain(better.planned) if better is not each else plan
                wanted[better] = candidates(plans[better], known)
            except Refused as error:
                unread.append((each, str(error)))
        if planner == "hypopg" and not has_hypopg(session):
            raise ValueError("hypopg is not there: CREATE EXTENSION hypopg, or use --planner shadow")
        with _planner(dsn, session, planner, wanted) as (asked, refused, more):
            notes += more
            usable = {
                statement: [each for each in ones if each not in refused]
                for statement, ones in wanted.items()
            }
            agreed, disagreeing = _agreeing(asked, usable, plans)
            advised, effects = search(asked, agreed)
            label = asked.label
        idle, _ = idle_indexes(session)
        version, database = session.rows("SELECT current_setting('server_version'), current_database()")[0]
        if session.rows("SELECT pg_is_in_recovery()")[0][0]:
            notes.append("this is a replica: indexes unused here may be used on the primary")
        return DatabaseAdvice(
            database, version, label, tuple(statements), tuple(advised), tuple(effects), tuple(unread),
            tuple(disagreeing), tuple(idle), tuple(judge_functions(session)), tuple(notes),
        )  # fmt: skip
    finally:
        session.close()


@contextlib.contextmanager
def _planner(
    dsn: str, session: Session, planner: str, wanted: dict[Statement, list[Candidate]]
) -> Iterator[tuple[Planner, dict[Candidate, str], list[str]]]:
    """(a planner that knows the candidates, those that it refused, notes)."""
    every = sorted({each for ones in wanted.values() for each in ones})
    if planner == "hypopg" or (planner == "auto" and has_hypopg(session)):
        hypothetical = Hypothetical(session)
        yield hypothetical, hypothetical.declare(every), []
        return
    with shadow_of(dsn, session) as shadow:
        refused = shadow.declare(every)
        yield shadow.planner, refused, shadow.notes


def _agreeing(
    planner: Planner, wanted: dict[Statement, list[Candidate]], plans: dict[Statement, Plan]
) -> tuple[dict[Statement, list[Candidate]], list[Statement]]:
    """Statements that the planner plans, without candidates, as the server does; and the others."""
    agreed: dict[Statement, list[Candidate]] = {}
    others = []
    for statement, ones in wanted.items():
        try:
            same = planner.plan(statement.planned, ()).scans() == plans[statement].scans()
        except Refused:
            same = False
        if same:
            agreed[statement] = ones
        else:
            others.append(statement)
    return agreed, others
