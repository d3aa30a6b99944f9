"""Four workers keep the books as one process does, however they are made.

``make prove-workers`` takes longer and shakes the link to the provider: see ``prove_workers``.
"""

from __future__ import annotations

import pytest

from examples.demo import figures
from examples.demo.stack import Stack, running_stack
from tests.e2e import harness

pytestmark = pytest.mark.e2e

APP = "examples.hotel_chat.app:create_app"
GUNICORN = (
    *("gunicorn", f"{APP}()", "-k", "uvicorn_worker.UvicornWorker", "--workers", "4", "--bind"),
    *("127.0.0.1:{port}", "--log-level", "warning", "--timeout", "120", "--keep-alive", "75"),
)
SERVERS = {
    "uvicorn": (
        *("uvicorn", "--factory", APP, "--workers", "4", "--port", "{port}", "--log-level", "warning"),
        *("--no-access-log", "--timeout-keep-alive", "75", "--timeout-worker-healthcheck", "60"),
    ),
    "gunicorn": GUNICORN,
    "gunicorn --preload": (*GUNICORN, "--preload"),
}


def serve(stack: Stack, name: str, **environment: str | None) -> None:
    """Start one of ``SERVERS`` in place of the service."""
    words = [word.format(port=stack.ports.service) for word in SERVERS[name]]
    stack.start_service(environment, words)


def test_the_books_of_four_workers_balance() -> None:
    """One server after the other, and the sum of what all their workers did."""
    guests = ""
    with running_stack(scale="small", latency_scale=0.1) as stack:
        stack.supervisor.stop("service")
        for name in ("uvicorn", "gunicorn --preload"):
            serve(stack, name)
            stack.start_guests(duration=3, rate=25, guests=40, extra=["--prefix", name[0]])
            assert stack.supervisor.processes["guests"].popen.wait(400) == 0
            log = stack.supervisor.processes["service"]
            assert stack.supervisor.stop("service") in {0, -15}, (name, log.tail())
            assert "Taximeter failed" not in log.log.read_text()
            guests += stack.guests_log.read_text()
        stack.guests_log.write_text(guests)
        stack.drain()
        ledger = harness.ledger_of(stack)
        sources = harness.store_figures(stack)
        sources["metrics"] = figures.from_metrics(figures.parse_exposition(stack.scrape()))
        for source, ours in sources.items():
            harness.assert_balanced(source, ours, ledger)
