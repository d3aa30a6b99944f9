"""One run of a real service with the real SDKs: what arrives, and that it equals the ledger.

The service is told to stop before anything is looked at, so every assertion is also one that
SIGTERM loses nothing.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent import standin
from tests.agent.conftest import Service, Start
from tests.agent.receiver import Receiver, Span
from tests.agent.standin import Provider

# USD by hand, from the providers' public prices per million tokens.
# gpt-4o-mini: 0.15 in, 0.075 cached, 0.60 out. 600 fresh + 400 cached + 200 out.
CHAT_USD = (600 * 0.15 + 400 * 0.075 + 200 * 0.60) / 1e6
# 400 fresh + 100 cached + 50 out.
RESPONSE_USD = (400 * 0.15 + 100 * 0.075 + 50 * 0.60) / 1e6
# claude-sonnet-4-5: 3 in, 0.30 cache read, 3.75 cache write, 15 out; 2,800 tokens are no tier of their own.
MESSAGE_USD = (300 * 3 + 2000 * 0.30 + 500 * 3.75 + 100 * 15) / 1e6
# text-embedding-3-small: 0.02.
EMBEDDING_USD = 10 * 0.02 / 1e6

CHAT_IN, CHAT_OUT, CHAT_CACHED = 1000, 200, 400
MESSAGE_IN, MESSAGE_OUT, MESSAGE_CACHED = 2800, 100, 2000

PATHS = (
    *("/plain/a", "/plain/b", "/chat/ritz", "/chat/savoy", "/responses", "/everything", "/threads"),
    *("/stream/openai", "/stream/anthropic", "/stream/helper", "/stream/threads", "/cache", "/boom"),
    *("/nothing/here", "/api/rooms/7", "/chat/cheap?model=llama-of-mine", "/chat/flaky?model=flaky"),
    "/chat/broken?model=broken",
    *("/stream/openai?usage=false", "/background", "/detached"),
)


@dataclass
class Run:
    receiver: Receiver
    provider: Provider
    exit_status: int
    log: str

    def server(self, route: str) -> Span:
        spans = self.receiver.servers(route)
        assert len(spans) == 1, f"{route}: {len(spans)} server spans"
        return spans[0]

    def models(self, route: str) -> list[Span]:
        return [
            span
            for span in self.receiver.under(self.server(route))
            if "gen_ai.operation.name" in span.attributes
        ]


@pytest.fixture(scope="module")
def run(receiver: Receiver, provider: Provider, start: Start) -> Iterator[Run]:
    service: Service = start()
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    for path in PATHS:
        service.get(path)
    with pytest.raises(Exception, match="closed"):
        service.get("/broken-stream")
    service.get("/slow?seconds=0.3", traceparent=trace)  # outlasts the detached task
    status = service.stop()
    yield Run(receiver, provider, status, service.log())


def test_sigterm_ends_as_it_would_without_the_agent(run: Run) -> None:
    assert run.exit_status == -signal.SIGTERM


def test_the_agent_had_no_failure(run: Run) -> None:
    assert "Taximeter failed" not in run.log
    assert "Failed to detach context" not in run.log
    assert not run.receiver.points("taximeter.agent.errors")
    assert not run.receiver.points("taximeter.agent.dropped_spans")


def test_settings_are_logged_once(run: Run) -> None:
    assert run.log.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE=256") == 1


def test_the_resource_says_who_sends(run: Run) -> None:
    resource = run.server("/everything").resource
    assert resource["service.name"] == "hotel"
    assert resource["telemetry.distro.name"] == "taximeter"
    assert resource["service.instance.id"]


def test_every_request_is_one_server_span_and_one_measurement(run: Run) -> None:
    requests = len(PATHS) + 2
    assert len(run.receiver.servers()) == requests
    assert run.receiver.count("http.server.request.duration") == requests
    assert run.receiver.count("taximeter.request.db.calls") == requests
    assert run.receiver.count("http.server.request.duration", http_route="/plain/{name}") == 2
    assert run.receiver.count("http.server.request.duration", http_route=None) == 1  # the 404
    assert {span.scope for span in run.receiver.servers()} == {"opentelemetry.instrumentation.fastapi"}


def test_there_is_a_bucket_at_two_seconds(run: Run) -> None:
    (point,) = run.receiver.points("http.server.request.duration", http_route="/cache")
    assert 2.0 in point.bounds
    assert point.unit == "s"


def test_a_plain_request_is_one_span(run: Run) -> None:
    for server in run.receiver.servers("/plain/{name}"):
        assert run.receiver.under(server) == []


def test_one_model_call_is_one_model_span_and_one_http_span(run: Run) -> None:
    (model,) = run.models("/responses")
    others = [span for span in run.receiver.under(run.server("/responses")) if span is not model]
    assert [span.name for span in others] == ["POST"]
    assert model.parent_id == run.server("/responses").span_id
    assert others[0].parent_id == model.span_id
    assert {span.scope for span in run.receiver.spans if "gen_ai.operation.name" in span.attributes} == {
        "opentelemetry.instrumentation.genai.openai",
        "opentelemetry.instrumentation.genai.anthropic",
    }


@pytest.mark.parametrize(
    ("route", "operation", "model", "usd"),
    [
        ("/responses", "chat", "gpt-4o-mini", RESPONSE_USD),
        ("/stream/anthropic", "embeddings", "text-embedding-3-small", EMBEDDING_USD),
        ("/stream/anthropic", "chat", "claude-sonnet-4-5", MESSAGE_USD),
        ("/stream/helper", "chat", "claude-sonnet-4-5", MESSAGE_USD),
        ("/stream/threads", "chat", "claude-sonnet-4-5", MESSAGE_USD),
        ("/threads", "chat", "claude-sonnet-4-5", MESSAGE_USD),
        ("/threads", "chat", "gpt-4o-mini", CHAT_USD),
        ("/api/rooms/{room}", "embeddings", "text-embedding-3-small", EMBEDDING_USD),
    ],
)
def test_a_call_carries_its_price(run: Run, route: str, operation: str, model: str, usd: float) -> None:
    (span,) = [
        span
        for span in run.models(route)
        if span.attributes["gen_ai.operation.name"] == operation
        and span.attributes["gen_ai.request.model"] == model
    ]
    assert span.attributes["gen_ai.usage.cost.amount"] == pytest.approx(usd, rel=1e-12)
    assert span.attributes["gen_ai.usage.cost.currency"] == "USD"
    assert span.attributes["gen_ai.usage.cost.source"] == "local"


@pytest.mark.parametrize(
    ("route", "calls", "tokens", "usd"),
    [
        ("/everything", (2, 1), (3810, 300, 2400), CHAT_USD + MESSAGE_USD + EMBEDDING_USD),
        ("/threads", (2, 0), (3800, 300, 2400), CHAT_USD + MESSAGE_USD),
        ("/stream/anthropic", (1, 1), (2810, 100, 2000), MESSAGE_USD + EMBEDDING_USD),
        ("/stream/helper", (1, 0), (MESSAGE_IN, MESSAGE_OUT, MESSAGE_CACHED), MESSAGE_USD),
        ("/stream/threads", (1, 0), (MESSAGE_IN, MESSAGE_OUT, MESSAGE_CACHED), MESSAGE_USD),
        ("/responses", (1, 0), (500, 50, 100), RESPONSE_USD),
        ("/boom", (0, 1), (10, 0, 0), EMBEDDING_USD),
        ("/api/rooms/{room}", (0, 1), (10, 0, 0), EMBEDDING_USD),
        ("/cache", (0, 0), (0, 0, 0), 0.0),
    ],
)
def test_the_account_is_on_the_span_and_in_the_metrics(
    run: Run, route: str, calls: tuple[int, int], tokens: tuple[int, int, int], usd: float
) -> None:
    models, embeddings = calls
    span = run.server(route).attributes
    assert span["taximeter.request.model.calls"] == models
    assert span["taximeter.request.embedding.calls"] == embeddings
    assert span["taximeter.request.model.attempts"] == models + embeddings
    assert span["taximeter.request.cost"] == pytest.approx(usd, rel=1e-12)
    names = [f"taximeter.request.tokens.{kind}" for kind in ("input", "output", "cached")]
    assert tuple(span[name] for name in names) == tokens
    assert tuple(run.receiver.total(name, http_route=route) for name in names) == tokens
    assert run.receiver.total("taximeter.request.model.calls", http_route=route) == models
    assert run.receiver.total("taximeter.request.embedding.calls", http_route=route) == embeddings
    assert run.receiver.total("taximeter.cost_usd", http_route=route) == pytest.approx(usd, rel=1e-12)


def test_totals_equal_the_ledger(run: Run) -> None:
    ledger = run.provider.ledger
    calls = ledger["/v1/chat/completions"] + ledger["/v1/responses"] + ledger["/v1/messages"]
    assert run.receiver.total("taximeter.request.model.calls") == calls + 1  # broken was never served
    assert run.receiver.total("taximeter.request.embedding.calls") == ledger["/v1/embeddings"]
    assert run.receiver.total("taximeter.request.model.attempts") == ledger["attempts"]
    assert ledger["attempts"] == calls + ledger["/v1/embeddings"] + 1 + 3  # flaky's and broken's refusals
    money = (
        # Of the chats, one has an unknown model, one was flaky's, and one streamed without usage.
        (ledger["/v1/chat/completions"] - 3) * CHAT_USD
        + RESPONSE_USD
        + ledger["/v1/messages"] * MESSAGE_USD
        + ledger["/v1/embeddings"] * EMBEDDING_USD
    )
    assert run.receiver.total("taximeter.cost_usd") == pytest.approx(money, rel=1e-9)
    assert run.receiver.total("taximeter.request.cost") == pytest.approx(money, rel=1e-9)
    assert run.receiver.total("gen_ai.client.operation.cost") == pytest.approx(money, rel=1e-9)
    spans = sum(span.attributes.get("gen_ai.usage.cost.amount", 0.0) for span in run.receiver.spans)
    assert spans == pytest.approx(money, rel=1e-9)
    tokens = run.receiver.total("gen_ai.client.token.usage")
    assert tokens == sum(
        run.receiver.total(f"taximeter.request.tokens.{kind}") for kind in ("input", "output")
    )


def test_money_is_labelled_by_tenant_provider_model_and_operation(run: Run) -> None:
    (point,) = run.receiver.points("taximeter.cost_usd", taximeter_tenant="ritz")
    assert point.attributes == {
        "http.route": "/chat/{hotel}",
        "taximeter.tenant": "ritz",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.operation.name": "chat",
    }
    assert point.unit == "{USD}"
    tenants = {span.attributes.get("taximeter.tenant") for span in run.receiver.servers("/chat/{hotel}")}
    assert tenants == {"ritz", "savoy", "cheap", "flaky", "broken"}


def test_an_unknown_model_has_no_price_and_is_counted(run: Run) -> None:
    (span,) = [
        span for span in run.receiver.spans if span.attributes.get("gen_ai.request.model") == "llama-of-mine"
    ]
    assert span.attributes["gen_ai.usage.input_tokens"] == CHAT_IN
    assert "gen_ai.usage.cost.amount" not in span.attributes
    (point,) = [
        point
        for point in run.receiver.points("taximeter.unpriced.calls", reason="unknown_model")
        if point.attributes["gen_ai.request.model"] == "llama-of-mine"
    ]
    assert point.value == 1
    assert run.receiver.total("taximeter.request.unpriced.calls", http_route="/chat/{hotel}") == 2


def test_an_unknown_host_is_not_the_provider_that_the_sdk_is_for(
    receiver: Receiver, start: Start, tmp_path: Path
) -> None:
    """A server that speaks OpenAI's protocol: priced by the contract, under its own name, or not at all."""
    contract = tmp_path / "contract.json"
    model = {"id": "gpt-4o-mini", "input": 1.0, "output": 2.0}
    contract.write_text(json.dumps({"version": 1, "providers": {"127.0.0.1": {"models": [model]}}}))
    service = start(TAXIMETER_MODEL_HOSTS="", TAXIMETER_PRICES_FILE=str(contract), OTEL_SERVICE_NAME="other")
    assert service.get("/chat/local").status_code == 200
    assert service.get("/responses").status_code == 200
    assert service.get("/threads").status_code == 200
    service.stop()
    spans = [span for span in receiver.spans if span.resource["service.name"] == "other"]
    calls = [span.attributes for span in spans if "gen_ai.provider.name" in span.attributes]
    assert {attributes["gen_ai.provider.name"] for attributes in calls} == {"127.0.0.1"}
    costs = [(a["gen_ai.request.model"], a.get("gen_ai.usage.cost.amount")) for a in calls]
    assert ("claude-sonnet-4-5", None) in costs
    chat = (1000 * 1.0 + 200 * 2.0) / 1e6  # the contract knows no rate for cached tokens
    assert costs.count(("gpt-4o-mini", pytest.approx(chat))) == 2
    assert service.log().count("Model calls go to 127.0.0.1, which is no provider that Taximeter knows") == 1


