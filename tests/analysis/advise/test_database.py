"""``taximeter advise db`` on a real Postgres: what it advises, what it leaves, and that it only asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from taximeter_analysis.advise.database.advice import DatabaseAdvice, advise_database
from taximeter_analysis.advise.database.output import as_json, as_markdown
from taximeter_analysis.advise.database.server import Server, running
from taximeter_analysis.advise.database.session import Session
from taximeter_analysis.advise.database.workload import numbered, plannable
from taximeter_cli.main import main

SCHEMA = """
CREATE TABLE guests (id int PRIMARY KEY, email text, country text);
INSERT INTO guests SELECT n, 'G' || n || '@example.com', 'C' || n % 40 FROM generate_series(1, 20000) n;
CREATE TABLE stays (id int PRIMARY KEY, guest_id int, hotel_id int, day date, paid boolean);
INSERT INTO stays SELECT n, n % 20000, n % 50, '2026-01-01'::date + n % 365, n % 200 <> 0
  FROM generate_series(1, 60000) n;
CREATE INDEX stays_hotel ON stays (hotel_id);
CREATE INDEX stays_hotel_day ON stays (hotel_id, day);
CREATE INDEX guests_country ON guests (country);
"""
VECTORS = """
CREATE EXTENSION vector;
CREATE TABLE chunks (id int PRIMARY KEY, tenant int, embedding vector(3));
INSERT INTO chunks SELECT n, n % 20, ARRAY[sin(n), cos(n), sin(n * 7)]::vector
  FROM generate_series(1, 12000) n;
CREATE TABLE bare (LIKE chunks);
INSERT INTO bare SELECT * FROM chunks;
CREATE INDEX chunks_hnsw ON chunks USING hnsw (embedding vector_cosine_ops);
"""
FUNCTION = """
CREATE FUNCTION {name}(q vector(3), match_count int DEFAULT 10)
RETURNS TABLE (id int, similarity double precision) LANGUAGE sql STABLE AS $$
  SELECT c.id, 1 - (c.embedding <=> q) AS similarity FROM {table} c {where} ORDER BY {order} LIMIT match_count
