"""Flask, Django and Starlette, and database drivers on a real Postgres: one account, every call once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.conftest import Start
from tests.agent.receiver import Receiver
from tests.agent.script import Script
from tests.agent.standin import Provider

CHAT_USD = (600 * 0.15 + 400 * 0.075 + 200 * 0.60) / 1e6  # gpt-4o-mini, see the stand-in's usage
ROUTES = {
    "flask": {"work": "/task/<hotel>", "stream": "/stream", "boom": "/boom"},
    "django": {"work": "task/<str:hotel>", "stream": "stream", "boom": "boom"},
}


ROUTES["django-asgi"] = ROUTES["django"]
ROUTES["starlette"] = {"work": "/task/{hotel}", "stream": "/stream", "boom": "/boom"}


@pytest.fixture(scope="module", params=list(ROUTES))
def wsgi(
    request: pytest.FixtureRequest,
    provider: Provider,
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Receiver, dict[str, str], Script]]:
    receiver = Receiver()
    receiver.start()
    script = Script(
        ["-m", "tests.agent.wsgi_app", request.param],
        tmp_path_factory.mktemp("wsgi") / "log.txt",
        receiver,
        provider,
        DATABASE_URL=database,
    )
    try:
        script.wait()
        assert script.get("/task/ritz").text == "ritz"
        assert script.get("/task/savoy").text == "savoy"
        assert script.get("/stream").text == "one two"
        assert script.get("/boom").status_code == 500
        assert script.get("/nothing").status_code == 404
        script.end()
        yield receiver, ROUTES[request.param], script
    finally:
        script.end()
        receiver.stop()


Wsgi = tuple[Receiver, dict[str, str], Script]


def test_the_agent_had_no_failure_and_ends_on_sigterm(wsgi: Wsgi) -> None:
    assert "Taximeter failed" not in wsgi[2].log(), wsgi[2].log()
    assert wsgi[2].process.returncode == -15


def test_every_wsgi_request_is_one_server_span_with_its_account(wsgi: Wsgi) -> None:
    receiver, routes, _ = wsgi
    assert len([span for span in receiver.spans if span.kind == 2]) == 5
    for span in receiver.servers(routes["work"]):
        assert span.attributes["taximeter.request.db.calls"] == 4
        assert span.attributes["taximeter.request.db.repeated"] == 1
        assert span.attributes["taximeter.request.model.calls"] == 1
        assert span.attributes["taximeter.request.model.attempts"] == 1
        assert span.attributes["taximeter.request.cost"] == pytest.approx(CHAT_USD)
        assert span.attributes["taximeter.request.first_byte"] > 0
        assert span.attributes["taximeter.request.streamed"] is False
    tenants = {span.attributes["taximeter.tenant"] for span in receiver.servers(routes["work"])}
    assert tenants == {"ritz", "savoy"}


def test_a_wsgi_streams_calls_are_on_its_account(wsgi: Wsgi) -> None:
    receiver, routes, _ = wsgi
    (span,) = receiver.servers(routes["stream"])
    assert span.attributes["taximeter.request.streamed"] is True
    assert span.attributes["taximeter.request.model.calls"] == 1
    (call,) = [
        found
        for found in receiver.spans
        if found.attributes.get("gen_ai.operation.name") == "chat" and span.start <= found.start <= span.end
    ]
    assert call.end <= span.end


def test_a_wsgi_exception_closes_the_account(wsgi: Wsgi) -> None:
    receiver, routes, _ = wsgi
    (span,) = receiver.servers(routes["boom"])
    assert span.attributes["taximeter.request.cost"] == pytest.approx(CHAT_USD)
    assert span.attributes["http.response.status_code"] == 500


def test_wsgi_metrics_are_by_route(wsgi: Wsgi) -> None:
    receiver, routes, _ = wsgi
    assert receiver.total("taximeter.request.db.calls", http_route=routes["work"]) == 8
    assert receiver.count("taximeter.request.db.calls", http_route=routes["work"]) == 2
    assert receiver.total("taximeter.cost_usd", taximeter_tenant="ritz") == pytest.approx(CHAT_USD)
    assert receiver.total("taximeter.cost_usd") == pytest.approx(4 * CHAT_USD)
    assert receiver.count("http.server.request.duration", http_route=routes["work"]) == 2


CALLS = {
    "/asyncpg": 6,
    "/asyncpg/cursor": 1,
    "/asyncpg/fails": 1,
    "/sqlalchemy/asyncpg": 2,
    "/sqlalchemy/psycopg": 2,
    "/sqlalchemy/sqlite": 3,
}


@pytest.fixture(scope="module")
def drivers(receiver: Receiver, start: Start, database: str) -> Iterator[Receiver]:
    service = start("drivers_app", DATABASE_URL=database)
    for route, calls in CALLS.items():
        assert service.get(route).text == str(calls), service.log()
    service.stop()
    assert "Taximeter failed" not in service.log(), service.log()
    yield receiver


@pytest.mark.parametrize("route", CALLS)
def test_a_statement_is_one_call_and_one_span_whoever_carries_it(drivers: Receiver, route: str) -> None:
    (span,) = drivers.servers(route)
    assert span.attributes["taximeter.request.db.calls"] == CALLS[route]
    assert span.attributes["taximeter.request.db.duration"] > 0
    children = [child for child in drivers.under(span) if "db.system.name" in child.attributes]
    assert len(children) == CALLS[route], [child.name for child in children]


def names(drivers: Receiver, route: str) -> list[str]:
    (span,) = drivers.servers(route)
    return sorted(child.name for child in drivers.under(span))


def test_spans_are_named_by_their_summary(drivers: Receiver) -> None:
    assert names(drivers, "/asyncpg") == ["INSERT visits", *["SELECT guests"] * 5]
    assert names(drivers, "/sqlalchemy/asyncpg") == ["INSERT visits", "SELECT guests"]
    assert names(drivers, "/sqlalchemy/psycopg") == ["INSERT visits", "SELECT guests"]
    assert names(drivers, "/sqlalchemy/sqlite") == ["CREATE", "INSERT rooms", "SELECT rooms"]


def test_nothing_of_the_libraries_own_is_a_call(drivers: Receiver) -> None:
    """First looks at the server, pings, resets, transaction control: outside any request there is nothing."""
    assert not drivers.points("taximeter.request.db.calls", http_route=None)


def test_asyncpg_has_duration_and_rows(drivers: Receiver) -> None:
    durations = drivers.points("db.client.operation.duration", db_system_name="postgresql")
    assert {point.attributes["db.operation.name"] for point in durations} >= {"SELECT", "INSERT"}
    assert any(point.attributes.get("error.type") == "UndefinedTableError" for point in durations)
    assert {point.attributes["db.query.summary"] for point in durations} >= {"SELECT guests"}


def test_asyncpg_spans_say_how_many_rows_came_back(drivers: Receiver) -> None:
    (span,) = drivers.servers("/asyncpg")
    rows = [child.attributes.get("db.response.returned_rows") for child in drivers.under(span)]
    assert rows.count(4) == 1  # fetch, of the four guests


def test_a_literal_stays_at_home(drivers: Receiver) -> None:
    assert not any("a secret" in str(span.attributes) for span in drivers.spans)
