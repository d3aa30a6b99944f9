"""Prices: by hand, against genai-prices as the oracle, dated, tiered, overridden, and malformed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taximeter import pricing
from taximeter.pricing import Usage

ROOT = Path(__file__).parents[2]
BOOK, _ = pricing.load()


def book(tmp_path: Path, *models: dict[str, Any]) -> pricing.PriceBook:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"version": 1, "providers": {"openai": {"models": list(models)}}}))
    loaded, problem = pricing.load(str(path))
    assert problem is None
    return loaded


@pytest.mark.parametrize(
    ("provider", "model", "usage", "usd"),
    [
        ("openai", "gpt-4o-mini", Usage(1000, 200, 400), 0.00024),
        ("openai", "gpt-4o-mini-2024-07-18", Usage(1000, 200, 400), 0.00024),
        ("openai", "text-embedding-3-small", Usage(1_000_000), 0.02),
        ("anthropic", "claude-sonnet-4-5-20250929", Usage(2800, 100, 2000, 500), 0.004875),
        ("anthropic", "claude-sonnet-4-5", Usage(2800, 100, 2000, 500, 500), 0.006),  # kept for an hour
        ("gcp.gemini", "gemini-2.5-pro", Usage(200_001, 10), (200_001 * 2.5 + 10 * 15) / 1e6),  # tier
        ("gcp.gemini", "gemini-2.5-pro", Usage(200_000, 10), (200_000 * 1.25 + 10 * 10) / 1e6),
        ("azure.ai.openai", "gpt-4o-mini", Usage(1000, 0), 0.00015),
    ],
)
def test_by_hand(provider: str, model: str, usage: Usage, usd: float) -> None:
    assert BOOK.price(provider, [model], usage) == pytest.approx(usd, rel=1e-12)


def test_unknown_is_not_free() -> None:
    assert BOOK.price("openai", ["llama-of-mine", None], Usage(1000, 10)) is None
    assert BOOK.price("nobody", ["gpt-4o-mini"], Usage(1000, 10)) is None


def test_the_first_known_model_is_taken() -> None:
    assert BOOK.price("openai", ["deployment-7", "gpt-4o-mini"], Usage(1_000_000)) == pytest.approx(0.15)


def test_contradictory_counts_never_earn_money() -> None:
    assert BOOK.price("openai", ["gpt-4o-mini"], Usage(10, 0, 5000, 5000)) == pytest.approx(10 * 0.075 / 1e6)


def test_every_model_equals_genai_prices() -> None:
    """The oracle, for every model of the providers whose every model is by token."""
    from genai_prices import Usage as TheirUsage
    from genai_prices import data

    when = datetime(2026, 11, 1, tzinfo=UTC)
    compared = 0
    for provider in data.providers:
        if provider.id not in {"openai", "anthropic", "google"}:
            continue
        for model in provider.models:
            found = provider.find_model(model.id)
            ours = BOOK.price(provider.id, [model.id], Usage(250_000, 500, 1000, 300), when.timestamp())
            if found is None or ours is None:
                continue
            price = found.get_prices(when)
            theirs = TheirUsage(
                input_tokens=250_000, output_tokens=500, cache_read_tokens=1000, cache_write_tokens=300
            )
            expected = found.calc_price(theirs, provider, genai_request_timestamp=when).total_price
            if price.input_mtok is None or price.output_mtok is None:
                continue  # an embedding has no output to price
            assert ours == pytest.approx(float(expected), rel=1e-9), (provider.id, model.id)
            compared += 1
    assert compared > 100


def test_the_table_is_what_genai_prices_renders() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taximeter_cli", "prices", "update", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_dated_prices_change_at_midnight_utc(tmp_path: Path) -> None:
    dated = [{"input": 1}, {"from": "2026-07-01", "input": 2}, {"from": "2027-01-01", "input": 4}]
    loaded = book(tmp_path, {"id": "m", "prices": dated})
    for moment, rate in (("2026-06-30T23:59:59", 1), ("2026-07-01T00:00:00", 2), ("2030-01-01T00:00:00", 4)):
        when = datetime.fromisoformat(moment + "+00:00").timestamp()
        assert loaded.price("openai", ["m"], Usage(1_000_000), when) == pytest.approx(rate)


def test_a_contract_goes_before_the_list(tmp_path: Path) -> None:
    loaded = book(tmp_path, {"id": "gpt-4o-mini", "input": 0.1, "output": 0.5})
    assert loaded.price("openai", ["gpt-4o-mini"], Usage(1_000_000)) == pytest.approx(0.1)
    assert loaded.price("openai", ["gpt-4o"], Usage(1_000_000)) == BOOK.price(
        "openai", ["gpt-4o"], Usage(1_000_000)
    )


@pytest.mark.parametrize("how", ["=", "^", "$", "*", "~"])
def test_ways_of_matching(tmp_path: Path, how: str) -> None:
    text = {"=": "ab-cd", "^": "ab", "$": "cd", "*": "b-c", "~": "^ab.cd$"}[how]
    loaded = book(tmp_path, {"id": "m", "match": [["=", "other"], [how, text]], "input": 1})
    assert loaded.price("openai", ["AB-cd"], Usage(1_000_000)) == pytest.approx(1)
    assert loaded.price("openai", ["xyz"], Usage(1_000_000)) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"version": 1,\n  "providers": }', "line 2, column 16"),
        ("[]", "at $: must be an object, not list"),
        ('{"version": 2, "providers": {}}', "at $.version: must be 1, not 2"),
        ('{"version": 1, "providers": {"openai": {}}}', "at $.providers.openai.models: must be a list"),
        (
            '{"version": 1, "providers": {"openai": {"models": [{"id": "m", "input": "free"}]}}}',
            "models[0] (m).prices[0].input: must be USD per million tokens",
        ),
        (
            '{"version": 1, "providers": {"openai": {"models": [{"id": "m", "inputs": 1}]}}}',
            "unknown key 'inputs'",
        ),
        (
            '{"version": 1, "providers": {"openai": {"models": [{"id": "m", "input": 1, "from": "soon"}]}}}',
            "must be a date like 2026-01-31, not 'soon'",
        ),
        (
            '{"version": 1, "providers": {"o": {"models": [{"id": "m", "input": 1, "match": [["~","("]]}]}}}',
            "bad regular expression '('",
        ),
        ('{"version": 1, "providers": {"o": {"models": [{"id": "m", "input": -1}]}}}', "not -1"),
        ('{"version": 1, "providers": {"o": {"models": [{"id": "m"}]}}}', "neither 'input' nor 'output'"),
    ],
)
def test_a_malformed_file_is_told_with_path_place_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "contract.json"
    path.write_text(text)
    loaded, problem = pricing.load(str(path))
    assert problem is not None
    assert str(path) in problem
    assert says in problem
    assert "unset TAXIMETER_PRICES_FILE" in problem
    assert loaded.price("openai", ["gpt-4o-mini"], Usage(1_000_000)) == pytest.approx(0.15)


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    _, problem = pricing.load(str(tmp_path / "nowhere.json"))
    assert problem is not None
    assert "nowhere.json cannot be read: No such file or directory" in problem


def test_pricing_imports_no_opentelemetry() -> None:
    assert importlib.util.find_spec("opentelemetry") is not None
    code = (
        "import sys, taximeter, taximeter.pricing, taximeter.account, taximeter.semconv, taximeter.sql\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
