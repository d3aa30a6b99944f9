"""Metrics equal the ledgers at any sampling rate of spans."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.agent.conftest import Start
from tests.agent.receiver import Receiver
from tests.agent.standin import Provider


def test_one_percent_sampling_changes_no_metric(
    receiver: Receiver, provider: Provider, start: Start, database: str
) -> None:
    service = start(
        DATABASE_URL=database,
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.01",
    )
    rounds = 8
    for _ in range(rounds):
        for path in (
            "/everything",
            "/stream/helper",
            "/db/n-plus-one",
            "/db/sync",
            "/db/rare",
            "/api/rooms/1",
        ):
            assert service.get(path).status_code == 200
    unsampled = service.get("/plain/a", traceparent=f"00-{'12' * 16}-{'34' * 8}-00")
    assert unsampled.status_code == 200
    service.stop()
    assert "Taximeter failed" not in service.log()

    assert len(receiver.servers()) < 10, "sampled far too many"
    assert not [span for span in receiver.spans if span.trace_id == "12" * 16]
    ledger = provider.ledger
    assert receiver.count("http.server.request.duration") == 6 * rounds + 1
    assert receiver.count("http.server.request.duration", http_route="/api/rooms/{room}") == rounds
    for route, calls in (("/db/n-plus-one", 5), ("/db/sync", 3), ("/db/rare", 3)):
        assert receiver.total("taximeter.request.db.calls", http_route=route) == calls * rounds
    models = ledger["/v1/chat/completions"] + ledger["/v1/messages"]
    assert models == 3 * rounds
    assert receiver.total("taximeter.request.model.calls") == models
    assert receiver.total("taximeter.request.embedding.calls") == ledger["/v1/embeddings"]
    assert receiver.total("taximeter.request.model.attempts") == ledger["attempts"]
    assert receiver.total("taximeter.request.tokens.input") == (2 * 2800 + 1000 + 2 * 10) * rounds
    assert receiver.total("taximeter.request.tokens.output") == (2 * 100 + 200) * rounds
    money = 2 * 0.004875 + 0.00024 + 2 * 2e-7
    assert receiver.total("taximeter.cost_usd") == pytest.approx(money * rounds, rel=1e-9)


PREFORK = (
    *("gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}", "--log-level", "warning"),
    *("--workers", "4", "--preload", "--timeout", "120"),
)


ROWS: list[tuple[str, tuple[str, ...]]] = [("1", PREFORK), ("0.01", PREFORK), ("0.1", ())]
if os.environ.get("PROVE_SAMPLING"):  # the whole table: `make prove-account`
    ROWS += [("0.1", PREFORK), ("1", ()), ("0.01", ())]


@pytest.mark.parametrize(("rate", "server"), ROWS)
def test_tenants_and_routes_equal_the_ledger_in_every_worker(
    start: Start, database: str, rate: str, server: tuple[str, ...]
) -> None:
    receiver, provider = Receiver(), Provider()
    receiver.start()
    try:
        service = start(
            "service",
            server,
            DATABASE_URL=database,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OPENAI_BASE_URL=f"{provider.url}/v1",
            OTEL_TRACES_SAMPLER="parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG=rate,
            OTEL_METRIC_EXPORT_INTERVAL="700",
        )
        visits = {"ritz": 25, "savoy": 15, "n": 10}
        paths = ["/chat/ritz"] * 25 + ["/chat/savoy"] * 15 + ["/db/n-plus-one"] * 10
        with ThreadPoolExecutor(8) as guests:
            statuses = list(guests.map(lambda path: service.get(path).status_code, paths))
        assert statuses == [200] * len(paths)
        service.stop()
    finally:
        receiver.stop()
        provider.stop()
    assert "Taximeter failed" not in service.log()
    sampled = len(receiver.servers())
    processes = "four workers" if server else "one process"
    print(  # for whoever wants to see it (-s)
        f"\nrate {rate}, {processes}: {len(paths)} requests, {sampled} spans; "
        f"statements {receiver.total('taximeter.request.db.calls'):.0f} of {5 * visits['n']}; tokens "
        f"{receiver.total('taximeter.request.tokens.input'):.0f} of {sum(provider.tokens.values())}; "
        f"USD {receiver.total('taximeter.cost_usd'):.8f} of {40 * 0.00024:.8f}",
    )
    assert sampled == len(paths) if rate == "1" else sampled < len(paths) / 2
    chats = "/chat/{hotel}"
    for hotel in ("ritz", "savoy"):
        labels = {"http_route": chats, "taximeter_tenant": hotel}
        assert provider.tokens[hotel] == visits[hotel] * 1000
        assert receiver.total("taximeter.request.tokens.input", **labels) == provider.tokens[hotel]
        money = receiver.total("taximeter.cost_usd", **labels)
        assert money == pytest.approx(visits[hotel] * 0.00024, rel=1e-9)
    assert receiver.total("taximeter.request.db.calls", http_route="/db/n-plus-one") == 5 * visits["n"]
    assert receiver.total("taximeter.request.db.calls") == 5 * visits["n"]
    assert receiver.total("taximeter.request.model.attempts") == provider.ledger["attempts"]
    assert receiver.count("http.server.request.duration") == len(paths)
