"""Metrics equal the ledgers at any sampling rate of spans."""

from __future__ import annotations

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
