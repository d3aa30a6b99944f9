"""The books of four workers while the way to the provider fails again and again.

``make prove-workers`` starts the example under each server of ``test_workers``, lets the link to the
provider refuse connections several times while guests ask, and holds Taximeter against the ledgers.
What is refused was asked of nobody, so it may be in neither. A connection that is cut off once it
stood leaves both ends with different books, and no one to ask: whether the request arrived, and
whether its answer did. So where tries or guests were cut off, a row may differ by as many, tokens
and money are printed and not judged, and so are errors: a guest whose stream breaks off saw one,
under a status of 200.
"""

from __future__ import annotations

import sys
import time

from examples.demo import books, figures, ledgers
from examples.demo.stack import Stack, running_stack
from taximeter_analysis import Store, open_store
from taximeter_cli.supervise import free_port
from tests.e2e import harness
from tests.e2e.test_workers import SERVERS, serve
from tests.e2e.weak_link import WeakLink, weak_link

OUTAGES_S = (0.7, 1.5, 0.7, 3.0)


def shake(stack: Stack, link: WeakLink) -> None:
    """Take the link down several times, once the first answers have come."""
    while not stack.guests_log.exists() or stack.guests_log.read_text().count("\n") < 60:
        time.sleep(0.2)
    for seconds in OUTAGES_S:
        link.down()
        time.sleep(seconds)
        link.up()
        time.sleep(1.0)


def _errors(store: Store, *kinds: str) -> int:
    """Spans of the HTTP client that ended with one of these."""
    found = store.rows(f"SELECT count(*) FROM spans WHERE error_type IN {kinds!r}")
    return int(found[0][0])


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
            unconnected = _errors(store, "ConnectError", "ConnectTimeout", "PoolTimeout")
            cut = _errors(store, "ReadError", "WriteError", "RemoteProtocolError")
        guests = sum(guest.status == 0 and guest.reached for guest in ledgers.read_guests(stack.guests_log))
    unknown = {"requests": guests, "database calls": 0, "model calls": cut, "embedding calls": cut}
    unknown["attempts (HTTP)"] = cut
    exact = not (cut or guests or link.unheard)
    judged, wrong = 0, []
    for row in rows:
        what = row.what.partition(" by ")[0].partition(" (")[0]
        what = "attempts (HTTP)" if what == "attempts" else what
        if (what in unknown or exact) and what != "errors":
            judged += 1
            if not row.balanced and abs(row.difference) > unknown.get(what, 0):
                wrong.append(row)
    print(
        f"{name}: {ledger.requests:.0f} requests, {ledger.model_calls + ledger.embedding_calls:.0f} calls, "
        f"{ledger.attempts:.0f} tries at the provider, {unconnected} without a connection; "
        f"cut off: {cut} tries, {link.unheard} answers, {guests} guests; server ended with {status}; "
        f"{judged - len(wrong)} of {judged} rows balance",
        flush=True,
    )
    for row in rows:
        if not row.balanced:
            print(f"  {'NOT BALANCED' if row in wrong else 'explained'}: {row}", flush=True)
    return not wrong and unconnected > 0


if __name__ == "__main__":
    proven = [prove(name) for name in sys.argv[1:] or SERVERS]  # each, whatever the one before
    sys.exit(not all(proven))
