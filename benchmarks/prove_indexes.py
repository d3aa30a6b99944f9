"""``make prove-indexes``: what ``taximeter advise db`` predicts, against a database where it is then done.

Fifty statements run on ten loaded tables. The advisor sees only ``pg_stat_statements``, the catalogue and
plans. Then its indexes are really created, and every statement is planned and timed again by the server, with
values. Twenty search functions, ten of them broken, are judged; the rewrites are applied and their rows
compared.
"""

from __future__ import annotations

import difflib
import random
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg

from benchmarks.indexes.data import IDLE, SCHEMA, TABLES
from benchmarks.indexes.functions import FUNCTIONS, SETUP
from benchmarks.indexes.statements import STATEMENTS, Draw
from taximeter_analysis.advise.database.advice import DatabaseAdvice, advise_database
from taximeter_analysis.advise.database.plan import Plan
from taximeter_analysis.advise.database.server import running
from taximeter_analysis.advise.database.session import raw

SETTINGS = """
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track = top
shared_buffers = 256MB
work_mem = 16MB
maintenance_work_mem = 256MB
max_parallel_workers_per_gather = 0
jit = off
autovacuum = off
"""
ROUNDS = 5
_SLOWER = 1.2
_NOISE_MS = 0.3
_RECALL_EF = "SET hnsw.ef_search = 400; SET ivfflat.probes = 50"


@dataclass
class Measured:
    """One statement as the server ran it."""

    ms: list[float] = field(default_factory=list)
    plan: Plan | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.ms)


def main() -> int:
    started = time.monotonic()
    with running(SETTINGS) as server, psycopg.connect(server.dsn, autocommit=True) as database:
        _say(f"loading {len(TABLES)} tables")
        _script(database, SCHEMA)
        _say(f"running {len(STATEMENTS)} statements, {ROUNDS} times each")
        database.execute("SELECT pg_stat_statements_reset()")
        _workload(database)
        advice = advise_database(server.dsn, top=2 * len(STATEMENTS))
        _say(f"creating {len(advice.advised)} advised indexes")
        for each in advice.advised:
            database.execute(raw(each.index.create(concurrently=False)))
        database.execute("VACUUM ANALYZE")
        before, after = _measure(database, [each.index.name for each in advice.advised])
        good = _indexes(advice, before, after)
        good &= _idle(advice)
        good &= _functions(database, server.dsn)
    print(f"\n{'all hold' if good else 'NOT all hold'}; {time.monotonic() - started:.0f} s")
    return 0 if good else 1


def _say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def _script(database: psycopg.Connection[Any], text: str) -> None:
    depth = text.split("$$")
    statements, current = [], ""
    for number, part in enumerate(depth):
        if number % 2:
            current += f"$${part}$$"
            continue
        *whole, rest = part.split(";")
        for each in whole:
            statements.append(current + each)
            current = ""
        current += rest
    for each in [*statements, current]:
        if each.strip():
            database.execute(raw(each))


def _workload(database: psycopg.Connection[Any]) -> None:
    for number, (text, draw) in enumerate(STATEMENTS):
        rng = random.Random(number)
        for _ in range(ROUNDS):
            database.execute(raw(text), draw(rng))


