"""Accounts of services without the agent, from traces as other SDKs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter_collector.process import raw
from taximeter_collector.process.account import annotate
from taximeter_collector.values import plain
from tests.collector.support import collector, set_value, span_store, wait_for

SERVER, CLIENT, INTERNAL = 2, 3, 1
PG = {"db.system": "postgresql", "db.statement": "SELECT * FROM rooms WHERE id = $1"}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 10,
    "gen_ai.usage.cost.amount": 0.25,
}
EMBED = {
    "gen_ai.operation.name": "embeddings",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "text-embedding-3-small",
    "gen_ai.usage.input_tokens": 7,
    "taximeter.cost.amount": 0.5,
}
SUPABASE = "https://x.supabase.co/rest/v1/"


def trace(*spans: tuple[int, int, str, dict[str, Any]], distro: str = "", number: int = 1) -> Any:
    """One trace; a span is (parent's number or 0, kind, name, attributes); each takes 1 s."""
    made = trace_service_pb2.ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    set_value(resource.resource.attributes.add(key="service.name").value, "node")
    if distro:
        set_value(resource.resource.attributes.add(key="telemetry.distro.name").value, distro)
    scope = resource.scope_spans.add()
    for at, (parent, kind, name, attributes) in enumerate(spans, 1):
        span = scope.spans.add(trace_id=number.to_bytes(16), span_id=at.to_bytes(8), name=name)
        span.kind = kind  # type: ignore[assignment]
        span.parent_span_id = parent.to_bytes(8) if parent else b""
        span.start_time_unix_nano = at * 10**9
        span.end_time_unix_nano = (at + 1) * 10**9
        for key, value in attributes.items():
            set_value(span.attributes.add(key=key).value, value)
    return made


def accounts(*spans: tuple[int, int, str, dict[str, Any]], distro: str = "") -> list[dict[str, Any]]:
    """The attributes of every span afterwards, account names shortened."""
    parts = list(raw.spans(trace(*spans, distro=distro).SerializeToString()))
    out = trace_service_pb2.ExportTraceServiceRequest.FromString(raw.join(annotate(parts)))
    found = [span for scope in out.resource_spans[0].scope_spans for span in scope.spans]
    assert [span.name for span in found] == [name for _, _, name, _ in spans]
    return [
        {pair.key.removeprefix("taximeter.request."): plain(pair.value) for pair in span.attributes}
        for span in found
    ]


def test_queries_models_and_money_of_nested_work() -> None:
    server, *_ = accounts(
        (0, SERVER, "GET /rooms", {}),
        (1, INTERNAL, "handler", {}),
        (2, CLIENT, "pg-pool.connect", {"db.system": "postgresql"}),
        (2, CLIENT, "pg.query", PG),
        (3, CLIENT, "pg.query", PG),
        (2, CLIENT, "pg.query", {"db.system.name": "postgresql", "db.query.text": "BEGIN"}),
        (2, CLIENT, "redis GET", {"db.system": "redis", "db.statement": "GET k"}),
        (2, CLIENT, "chat gpt-4o", CHAT),
        (8, CLIENT, "POST", {"url.full": "https://api.openai.com/v1/chat/completions"}),
        (2, CLIENT, "embeddings", EMBED),
        (2, CLIENT, "chat", {**CHAT, "gen_ai.usage.cost.amount": "?"}),
    )
    assert server == {
        "db.calls": 2,
        "db.duration": 2.0,
        "db.repeated": 1,
        "model.calls": 2,
        "embedding.calls": 1,
        "tokens.input": 207,
        "tokens.output": 20,
        "tokens.cached": 0,
        "cost": 0.75,
        "unpriced.calls": 1,
    }


def test_what_two_spans_tell_is_counted_once() -> None:
    server, *_ = accounts(
        (0, SERVER, "GET", {}),
        (1, CLIENT, "prisma:query", PG),
        (2, CLIENT, "pg.query", PG),
        (1, CLIENT, "openai.chat", CHAT),
        (4, CLIENT, "chat gpt-4o", CHAT),
        (1, CLIENT, "fetch", {"http.url": SUPABASE + "rooms?select=*", "http.method": "GET"}),
        (6, CLIENT, "undici", {"url.full": SUPABASE + "rooms?select=*", "http.request.method": "GET"}),
    )
    assert (server["db.calls"], server["model.calls"], server["cost"]) == (2, 1, 0.25)


def test_a_span_whose_parent_never_came_is_the_only_requests() -> None:
    server, *_ = accounts(
        (0, SERVER, "GET", {}), (77, CLIENT, "pg.query", PG), (78, INTERNAL, "h", {}), (3, CLIENT, "q", PG)
    )
    assert server["db.calls"] == 2
    remote, *_ = accounts((77, SERVER, "GET", {}), (77, CLIENT, "pg.query", PG))
    assert remote["db.calls"] == 0, "a sibling in the caller is not the request's"
    first, second, _ = accounts((0, SERVER, "GET", {}), (0, SERVER, "GET", {}), (77, CLIENT, "q", PG))
    assert (first["db.calls"], second["db.calls"]) == (0, 0), "nobody can say whose"


def test_each_server_span_has_its_own_account() -> None:
    outer, _, inner, _ = accounts(
        (0, SERVER, "GET /a", {}),
        (1, CLIENT, "GET", {"url.full": "http://b/"}),
        (2, SERVER, "GET /b", {}),
        (3, CLIENT, "pg.query", PG),
    )
    assert (outer["db.calls"], inner["db.calls"]) == (0, 1)


@pytest.mark.parametrize(
    ("path", "method", "summary"),
    [
        ("rooms?select=*&id=eq.3", "GET", "SELECT rooms"),
        ("guests", "POST", "INSERT guests"),
        ("guests?id=eq.1", "PATCH", "UPDATE guests"),
        ("guests?id=eq.1", "DELETE", "DELETE guests"),
        ("rpc/match_faq", "POST", "rpc match_faq"),
    ],
)
def test_postgrest_is_a_database_named_by_table_or_function(path: str, method: str, summary: str) -> None:
    call = {"url.full": SUPABASE + path, "http.request.method": method}
    server, client = accounts((0, SERVER, "GET", {}), (1, CLIENT, "fetch", call))
    assert server["db.calls"] == 1
    assert (client["db.query.summary"], client["db.system.name"]) == (summary, "postgresql")


def test_the_agents_own_accounts_and_loops_are_left_alone() -> None:
    server: tuple[int, int, str, dict[str, Any]] = (0, SERVER, "GET", {})
    query = (1, CLIENT, "pg.query", PG)
    own = accounts(server, query, distro="taximeter")
    assert "db.calls" not in own[0]
    looped = accounts(server, (3, INTERNAL, "a", {}), (2, INTERNAL, "b", {}), query)
    assert looped[0]["db.calls"] == 1


def test_a_foreign_service_has_accounts_in_the_store(tmp_path: Path) -> None:
    with collector(tmp_path, {"span_store": span_store(tmp_path)}, {"traces": ["span_store"]}) as made:
        made.config["processors"] = {"pricing": None, "request_account": {"wait_after_root": "500ms"}}
        made.config["service"]["pipelines"]["traces"]["processors"] = ["pricing", "request_account"]
        made.start()
        free = {key: value for key, value in CHAT.items() if key != "gen_ai.usage.cost.amount"}
        for number in range(1, 21):
            server = (0, SERVER, "GET", {"http.route": "/r"})
            whole = trace(server, (1, CLIENT, "q", PG), (1, CLIENT, "chat", free), number=number)
            for part in reversed(list(raw.spans(whole.SerializeToString()))):  # the root comes last
                assert made.post(raw.join([part])).status_code == 200
        store = f"'{tmp_path}/store/requests/*.parquet'"
        query = f"SELECT count(*), sum(db_calls), sum(model_calls), sum(cost_usd) FROM {store}"
        wait_for(lambda: list((tmp_path / "store" / "requests").glob("*.parquet")), "a segment")

        def figures() -> Any:
            return duckdb.connect().execute(query).fetchone()

        wait_for(lambda: figures()[0] == 20, "all requests")
        assert figures() == (20, 20, 20, pytest.approx(20 * (100 * 2.5 + 10 * 10) / 1e6))
        assert made.stop() == 0