def test_a_stream_without_usage_is_counted_as_unpriced(run: Run) -> None:
    (point,) = run.receiver.points("taximeter.unpriced.calls", reason="no_usage")
    assert (point.value, point.attributes["gen_ai.request.model"]) == (1, "gpt-4o-mini")


def test_retries_are_attempts_of_one_call(run: Run) -> None:
    (server,) = [
        span
        for span in run.receiver.servers("/chat/{hotel}")
        if span.attributes["taximeter.tenant"] == "flaky"
    ]
    assert server.attributes["taximeter.request.model.calls"] == 1
    assert server.attributes["taximeter.request.model.attempts"] == 2
    (model,) = [span for span in run.receiver.under(server) if "gen_ai.operation.name" in span.attributes]
    assert model.attributes["taximeter.model.attempts"] == 2


def test_a_call_that_fails_counts_and_costs_nothing(run: Run) -> None:
    (server,) = [
        span
        for span in run.receiver.servers("/chat/{hotel}")
        if span.attributes["taximeter.tenant"] == "broken"
    ]
    account = {key.removeprefix("taximeter.request."): value for key, value in server.attributes.items()}
    assert (account["model.calls"], account["model.attempts"], account["unpriced.calls"]) == (1, 3, 0)
    assert (account["tokens.input"], account["tokens.output"], account["cost"]) == (0, 0, 0.0)
    assert not run.receiver.points("taximeter.cost_usd", taximeter_tenant="broken")
    (model,) = [span for span in run.receiver.under(server) if "gen_ai.operation.name" in span.attributes]
    assert (model.status, model.attributes["taximeter.model.attempts"]) == (2, 3)