$$
"""
FUNCTIONS = {
    "match_good": ("chunks", "", "c.embedding <=> q", "index"),
    "match_similar": ("chunks", "", "similarity DESC", "order_by_similarity"),
    "match_bare": ("bare", "", "c.embedding <=> q", "missing_index"),
    "match_l2": ("chunks", "", "c.embedding <-> q", "wrong_operator"),
    "match_starved": ("chunks", "WHERE c.tenant = 7", "c.embedding <=> q", "starves"),
}
WORKLOAD = (
    ("SELECT id FROM stays WHERE guest_id = %s", (7,)),
    ("SELECT id FROM guests WHERE lower(email) = lower(%s)", ("g7@example.com",)),
    ("SELECT id FROM stays WHERE hotel_id = %s AND day = %s", (7, "2026-02-01")),
    ("SELECT email FROM guests WHERE id = %s", (7,)),
    ("SELECT country, count(*) FROM guests GROUP BY country", ()),
)
HYPOPG = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = "shared_preload_libraries = 'pg_stat_statements'\nautovacuum = off"
    with running(settings) as found, psycopg.connect(found.dsn, autocommit=True) as database:
        database.execute("CREATE EXTENSION pg_stat_statements")
        fill(database, SCHEMA + VECTORS)
        for name, (table, where, order, _) in FUNCTIONS.items():
            database.execute(FUNCTION.format(name=name, table=table, where=where, order=order).encode())
        database.execute("SELECT pg_stat_statements_reset()")
        work(database)
        for text in (b"SELECT pg_stat_force_next_flush()", b"SELECT 1"):
            database.execute(text)  # what was used is known at once, not within a second
        yield found


def fill(database: psycopg.Connection, script: str) -> None:
    for part in script.split(";"):
        if part.strip():
            database.execute(part.encode())
    database.execute("VACUUM ANALYZE")


def work(database: psycopg.Connection) -> None:
    for text, values in WORKLOAD:
        for _ in range(3):
            database.execute(text.encode(), values)


@pytest.fixture(scope="module")
def advice(server: Server) -> DatabaseAdvice:
    return advise_database(server.dsn)


def test_indexes_that_pay_and_no_others(advice: DatabaseAdvice) -> None:
    assert advice.planner == "a shadow with the server's statistics"
    assert {each.index.target for each in advice.advised} == {
        "public.stays (guest_id)",
        "public.guests (lower(email))",
    }
    assert not advice.unread
    assert not advice.disagreeing
    for each in advice.advised:
        (effect,) = each.effects
        assert "Seq Scan" in effect.before.text()
        assert each.index.name in effect.after.text()


def test_what_is_advised_is_what_the_server_then_does(server: Server, advice: DatabaseAdvice) -> None:
    with psycopg.connect(server.dsn) as database:  # rolled back: other tests see the database as it was
        for each in advice.advised:
            database.execute(each.index.create(concurrently=False).encode())
        database.execute("ANALYZE stays")
        database.execute("ANALYZE guests")
        for text, values in WORKLOAD[:3]:
            row = database.execute(f"EXPLAIN (FORMAT JSON) {text}".encode(), values).fetchone()
            assert row is not None
            assert "Seq Scan" not in json.dumps(row[0])
        database.rollback()


def test_idle_indexes(advice: DatabaseAdvice) -> None:
    found = {each.name: each.reason for each in advice.idle}
    assert found == {"stays_hotel": "duplicate", "guests_country": "unused", "chunks_hnsw": "unused"}


def test_search_functions(advice: DatabaseAdvice) -> None:
    found = {each.name.partition("(")[0]: each.verdict for each in advice.functions}
    assert found == {name: verdict for name, (*_, verdict) in FUNCTIONS.items()}


def test_a_rewrite_returns_the_same_rows(server: Server, advice: DatabaseAdvice) -> None:
    (similar,) = (each for each in advice.functions if each.verdict == "order_by_similarity")
    (starved,) = (each for each in advice.functions if each.verdict == "starves")
    ask = b"SELECT id FROM match_similar('[1, 2, 3]')"
    with psycopg.connect(server.dsn) as database:
        database.execute("SET LOCAL enable_indexscan = off")  # exactly, as before
        before = database.execute(ask).fetchall()
        database.execute(similar.rewrite.encode())
        assert database.execute(ask).fetchall() == before
        database.execute("SET LOCAL enable_indexscan = on")
        count = b"SELECT count(*) FROM match_starved('[1, 2, 3]')"
        assert database.execute(count).fetchone() != (10,)
        database.execute(starved.rewrite.encode())
        assert database.execute(count).fetchone() == (10,)
        database.rollback()


def test_a_session_cannot_write(server: Server) -> None:
    session = Session(server.dsn)
    try:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.rows("DELETE FROM stays RETURNING id")
        assert session.explain("DELETE FROM stays WHERE id = $1").kind == "ModifyTable"
        with pytest.raises(ValueError, match="only asks"):
            session.execute("DELETE FROM stays")
        assert session.rows("SELECT count(*) FROM stays") == [(60000,)]
    finally:
        session.close()


def test_outputs(advice: DatabaseAdvice) -> None:
    document = json.loads(as_json(advice))
    assert document["kind"] == "taximeter.database_advice"
    first = document["indexes"][0]
    assert first["sql"].startswith("CREATE INDEX CONCURRENTLY ")
    assert {"plan_before", "plan_after", "gain"} <= set(first["statements"][0])
    shown = as_markdown(advice)
    assert "CREATE INDEX CONCURRENTLY stays_guest_id_idx" in shown
    assert "DROP INDEX CONCURRENTLY" in shown


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "db", "--dsn", "host=127.0.0.1 port=9 user=nobody"]) == 1
    assert "the database cannot be asked" in capsys.readouterr().err


def test_placeholders() -> None:
    assert numbered("a = :one AND b = :two AND c = :one::int AND d = 'x:y ?'") == (
        "a = $1 AND b = $2 AND c = $1::int AND d = 'x:y ?'"
    )
    assert numbered("SELECT 1 WHERE a = ? AND b LIKE '%?'") == "SELECT 1 WHERE a = $1 AND b LIKE '%?'"
    assert plannable("SELECT 1 FROM a WHERE c = %s LIMIT %s OFFSET %s;", 7.2) == (
        "SELECT 1 FROM a WHERE c = $1 LIMIT 8 OFFSET 0"
    )


@pytest.mark.skipif(
    not (HYPOPG / "postgres").exists()
    or not Path("/usr/share/postgresql/15/extension/hypopg.control").exists(),
    reason="needs Debian's postgresql-15-hypopg",
)
def test_hypopg_advises_the_same() -> None:
    assert shutil.which("psql")
    settings = "shared_preload_libraries = 'pg_stat_statements'\nautovacuum = off"
    with running(settings, HYPOPG) as found, psycopg.connect(found.dsn, autocommit=True) as database:
        database.execute("CREATE EXTENSION pg_stat_statements")
        database.execute("CREATE EXTENSION hypopg")
        fill(database, SCHEMA)
        database.execute("SELECT pg_stat_statements_reset()")
        work(database)
        advice = advise_database(found.dsn)
        assert advice.planner == "hypopg on the server"
        assert "public.stays (guest_id)" in {each.index.target for each in advice.advised}
        assert database.execute("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'").fetchone() == (
            5,
        )
