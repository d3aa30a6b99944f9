"""Every account equals an independent tally, whatever shape the work has and however much runs at once.

``make prove-account`` runs the whole (10,000 requests, 200 at once); here runs a shorter one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.agent.conftest import Service, Start
from tests.agent.receiver import Receiver
from tests.agent.soak import SHAPES, Soaked, soak
from tests.agent.standin import Provider

REQUESTS = int(os.environ.get("SOAK_REQUESTS", "180"))
CONCURRENT = int(os.environ.get("SOAK_CONCURRENT", "60"))
NAMES = ("db", "cache", "embed", "chat", "aborted")
METRICS = {
    "db": "taximeter.request.db.calls",
    "cache": "taximeter.request.cache.lookups",
    "embed": "taximeter.request.embedding.calls",
    "chat": "taximeter.request.model.calls",
    "aborted": "taximeter.request.unpriced.calls",
}
#: What these do after their last byte is in their account, but no longer on their span.
LATE = {"background", "detached"}


@pytest.fixture
def fresh() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


def _settled(service: Service) -> dict[str, Any]:
    """The tallies once nothing runs any more: the same twice, a second apart."""
    before: Any = None
    for _ in range(120):
        now = service.get("/tallies").json()
        if now == before and not now["running"] and all(now["idle"]):
            return dict(now)
        before = now
        time.sleep(1)
    raise AssertionError(f"not settled: {now['running']} running, pools idle: {now['idle']}")


def test_every_account_equals_its_tally(fresh: Receiver, start: Start, database: str) -> None:
    provider = Provider()
    try:
        service = start(
            "soaked",
            OTEL_EXPORTER_OTLP_ENDPOINT=fresh.url,
            OPENAI_BASE_URL=f"{provider.url}/v1",
            ANTHROPIC_BASE_URL=provider.url,
            DATABASE_URL=database,
            OTEL_METRIC_EXPORT_INTERVAL="1000",
        )
        seen = asyncio.run(soak(service.port, REQUESTS, CONCURRENT))
        said = _settled(service)
        service.stop()
    finally:
        provider.stop()
    assert not seen.wrong, seen.wrong[:5]
    assert "Taximeter failed" not in service.log()
    _judge(seen, said, fresh, provider)


def _judge(seen: Soaked, said: dict[str, Any], receiver: Receiver, provider: Provider) -> None:
    asked = sum(seen.asked.values())
    assert asked == REQUESTS
    nested = seen.asked["nested"]
    assert len(said["accounts"]) == asked + nested

    # Each account, late work included, against its own tally: no cross-talk.
    wrong = [
        (number, said["routes"][number], tally, said["accounts"][number])
        for number, tally in said["tallies"].items()
        if {name: tally[name] for name in NAMES if name in tally} != said["accounts"][number]
    ]
    assert not wrong, f"{len(wrong)} accounts differ, e.g. {wrong[:5]}"

    # The spans say the same as the accounts, each on its own trace.
    spans = {int(span.trace_id, 16) - 1: span for span in receiver.servers() if span.parent_id == f"{1:016x}"}
    compared = 0
    for number, tally in said["tallies"].items():
        route = said["routes"][number]
        shape = route.split("/")[1]
        if shape in LATE or int(number) >= 10_000_000 or shape.startswith("leaves"):
            continue
        attributes = spans[int(number)].attributes
        on_span = {name: attributes[_field(name)] for name in NAMES if attributes[_field(name)]}
        assert on_span == tally, (route, number)
        compared += 1
    assert compared > asked / 2

    # A nested service has accounts of its own, and the trace adds up.
    for span in receiver.servers("/nested/{number}/{units}"):
        inner = [other for other in receiver.under(span) if other.kind == 2]
        assert len(inner) == 1
        number = str(int(span.trace_id, 16) - 1)
        both = Counter(said["tallies"][number]) + Counter(said["tallies"][str(int(number) + 10_000_000)])
        sums = {name: span.attributes[_field(name)] + inner[0].attributes[_field(name)] for name in NAMES}
        assert {name: value for name, value in sums.items() if value} == dict(both)

    # Metrics by route against the tallies, and nothing outside a route.
    for name, metric in METRICS.items():
        by_route: Counter[str] = Counter()
        for number, tally in said["tallies"].items():
            by_route[said["routes"][number]] += tally.get(name, 0)
        for shape in SHAPES:
            route = f"/{shape}/{{number}}/{{units}}"
            assert receiver.total(metric, http_route=route) == by_route[route], (metric, route)
        assert receiver.total(metric) == sum(by_route.values())
    route = "/gather/{number}/{units}"
    assert receiver.count("http.server.request.duration", http_route=route) == seen.asked["gather"] + nested

    # The provider's ledger, request by request: tries and tokens of what was not given up in flight.
    whole = [number for number, tally in said["tallies"].items() if not tally.get("aborted")]
    assert len(whole) > asked / 2
    for number in whole:
        told = (said["tokens"][number], said["attempts"][number])
        assert told == (provider.tokens[number], provider.attempts[number]), (said["routes"][number], number)
    # What was given up is not free: it is counted as having a price that nobody knows.
    aborted = sum(tally.get("aborted", 0) for tally in said["tallies"].values())
    assert aborted >= seen.asked["cancelled"] + seen.asked["leaves-model"]
    assert receiver.total("taximeter.unpriced.calls", reason="aborted") == aborted


def _field(name: str) -> str:
    return METRICS[name]
