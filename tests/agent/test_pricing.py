"""Prices: by hand, against genai-prices as the oracle, dated, tiered, overridden, and malformed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from taximeter import pricing
from taximeter.pricing import Usage
from taximeter.tariff import Tariff

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


def contract(tmp_path: Path, document: dict[str, Any]) -> pricing.PriceBook:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps({"version": 1, **document}))
    loaded, problem = pricing.load(str(path))
    assert problem is None
    return loaded


MILLION = Usage(1_000_000)


def test_a_discount_is_off_the_list_price_of_all_that_the_contract_does_not_name(tmp_path: Path) -> None:
    models = [{"id": "gpt-4.1", "discount": 0.5}, {"id": "gpt-4o", "input": 2}]
    loaded = contract(tmp_path, {"providers": {"openai": {"discount": 0.1, "models": models}}})
    assert loaded.price("openai", ["gpt-4o-mini"], MILLION) == pytest.approx(0.15 * 0.9)
    assert loaded.price("openai", ["gpt-4.1"], MILLION) == pytest.approx(2.00 / 2)
    assert loaded.price("openai", ["gpt-4o"], MILLION) == pytest.approx(2)
    assert loaded.price("azure.ai.openai", ["gpt-4o-mini"], MILLION) == pytest.approx(0.15 * 0.9)
    assert loaded.price("anthropic", ["claude-haiku-4-5"], MILLION) == pytest.approx(1)
    assert loaded.quote("openai", ["gpt-4o-mini"], MILLION, tier="batch").cost == pytest.approx(0.075 * 0.9)


def test_another_currency_is_converted_once(tmp_path: Path) -> None:
    model = {"id": "m", "input": 2, "web_search": 5}
    loaded = contract(
        tmp_path, {"currency": "EUR", "usd": 1.08, "providers": {"openai": {"models": [model]}}}
    )
    assert loaded.price("openai", ["m"], MILLION) == pytest.approx(2.16)
    assert loaded.price("openai", ["m"], Usage(1_000_000, web_search=1000)) == pytest.approx(2.16 + 5.40)


def test_a_tier_inherits_what_it_leaves_out_and_changes_with_the_standard_price(tmp_path: Path) -> None:
    prices = [
        {"input": 2, "output": 8},
        {"from": "2026-07-01", "input": 1, "output": 4},
        {"tier": "batch", "input": 0.5},
    ]
    loaded = book(tmp_path, {"id": "m", "prices": prices})
    for day, output in ((date(2026, 6, 30), 8), (date(2026, 7, 1), 4)):
        when = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        quote = loaded.quote("openai", ["m"], Usage(1_000_000, 1_000_000), tier="batch", when=when)
        assert quote.cost == pytest.approx(0.5 + output)
    assert loaded.quote("openai", ["m"], MILLION, tier="flex").reason == "unknown_tier"


def prices(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taximeter_cli", "prices", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_price_is_explained() -> None:
    done = prices("o3", "--provider", "openai", "--at", "2026-11-01")
    assert done.returncode == 0
    assert "openai o3  (genai-prices" in done.stdout
    assert "since 2025-06-10" in done.stdout
    assert "cache_read         $0.5 per million tokens" in done.stdout


def test_a_bill_is_explained_line_by_line() -> None:
    answer = {
        "type": "message",
        "usage": {
            **{"input_tokens": 100, "output_tokens": 50, "cache_creation_input_tokens": 1000},
            **{"cache_creation": {"ephemeral_1h_input_tokens": 400}, "inference_geo": "us"},
        },
    }
    done = prices("claude-opus-4-8", "--provider", "anthropic", "--usage", "-", stdin=json.dumps(answer))
    assert done.returncode == 0
    assert "cache_write_1h          400  $0.00440000" in done.stdout  # 400 at $10, a tenth more
    cost = 1.1 * (100 * 5 + 600 * 6.25 + 400 * 10 + 50 * 25) / 1e6
    assert f"cost: ${cost:.8f} (local)" in done.stdout


def test_no_price_is_told_with_the_remedy() -> None:
    done = prices("llama-of-mine", "--provider", "openai")
    assert done.returncode == 1
    assert "no price is known for 'llama-of-mine' from openai" in done.stderr
    assert "TAXIMETER_PRICES_FILE" in done.stderr
    flex = prices("gpt-4.1", "--provider", "openai", "--tier", "flex")
    assert (flex.returncode, "no price for the tier 'flex'" in flex.stdout) == (1, True)
    assert "--at 'soon' is no date" in prices("o3", "--at", "soon").stderr


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
        ('{"version": 1, "currency": "EUR", "providers": {}}', "at $.usd: must say what one EUR is in USD"),
        ('{"version": 1, "currency": "euro", "usd": 2, "providers": {}}', "three capital letters"),
        ('{"version": 1, "providers": {"o": {"discount": 10}}}', "a share between 0 and 1"),
        (
            '{"version": 1, "providers": {"o": {"models": [{"id": "m", "discount": 0.1, "input": 1}]}}}',
            "has a discount and 'input': give one of the two",
        ),
        (
            '{"version":1,"providers":{"o":{"models":[{"id":"m","prices":[{"tier":"batch","input":1}]}]}}}',
            "has no price without a tier",
        ),
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


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini", "text-embedding-3-small", "gpt-5.4", "claude-haiku-4-5", "none"]
)
@pytest.mark.parametrize(
    "usage",
    [
        *(Usage(), Usage(1000), Usage(1000, 200), Usage(1000, 200, 400), Usage(10, 5, 40)),
        *(Usage(300_000, 9, 7), Usage(900, 80, 100, 200, 50), Usage(900, 80, input_audio=70, web_search=2)),
    ],
)
def test_a_tariff_that_is_kept_says_what_the_book_says(model: str, usage: Usage) -> None:
    for provider in ("openai", "anthropic"):
        for factor in (1.0, 1.1):
            tariff = Tariff(BOOK, provider, (None, model), "")
            for _ in range(2):
                quote = BOOK.quote(provider, (None, model), usage, factor=factor)
                assert tariff.quote(usage, factor) == (quote.cost, quote.reason)


def test_a_tariff_changes_on_its_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = {"id": "m", "prices": [{"input": 1}, {"input": 3, "from": "2026-02-01"}]}
    tariff = Tariff(book(tmp_path, model), "openai", ("m",), "")
    for day, cost in (("2026-01-31", 1.0), ("2026-02-01", 3.0), ("2026-02-02", 3.0)):
        now = datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()
        monkeypatch.setattr("time.time", lambda now=now: now)
        assert tariff.quote(Usage(10**6)) == (cost, "")
