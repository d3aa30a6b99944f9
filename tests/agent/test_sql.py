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
