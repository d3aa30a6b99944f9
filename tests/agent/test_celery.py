"""Celery's own worker with two forked children: each task's money once, by its tenant, and nothing lost.

Takes a minute where the machine is busy, so `make prove-workers` runs it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agent.conftest import ROOT
from tests.agent.receiver import Receiver
from tests.agent.script import Script
from tests.agent.standin import Provider

TASKS = {"ritz": 12, "savoy": 8}
CHAT = (600 * 0.15 + 400 * 0.075 + 200 * 0.60) / 1e6  # gpt-4o-mini, see the stand-in's usage


@pytest.mark.skipif("PROVE_WORKERS" not in os.environ, reason="make prove-workers")
def test_every_tasks_money_is_counted_once_and_by_its_tenant(tmp_path: Path) -> None:
    receiver, provider = Receiver(), Provider()
    receiver.start()
    folder = tmp_path / "messages"
    folder.mkdir()
    worker = ["-m", "celery", "-A", "tests.agent.celery_app", "worker", "-P", "prefork", "-c", "2"]
    script = Script(worker, tmp_path / "log", receiver, provider, CELERY_FOLDER=str(folder))
    try:
        hotels = [*TASKS] * 8 + ["ritz"] * 4
        send = f"from tests.agent.celery_app import summarise\nfor h in {hotels}: summarise.delay(h)"
        environment = os.environ | {"CELERY_FOLDER": str(folder), "OPENAI_API_KEY": "x"}
        subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=environment, check=True)
        until = time.monotonic() + 60
        while provider.ledger["attempts"] < sum(TASKS.values()) and time.monotonic() < until:
            time.sleep(0.1)
        script.process.send_signal(signal.SIGTERM)
        assert script.process.wait(30) == 0, script.log()
    finally:
        script.end()
        receiver.stop()
        provider.stop()
    assert "Taximeter failed" not in script.log(), script.log()
    assert receiver.total("taximeter.request.model.attempts") == provider.ledger["attempts"]
    for hotel, sent in TASKS.items():
        assert receiver.total("taximeter.cost_usd", taximeter_tenant=hotel) == pytest.approx(sent * CHAT)
    tasks = [span for span in receiver.spans if span.name == "run/summarise"]
    assert len(tasks) == sum(TASKS.values())
    assert {span.attributes["taximeter.request.model.calls"] for span in tasks} == {1}
    assert {span.attributes["taximeter.tenant"] for span in tasks} == set(TASKS)