def test_streams_are_marked_and_have_a_first_byte(run: Run) -> None:
    for route in ("/stream/openai", "/stream/anthropic", "/stream/helper", "/stream/threads"):
        for span in run.receiver.servers(route):
            assert span.attributes["taximeter.request.streamed"] is True
            assert 0 < span.attributes["taximeter.request.first_byte"] <= (span.end - span.start) / 1e9
    assert run.server("/cache").attributes["taximeter.request.streamed"] is False
    assert run.receiver.total("taximeter.request.streamed") == 5


def test_a_stream_does_not_become_the_parent_of_what_comes_next(run: Run) -> None:
    server = run.server("/stream/anthropic")
    assert {span.parent_id for span in run.models("/stream/anthropic")} == {server.span_id}


def test_caches_features_and_flags(run: Run) -> None:
    span = run.server("/cache").attributes
    assert (span["taximeter.request.cache.lookups"], span["taximeter.request.cache.hits"]) == (3, 1)
    assert (span["taximeter.feature"], span["taximeter.flags"]) == ("faq", "fault.a,fix.b")
    lookups = run.receiver.points("taximeter.request.cache.lookups", http_route="/cache")
    assert {point.attributes["taximeter.cache"]: point.value for point in lookups} == {
        "embeddings": 2,
        "answers": 1,
    }
    repeats = run.receiver.points("taximeter.request.cache.repeats", http_route="/cache")
    assert [(point.attributes["taximeter.cache"], point.value) for point in repeats] == [("embeddings", 1)]


