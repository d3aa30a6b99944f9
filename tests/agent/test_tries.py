"""What never reached the provider is no call and no try: the provider's own ledger is the judge."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.agent.receiver import Receiver
from tests.agent.script import Script
from tests.agent.standin import Provider


def test_what_found_no_connection_was_asked_of_nobody(tmp_path: Path) -> None:
    receiver, provider = Receiver(), Provider()
    receiver.start()
    try:
        port = str(urlsplit(provider.url).port)
        script = Script(["-m", "tests.agent.refused", port], tmp_path / "log.txt", receiver, provider)
        assert script.end(stop=False) == 0, script.log()
    finally:
        receiver.stop()
        provider.stop()
    assert "Taximeter failed" not in script.log()
    assert provider.ledger["attempts"] == 2
    assert receiver.total("taximeter.request.model.attempts") == 2
    assert receiver.total("taximeter.request.embedding.calls") == 1
    assert receiver.total("taximeter.request.model.calls") == 1
    assert receiver.total("taximeter.unpriced.calls") == 0
    calls = [span for span in receiver.spans if "gen_ai.operation.name" in span.attributes]
    tried = sorted(
        (span.attributes["taximeter.model.attempts"], "error.type" in span.attributes) for span in calls
    )
    assert tried == [(0, True), (0, True), (1, False), (1, False)]
