"""The books say which row is wrong, whatever its key is made of."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from examples.demo import books
from examples.demo.ledgers import Figures, GuestRequest

LEDGER = Figures(requests=3, cost_usd=0.3, requests_by_route={"/hotels/{hotel}/chat": 2, "": 1})


def test_equal_figures_balance() -> None:
    assert all(row.balanced for row in books.compare("spans", LEDGER, LEDGER))


def test_a_wrong_route_is_named_and_printed_as_it_is() -> None:
    wrong = replace(LEDGER, requests_by_route={"/hotels/{hotel}/chat": 3, "": 1})
    rows = books.compare("spans", wrong, LEDGER)
    [row] = [row for row in rows if not row.balanced]
    assert (row.taximeter, row.ledger, row.where) == (3, 2, "/hotels/{hotel}/chat")
    console = Console(width=120)
    with console.capture() as capture:
        books.print_books(console, rows)
    assert "requests by route [/hotels/{hotel}/chat]" in capture.get()


def test_money_may_differ_in_its_last_bits_only() -> None:
    assert all(row.balanced for row in books.compare("x", replace(LEDGER, cost_usd=0.1 + 0.2), LEDGER))
    off = books.compare("x", replace(LEDGER, cost_usd=0.3000001), LEDGER)
    assert [row.what for row in off if not row.balanced] == ["money (USD)"]


def test_a_server_slower_than_its_client_is_found() -> None:
    guest = GuestRequest("g1", "ab", "GET", "/a", "h", 0, 1_000, 200, False)
    rows = books.latency([guest], {"ab": 1_001})
    assert rows[0].longer == 1
    assert [row.balanced for row in books.latency_row(rows, 1)] == [True, False]