def _measure(
    database: psycopg.Connection[Any], indexes: list[str]
) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Each statement with values, timed by the server: without the advised indexes, then with them."""
    before = {text: Measured() for text, _ in STATEMENTS}
    after = {text: Measured() for text, _ in STATEMENTS}
    for turn in range(ROUNDS + 1):  # the first is not counted
        for number, (text, draw) in enumerate(STATEMENTS):
            for into, hidden in ((before, indexes), (after, [])):
                plan, took = _analyse(database, text, draw, random.Random(1000 * turn + number), hidden)
                if turn:
                    into[text].ms.append(took)
                into[text].plan = plan
    return before, after


def _analyse(
    database: psycopg.Connection[Any], text: str, draw: Draw, rng: random.Random, hidden: list[str]
) -> tuple[Plan, float]:
    with database.transaction(force_rollback=True):
        if hidden:
            database.execute("SET LOCAL allow_system_table_mods = on")
            database.execute(
                "UPDATE pg_index SET indisvalid = false FROM pg_class c WHERE c.oid = indexrelid "
                "AND c.relname = ANY(%s)",
                (hidden,),
            )
        row = database.execute(
            raw(f"EXPLAIN (ANALYZE, VERBOSE, TIMING OFF, FORMAT JSON) {text}"), draw(rng)
        ).fetchone()
    assert row is not None
    return Plan(row[0][0]["Plan"]), float(row[0][0]["Execution Time"])


def _key(text: str) -> str:
    return "".join(text.replace("%s", "$").split()).lower()


def _indexes(advice: DatabaseAdvice, before: dict[str, Measured], after: dict[str, Measured]) -> bool:
    by_key = {_key(text): text for text, _ in STATEMENTS}
    effects = {}
    for each in advice.effects:
        key = re.sub(r"\$\d+", "$", "".join(each.statement.text.split()).lower())
        text = by_key.get(key) or _nearest(key, by_key)
        if text is not None:
            effects[text] = each
    served = {id(one): each.index.name for each in advice.advised for one in each.effects}
    print(
        f"planner: {advice.planner}; {len(advice.statements)} statements read, {len(advice.effects)} judged, "
        f"{len(advice.unread)} not plannable, {len(advice.disagreeing)} planned otherwise by the shadow\n"
    )
    print(f"{'before':>10} {'after':>9} {'times':>7} {'cost':>7}  top  scans  statement")
    same_top = same_scans = fast = counted = slower = 0
    for text, _ in STATEMENTS:
        one, two, effect = before[text], after[text], effects.get(text)
        assert two.plan is not None
        ratio = one.median / max(two.median, 1e-6)
        top = scans = None
        if effect is not None:
            top = effect.after.kind == two.plan.kind
            scans = effect.after.scans() == two.plan.scans()
            same_top += top
            same_scans += scans
            if id(effect) in served:
                counted += 1
                fast += ratio >= 5
        assert one.plan is not None
        changed = one.plan.shape() != two.plan.shape()  # the same plan is as fast, whatever was measured
        slow = changed and min(two.ms) > min(one.ms) * _SLOWER and min(two.ms) - min(one.ms) > _NOISE_MS
        slower += slow
        mark = {True: "yes", False: "NO", None: "-"}
        gain = f"{effect.gain:7,.0f}" if effect is not None and id(effect) in served else "      -"
        print(
            f"{one.median:8.2f}ms {two.median:7.2f}ms {ratio:7.1f} {gain}  {mark[top]:<4} {mark[scans]:<5}  "
            f"{' '.join(text.split())[:90]}{'  SLOWER' if slow else ''}"
        )
        if scans is False and effect is not None:
            print(f"           predicted {effect.after.shape()}\n           real      {two.plan.shape()}")
    print("\nadvised:")
    for advised in advice.advised:
        print(f"  {advised.index.create()};  -- {len(advised.effects)} statements")
    for statement, reason in advice.unread:
        print(f"  not plannable: {statement.text[:80]}: {reason}")
    for statement in advice.disagreeing:
        print(f"  disagreeing: {statement.text[:120]}")
    total = len(STATEMENTS)
    rows = [
        ("predicted top plan node is the real one", same_top, total, 0.9),
        ("predicted ways of reading every table are the real ones", same_scans, total, 0.9),
        ("statements of advised indexes at least 5 times faster", fast, counted, 0.9),
        ("statements that no advice slowed", total - slower, total, 1.0),
    ]
    print()
    for name, count, of, least in rows:
        print(f"{name}: {count} of {of} ({count / max(1, of):.0%}; {least:.0%} wanted)")
    return all(of and count / of >= least for _, count, of, least in rows)


def _nearest(key: str, by_key: dict[str, str]) -> str | None:
    """pg_stat_statements replaces literals: compare what is left."""
    best = max(by_key, key=lambda each: difflib.SequenceMatcher(None, each, key).ratio())
    return by_key[best] if difflib.SequenceMatcher(None, best, key).ratio() > 0.85 else None


def _idle(advice: DatabaseAdvice) -> bool:
    found = {each.name: each.reason for each in advice.idle}
    print(f"\nindexes to drop: {found}; wanted {IDLE}")
    return found == IDLE


def _functions(database: psycopg.Connection[Any], dsn: str) -> bool:
    _say(f"judging {len(FUNCTIONS)} search functions")
    _script(database, SETUP)
    for _, _, text in FUNCTIONS:
        database.execute(raw(text))
    exact = {name: _answers(database, name, "SET enable_indexscan = off") for name, _, _ in FUNCTIONS}
    judged = {each.name.partition("(")[0]: each for each in advise_database(dsn, top=1).functions}
    print(f"\n{'function':<24} {'verdict':<20} {'rewrite':<8} {'then':<10} rows equal to the exact search's")
    right = equal = rewritten = 0
    for name, wanted, _ in FUNCTIONS:
        each = judged.get(name)
        verdict = each.verdict if each else "not found"
        right += verdict == wanted
        if each is not None and each.broken and each.rewrite:
            rewritten += 1
            database.execute(raw(each.rewrite.replace(" CONCURRENTLY", "")))
            database.execute("VACUUM ANALYZE")
            again = {one.name.partition("(")[0]: one for one in advise_database(dsn, top=1).functions}[
                name
            ].verdict
            plain = _answers(database, name, "SET enable_indexscan = off")
            same = sum(one == other for one, other in zip(plain, exact[name], strict=True))
            near = sum(
                one == other
                for one, other in zip(_answers(database, name, _RECALL_EF), exact[name], strict=True)
            )
            equal += same == len(plain) and again in ("index", "exact")
            print(
                f"{name:<24} {verdict:<20} {'yes':<8} {again:<10} {same} of {len(plain)} queries, "
                f"through the index {near}"
            )
        else:
            wrong = "" if verdict == wanted else f" WRONG, is {wanted}: {each and each.reason}"
            print(f"{name:<24} {verdict:<20}{wrong}")
    print(f"\nfunctions classified rightly: {right} of {len(FUNCTIONS)}")
    print(f"rewrites that then use an index and return the same rows: {equal} of {rewritten}")
    return right == len(FUNCTIONS) and equal == rewritten and rewritten > 0


def _answers(database: psycopg.Connection[Any], name: str, setting: str) -> list[list[int]]:
    rng = random.Random(5)
    answers = []
    for _ in range(20):
        vector = "[" + ",".join(f"{rng.random() - 0.5:.5f}" for _ in range(32)) + "]"
        with database.transaction(force_rollback=True):
            for part in setting.split(";"):
                database.execute(raw(part.strip().replace("SET ", "SET LOCAL ")))
            answers.append(
                [row[0] for row in database.execute(raw(f"SELECT id FROM {name}('{vector}')")).fetchall()]
            )
    return answers


if __name__ == "__main__":
    sys.exit(main())
