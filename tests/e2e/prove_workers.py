"""The books of four workers while the way to the provider fails again and again.

``make prove-workers`` starts the example under each server of ``test_workers``, lets the link to the
provider refuse connections several times while guests ask, and holds Taximeter against the ledgers.
What is refused was asked of nobody, so it may be in neither. An answer that is lost on the way is
charged for by the provider and known to nobody else: where that happened, tokens and money are
printed and not judged. Nor is the row of errors: a guest whose stream breaks off saw one, under a
status of 200.
"""

from __future__ import annotations

import sys
import time

from examples.demo import books, figures
from examples.demo.stack import Stack, running_stack
from taximeter_analysis import open_store
from taximeter_cli.supervise import free_port
from tests.e2e import harness
from tests.e2e.test_workers import SERVERS, serve
from tests.e2e.weak_link import WeakLink, weak_link

OUTAGES_S = (0.7, 1.5, 0.7, 3.0)
COUNTS = frozenset({"requests", "database calls", "model calls", "embedding calls", "attempts (HTTP)"})


def shake(stack: Stack, link: WeakLink) -> None:
    """Take the link down several times, once the first answers have come."""
    while not stack.guests_log.exists() or stack.guests_log.read_text().count("\n") < 60:
        time.sleep(0.2)
    for seconds in OUTAGES_S:
        link.down()
        time.sleep(seconds)
        link.up()
        time.sleep(1.0)


def prove(name: str) -> bool:
    """One server; whether its books balance."""
    with running_stack(scale="small", latency_scale=0.2) as stack:
        stack.supervisor.stop("service")
        stack.reset_ledgers()
        with weak_link(free_port(), stack.ports.provider) as link:
            environment = {
                key: value.replace(f":{stack.ports.provider}", f":{link.port}")
                for key, value in stack.provider_env.items()
            }
            serve(stack, name, **environment)
            stack.start_guests(duration=14, rate=25, guests=60)
            shake(stack, link)
            assert stack.supervisor.processes["guests"].popen.wait(400) == 0
            status = stack.supervisor.stop("service")
            stack.drain()
        ledger = harness.ledger_of(stack)
        sources = harness.store_figures(stack)
        sources["metrics"] = figures.from_metrics(figures.parse_exposition(stack.scrape()))
        rows = [row for source, ours in sources.items() for row in books.compare(source, ours, ledger)]
        with open_store(stack.store) as store:
            failed = store.rows(
                "SELECT count(*) FROM spans "
                "WHERE error_type IN ('ConnectError', 'ConnectTimeout', 'PoolTimeout')"
            )[0][0]
    judged = [
        row
        for row in rows
        if row.what != "errors (5xx)" and (link.unheard == 0 or row.what.partition(" by ")[0] in COUNTS)
    ]
    wrong = [row for row in judged if not row.balanced]
    print(
        f"{name}: {ledger.requests:.0f} requests, {ledger.model_calls + ledger.embedding_calls:.0f} calls, "
        f"{ledger.attempts:.0f} tries at the provider, {failed} without a connection, "
        f"{link.unheard} answers lost on the way; server ended with {status}; "
        f"{len(judged) - len(wrong)} of {len(judged)} rows balance",
        flush=True,
    )
    for row in rows:
        if not row.balanced:
            print(f"  {'NOT BALANCED' if row in wrong else 'not judged'}: {row}", flush=True)
    return not wrong and failed > 0


if __name__ == "__main__":
    proven = [prove(name) for name in sys.argv[1:] or SERVERS]  # each, whatever the one before
    sys.exit(not all(proven))
