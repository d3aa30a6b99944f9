"""The service is told to end under load: every request that finished is in the store."""

from __future__ import annotations

import signal
import time

import pytest

from examples.demo import figures, ledgers
from examples.demo.stack import Stack, running_stack
from taximeter_analysis import open_store
from tests.e2e import harness

pytestmark = pytest.mark.e2e


def more_than(stack: Stack, least: int) -> int:
    """Waits for so many answered requests; how many there are then."""
    deadline = time.monotonic() + 60
    while (found := answers(stack)) <= least:
        assert time.monotonic() < deadline, f"{found} answers in 60 s"
        time.sleep(0.1)
    return found


def answers(stack: Stack) -> int:
    lines = stack.guests_log.read_text().splitlines() if stack.guests_log.exists() else []
    return sum('"status":2' in line for line in lines)


def test_nothing_finished_is_lost_on_sigterm_and_on_ctrl_c() -> None:
    with running_stack(scale="small", latency_scale=0.2) as stack:
        guests = stack.start_guests(duration=600, rate=15, guests=50)
        answered = 0
        for number in (signal.SIGTERM, signal.SIGINT):  # under load: the guests go on meanwhile
            answered = more_than(stack, answered + 30)
            service = stack.supervisor.processes["service"]
            service.signal(number)
            service.popen.wait(30)
            assert guests.running
            stack.start_service()
        more_than(stack, answered)
        guests.signal(signal.SIGTERM)
        harness.finish(stack)

        ledger = harness.ledger_of(stack)
        finished = [guest for guest in ledgers.read_guests(stack.guests_log) if guest.reached]
        with open_store(stack.store) as store:
            durations = figures.server_durations(store)
        missing = [guest for guest in finished if guest.trace_id not in durations]
        assert not missing, f"{len(missing)} of {len(finished)} finished requests are not in the store"
        # Calls and money too: each process's metrics are series of their own, summed.
        metrics = figures.from_metrics(figures.parse_exposition(stack.scrape()))
        for ours in (*harness.store_figures(stack).values(), metrics):
            assert ours.cost_usd == pytest.approx(ledger.cost_usd, rel=1e-9)
            assert ours.db_calls == ledger.db_calls