def test_an_exception_closes_the_account(run: Run) -> None:
    span = run.server("/boom")
    assert (span.status, span.attributes["http.response.status_code"]) == (2, 500)
    assert run.receiver.count("http.server.request.duration", http_route="/boom", error_type="500") == 1
    broken = run.server("/broken-stream")
    assert (broken.status, broken.attributes["taximeter.request.embedding.calls"]) == (2, 1)


def test_work_after_the_last_byte_reaches_the_metrics_alone(run: Run) -> None:
    for route in ("/background", "/detached"):
        assert run.server(route).attributes["taximeter.request.embedding.calls"] == 0
        assert run.receiver.total("taximeter.request.embedding.calls", http_route=route) == 1
        money = run.receiver.total("taximeter.cost_usd", http_route=route)
        assert money == pytest.approx(EMBEDDING_USD, rel=1e-12)


def test_the_background_task_is_not_in_the_duration(run: Run) -> None:
    span = run.server("/background")
    (point,) = run.receiver.points("http.server.request.duration", http_route="/background")
    assert point.value < 0.3  # the task sleeps that long
    assert (span.end - span.start) / 1e9 < 0.3


def test_a_mounted_app_is_counted_once_under_its_whole_route(run: Run) -> None:
    span = run.server("/api/rooms/{room}")
    assert span.name == "GET /api/rooms/{room}"
    assert not run.receiver.points("http.server.request.duration", http_route="/api")


def test_exemplars_point_to_spans(run: Run) -> None:
    traces = {span.trace_id for span in run.receiver.servers()}
    for name in (
        *("http.server.request.duration", "taximeter.request.db.calls", "taximeter.cost_usd"),
        *("taximeter.request.first_byte", "gen_ai.client.operation.cost"),
    ):
        exemplars = {trace for point in run.receiver.points(name) for trace in point.exemplars}
        assert exemplars, name
        assert exemplars <= traces, name


def test_the_callers_trace_is_continued(run: Run) -> None:
    assert run.server("/slow").trace_id == "ab" * 16


def test_content_stays_at_home(run: Run) -> None:
    for span in run.receiver.spans:
        assert "hello" not in str(span.attributes).lower(), span


def test_usage_is_what_the_stand_in_said() -> None:
    assert (standin.CHAT["prompt_tokens"], standin.CHAT["completion_tokens"]) == (CHAT_IN, CHAT_OUT)
    assert sum(v for k, v in standin.MESSAGE.items() if k != "output_tokens") == MESSAGE_IN
    assert standin.CHAT["prompt_tokens_details"] == {"cached_tokens": CHAT_CACHED}
