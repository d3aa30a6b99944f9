"""Database calls on a real Postgres: counted where user code sent them, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from taximeter import dbcursors
from tests.agent.conftest import Start
from tests.agent.receiver import Receiver, Span

PATHS = ("/db/n-plus-one", "/db/gather", "/db/sync", "/db/sync", "/db/cursors", "/db/rare")


@pytest.fixture(scope="module")
def run(receiver: Receiver, start: Start, database: str) -> Iterator[Receiver]:
    service = start(DATABASE_URL=database)
    for path in PATHS:
        assert service.get(path).status_code == 200, service.log()
    service.stop()
    assert "Taximeter failed" not in service.log()
    yield receiver


def only(receiver: Receiver, route: str) -> Span:
    (span,) = receiver.servers(route)
    return span


def calls(span: Span) -> tuple[int, int]:
    return span.attributes["taximeter.request.db.calls"], span.attributes["taximeter.request.db.repeated"]


def test_an_n_plus_one_shows_as_repeats(run: Receiver) -> None:
    assert calls(only(run, "/db/n-plus-one")) == (5, 3)  # four guests: one list, four look-ups
    assert run.total("taximeter.request.db.repeated", http_route="/db/n-plus-one") == 3


def test_calls_in_parallel_tasks_are_counted(run: Receiver) -> None:
    assert calls(only(run, "/db/gather")) == (5, 4)


def test_calls_in_worker_threads_are_counted_and_control_statements_are_not(run: Receiver) -> None:
    for span in run.servers("/db/sync"):
        assert calls(span) == (3, 0)  # executemany is one; BEGIN, SAVEPOINT, COMMIT none
        assert span.attributes["taximeter.request.db.duration"] > 0


def test_a_cursor_of_the_services_own_is_counted_and_stays_what_it_is(run: Receiver) -> None:
    server = only(run, "/db/cursors")
    assert calls(server) == (2, 0)
    found, failed = sorted(run.under(server), key=lambda span: span.start)
    assert found.attributes["db.response.returned_rows"] == 2
    assert "db.operation.batch.size" not in found.attributes  # a list as a parameter is no batch
    assert failed.attributes["error.type"] == "UndefinedTable"
    for span in (found, failed):
        assert span.attributes["code.function.name"] in {"Mine.execute", "cursors"}
        assert span.attributes["taximeter.db.parameters.hash"]
    durations = run.points("db.client.operation.duration", error_type="UndefinedTable")
    assert len(durations) == 1


def test_streams_copies_and_named_cursors_are_counted(run: Receiver) -> None:
    assert calls(only(run, "/db/rare")) == (3, 0)
    names = {span.name for span in run.under(only(run, "/db/rare"))}
    assert names == {"SELECT guests", "COPY guests"}


def test_the_histogram_adds_up_to_the_spans(run: Receiver) -> None:
    for route in set(PATHS):
        total = sum(span.attributes["taximeter.request.db.calls"] for span in run.servers(route))
        assert run.total("taximeter.request.db.calls", http_route=route) == total
        assert run.count("taximeter.request.db.calls", http_route=route) == PATHS.count(route)
    assert not run.points("taximeter.request.db.calls", http_route=None)  # pool checks are no calls


def test_a_statement_is_one_span_named_by_its_summary(run: Receiver) -> None:
    spans = run.under(only(run, "/db/n-plus-one"))
    assert [span.name for span in spans] == ["SELECT guests"] * 5
    look_up = spans[-1].attributes
    assert look_up["db.query.summary"] == "SELECT guests"
    assert look_up["db.operation.name"] == "SELECT"
    assert look_up["db.query.text"] == "SELECT name FROM guests WHERE id = %s"
    assert look_up["db.system.name"] == "postgresql"


def test_a_batch_says_its_size(run: Receiver) -> None:
    server = run.servers("/db/sync")[0]
    (insert,) = [span for span in run.under(server) if span.name == "INSERT visits"]
    assert insert.attributes["db.operation.batch.size"] == 3


def test_literals_stay_at_home(run: Receiver) -> None:
    texts = [span.attributes.get("db.query.text", "") for span in run.spans]
    assert "SELECT ?" in texts  # the composed literal
    assert not any("secret" in str(span.attributes) for span in run.spans)


def test_a_cursor_that_takes_other_arguments_stays_with_the_official_tracer() -> None:
    class Renamed(psycopg.Cursor[Any]):
        def execute(self, query: Any, args: Any = None) -> Any:  # type: ignore[override]
            return super().execute(query, args)

    class Bare(psycopg.Cursor[Any]):
        def execute(self, query: Any) -> Any:  # type: ignore[override]
            return super().execute(query)

    usual = psycopg.Cursor, psycopg.AsyncCursor, psycopg.ClientCursor
    assert all(map(dbcursors._takes_the_usual, usual))
    assert not any(map(dbcursors._takes_the_usual, (Renamed, Bare)))
