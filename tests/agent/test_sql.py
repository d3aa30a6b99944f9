"""What a statement is called, and that its literals do not leave."""

from __future__ import annotations

import pytest

from taximeter import sql


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("SELECT * FROM guests", "SELECT guests"),
        ("select g.id from public.guests g join rooms r on r.id = g.room", "SELECT public.guests rooms"),
        ("SELECT 1 FROM \"Guests\" WHERE x = 'FROM nowhere'", "SELECT Guests"),
        ("INSERT INTO visits (guest) VALUES (%s)", "INSERT visits"),
        ("INSERT INTO visits SELECT id FROM guests", "INSERT visits guests"),
        ("UPDATE guests SET name = %(name)s WHERE id = 1", "UPDATE guests"),
        ("DELETE FROM guests USING rooms WHERE true", "DELETE guests rooms"),
        ("SELECT * FROM match_faq(%s::vector, 5)", "SELECT match_faq"),
        ("SELECT id FROM guests FOR UPDATE", "SELECT guests"),
        (
            "WITH recent AS (SELECT * FROM visits) SELECT * FROM recent JOIN guests ON true",
            "SELECT visits guests",
        ),
        ("SELECT extract(year FROM arrival) FROM stays", "SELECT stays"),
        ("SELECT * FROM (SELECT * FROM rooms) r", "SELECT rooms"),
        ("-- FROM a comment\n/* and another FROM x */ SELECT 1", "SELECT"),
        ("CREATE TABLE guests (id int)", "CREATE guests"),
        ("COPY guests (name) FROM STDIN", "COPY guests STDIN"),
        ("SET hnsw.ef_search = 40", "SET"),
        ("VACUUM", "VACUUM"),
    ],
)
def test_summaries(text: str, summary: str) -> None:
    assert sql.describe(text).summary == summary


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN",
        "begin isolation level serializable",
        "COMMIT",
        " ROLLBACK TO SAVEPOINT a",
        "SAVEPOINT a",
        "",
        "  ;",
    ],
)
def test_what_is_no_call(text: str) -> None:
    assert not sql.describe(text).counted


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("SELECT 'O''Hara', 42, 1.5e3", "SELECT ?, ?, ?"),
        ("SELECT E'it\\'s', $$secret$$, $tag$more$tag$", "SELECT ?, ?, ?"),
        ("SELECT %s, %(name)s, $1, t1.c2", "SELECT %s, %(name)s, $1, t1.c2"),
        ("SELECT 1 -- a guest's note", "SELECT ?"),
    ],
)
def test_literals_are_taken_out(text: str, kept: str) -> None:
    assert sql.describe(text).text == kept


def test_hostile_text_is_bounded() -> None:
    text = "SELECT " + "(" * 50_000 + "'" * 10_001 + " FROM " + "x" * 5000
    assert len(sql.describe(text).summary) <= sql.MAX_SUMMARY
    assert len(sql.describe(text).text) <= sql.MAX_TEXT


SECRET = "zqsecret"


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT '{SECRET}'",
        f"SELECT 'O''{SECRET}', 1",
        f"SELECT E'it\\'s {SECRET}', e'\\\\', 'x{SECRET}'",
        f"SELECT U&'{SECRET}' UESCAPE '!', B'1', X'1F', N'{SECRET}'",
        f"SELECT 'C:\\', '{SECRET}'",  # one dialect's end of a string is another's escaped quote
        f"SELECT 'a\\'{SECRET}', 'b'",
        f"SELECT $${SECRET}$$, $a$ $$ {SECRET} $b$ {SECRET} $a$, $größe${SECRET}$größe$",
        f"SELECT $never$ {SECRET}",
        f"SELECT $a$ {SECRET} $A$ {SECRET}",
        f"SELECT '{SECRET}",
        f"SELECT '{'x' * 20_000}{SECRET}'",
        f"SELECT E'{'x' * 16_375}\\'{SECRET}'",
        f"SELECT 1 /* a /* nested {SECRET} */ {SECRET} */ FROM t",
        f"SELECT 1 /* open {SECRET}",
        f"SELECT 1 -- {SECRET}\n",
        f"SELECT 1 -- it's '\n, '{SECRET}'",
        f"SELECT 1 /* it's */ , '{SECRET}'",
        f"SELECT 'a' -- '\n'{SECRET}'",
        f"SELECT \"it's\", '{SECRET}'",
        f'SELECT "never {SECRET}',
        f"SELECT `never {SECRET}",
        f"SELECT a$b$ FROM t WHERE x = '{SECRET}' AND y = $b${SECRET}$b$",
        f"INSERT INTO t VALUES ('{SECRET}'),('{SECRET}')",
        f"COPY t FROM '{SECRET}'",
    ],
)
def test_no_way_of_quoting_gets_a_text_out(text: str) -> None:
    statement = sql.describe(text)
    assert SECRET not in statement.text
    assert SECRET not in statement.summary


def test_numbers_of_every_form_are_literals() -> None:
    text = "SELECT 0x1F, 1_000, .5, 1.5e-3, 10.5, t1.c2, $1 FROM v2"
    assert sql.describe(text).text == "SELECT ?, ?, ?, ?, ?, t1.c2, $1 FROM v2"


def test_the_cache_is_bounded_in_bytes() -> None:
    before = sql._cached.cache_info().currsize
    for number in range(50):
        sql.describe(f"SELECT '{number}{'x' * 5000}'")
    assert sql._cached.cache_info().currsize == before
