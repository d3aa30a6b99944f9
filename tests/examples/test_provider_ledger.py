"""When a call begins, in the provider's ledger: with the first of its attempts that arrives."""

from __future__ import annotations

from pathlib import Path

from examples.provider.ledger import Ledger


def calls(tmp_path: Path, *retries: int) -> int:
    """Calls that begin when one request's attempts with the same body arrive like that."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    try:
        return sum(ledger.begins_call("g1", b"towels?", retry) for retry in retries)
    finally:
        ledger.close()


def test_a_retry_is_no_call_unless_what_it_repeats_never_arrived(tmp_path: Path) -> None:
    assert calls(tmp_path, 0) == 1
    assert calls(tmp_path, 0, 1, 2) == 1
    assert calls(tmp_path, 1) == 1  # the first one found no connection
    assert calls(tmp_path, 0, 2) == 1  # the second one found none
    assert calls(tmp_path, 0, 0) == 2  # the same was asked twice
    assert calls(tmp_path, 0, 1, 1) == 2
    assert calls(tmp_path, 0, 0, 1, 1) == 2


def test_requests_and_bodies_are_told_apart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.begins_call("g1", b"towels?", 0)
    assert ledger.begins_call("g2", b"towels?", 1)
    assert ledger.begins_call("g1", b"soap?", 1)
    assert not ledger.begins_call("g1", b"towels?", 1)
    ledger.close()
