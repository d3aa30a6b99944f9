"""``taximeter reconcile``: a real run against its ledger's exports, and every explanation on its own.

The samples in ``tests/fixtures/exports`` are typed after the shapes that the providers document; `agreeing`
is a store of exactly the calls they tell of.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.provider import exports as ledger
from taximeter_analysis import open_store
from taximeter_analysis.reconcile.exports import NotAnExport, read_export
from taximeter_analysis.reconcile.match import reconcile
from taximeter_analysis.reconcile.model import Reconciliation
from taximeter_analysis.reconcile.names import base
from taximeter_analysis.reconcile.ours import seen
from taximeter_analysis.window import Filters
from taximeter_cli.main import main
from tests.analysis.recording import RUN
from tests.analysis.stores import EPOCH_NS, Builder

SAMPLES = Path(__file__).parents[2] / "fixtures" / "exports"
HOUR = 3_600_000
DAY = 24 * HOUR
MIDNIGHT = -8 * HOUR  # before the builder's epoch, in milliseconds
NOON = 4 * HOUR
API = ("openai-completions.json", "openai-embeddings.json", "openai-costs.json", "anthropic-usage.json",
       "anthropic-costs.json")  # fmt: skip
DASHBOARDS = ("openai-usage.csv", "openai-costs.csv", "anthropic-usage.csv", "anthropic-costs.csv")


def agreeing(shift_ms: float = 0.0) -> Builder:
    """The calls that the samples tell of, at noon; on the edges of the store, a request and another."""
    build = Builder()
    build.request("/edge", MIDNIGHT - DAY, 1)
    build.request("/edge", MIDNIGHT + 3 * DAY, 1)

    def call(model: str, tokens: tuple[int, int, int], cost: float, day: int = 0, **row: Any) -> None:
        build.model(None, NOON + day * DAY + shift_ms, 500, model=model, tokens=tokens, cost=cost, **row)

    for tokens, cost in (((1500, 100, 1024), 0.00347), ((1000, 150, 0), 0.004), ((500, 50, 0), 0.00175)):
        call("gpt-4o-2024-08-06", tokens, cost)
    for _ in range(2):
        call("text-embedding-3-small", (20, 0, 0), 0.0000004, operation="embeddings")
    claude: Any = {"ai_provider": "anthropic", "ai_cache_write_tokens": 1000}
    call("claude-haiku-4-5-20251001", (3500, 100, 2000), 0.00245, **claude)
    call("gpt-4o-2024-08-06", (500, 50, 0), 0.00175, day=1)
    return build


def held(
    build: Builder, folder: Path, *files: str | Path, tolerance: float = 0.001, now: float = 0.0
) -> Reconciliation:
    exports = [read_export(SAMPLES / file) for file in files]
    with open_store(build.write(folder / "store")) as store:
        return reconcile(exports, seen(store, Filters()), "store", tolerance, now)


@pytest.mark.parametrize("files", [API, DASHBOARDS], ids=["api", "dashboards"])
def test_the_samples_agree_with_their_calls(files: tuple[str, ...], tmp_path: Path) -> None:
    found = held(agreeing(), tmp_path, *files)
    assert [row for row in found.rows if not row.agrees] == []
    assert found.agrees and not found.findings
    rows = {(row.day, row.model): row for row in found.rows}
    gpt = rows["2027-01-15", "gpt-4o-2024-08-06"]
    assert gpt.provider_says.cost_usd == pytest.approx(gpt.taximeter.cost_usd, rel=1e-12)
    assert (gpt.provider_says.requests, gpt.provider_says.cached_tokens) == (3, 1024)
    claude = next(row for row in found.rows if row.provider == "anthropic")
    assert (claude.provider_says.input_tokens, claude.provider_says.cached_tokens) == (3500, 2000)
    assert claude.provider_says.requests is None  # Anthropic does not tell
    assert {row.provider: row.agrees for row in found.totals} == {"openai": True, "anthropic": True}


def _drop(build: Builder) -> None:
    build.spans.remove(next(span for span in build.spans if span.get("ai_input_tokens") == 1000))


def _unprice(build: Builder) -> None:
    next(span for span in build.spans if span.get("ai_input_tokens") == 1000)["cost_usd"] = None


def _forget_claude(build: Builder) -> None:
    build.spans = [span for span in build.spans if span.get("ai_provider") != "anthropic"]


def _leave_out_cached(build: Builder) -> None:
    claude = next(span for span in build.spans if span.get("ai_provider") == "anthropic")
    claude["ai_input_tokens"] += 3000  # as tools do that count cached tokens twice


def _alias(build: Builder) -> None:
    for span in build.spans:
        if span.get("ai_response_model") == "gpt-4o-2024-08-06":
            span["ai_response_model"] = "gpt-4o"


def _another(build: Builder) -> None:
    build.model(None, NOON, 5, model="gpt-4o-mini", tokens=(9, 9, 0), cost=0.5)


def _half(build: Builder) -> None:
    for span in build.spans:
        if span.get("ai_response_model") == "gpt-4o-2024-08-06":
            span["cost_usd"] *= 2


def _list_price(build: Builder) -> None:
    for span in build.spans:
        if span.get("cost_usd"):
            span["cost_usd"] /= 0.8


def _late(build: Builder) -> None:
    next(span for span in build.spans if span.get("ai_input_tokens") == 1000)["start_ns"] += 15 * HOUR * 10**6


def _begins_at_one(build: Builder) -> None:
    build.requests.pop(0)
    build.spans.pop(0)
    _drop(build)


GPT, HAIKU = "gpt-4o-2024-08-06", "claude-haiku-4-5-20251001"
EXPLAINED: dict[str, tuple[Callable[[Builder], None], str, str]] = {
    "other keys": (_drop, GPT, "1 more request(s) at the provider: other API keys"),
    "unpriced": (_unprice, GPT, "1 call(s) have no price in Taximeter: `taximeter prices gpt-4o`"),
    "only there": (_forget_claude, HAIKU, "Taximeter saw no such call: other API keys"),
    "only here": (_another, "gpt-4o-mini", "the export has none: another organization's key"),
    "cached": (_leave_out_cached, HAIKU, "cached tokens: the provider's input leaves out the"),
    "half price": (_half, GPT, "half the price for the same tokens"),
    "discount": (_list_price, GPT, "80.0% of the list price, as in every other row"),
    "midnight": (_late, GPT, "the day's boundary: the day after differs by as much"),
    "begins late": (_begins_at_one, GPT, "the store begins on this day at 12:00:00 UTC"),
}  # fmt: skip


@pytest.mark.parametrize("case", EXPLAINED)
def test_a_difference_is_explained(case: str, tmp_path: Path) -> None:
    change, model, sentence = EXPLAINED[case]
    build = agreeing()
    change(build)
    found = held(build, tmp_path, *API)
    assert not found.agrees
    row = next(row for row in found.rows if row.model == model and not row.agrees)
    assert any(sentence in told for told in row.explanations), row
    assert all(row.explanations for row in found.rows if not row.agrees)


def test_an_alias_is_one_model_and_no_difference(tmp_path: Path) -> None:
    build = agreeing()
    _alias(build)
    found = held(build, tmp_path, *API)
    assert found.agrees
    row = next(row for row in found.rows if row.model == "gpt-4o")
    assert "Taximeter says gpt-4o, the provider gpt-4o-2024-08-06: taken as one model" in row.explanations
    assert base("openai/gpt-4o-mini-2024-07-18") == base("GPT-4o mini") == "gpt-4o-mini"
    assert base("Claude Haiku 4.5") == base("claude-haiku-4-5@20251001") == "claude-haiku-4-5"


def test_an_export_in_another_time_zone_is_recognised(tmp_path: Path) -> None:
    found = held(agreeing(shift_ms=11 * HOUR), tmp_path, *API)  # 23:00 UTC: the next day east of Greenwich
    assert found.agrees
    shifted = held(agreeing(shift_ms=13 * HOUR), tmp_path / "2", *API)  # 01:00 UTC of the day after
    assert not shifted.agrees
    assert shifted.findings == (
        "with days cut at midnight UTC-01:30 every count agrees: export it in UTC, it is in that zone",
    )


def test_the_batch_tier(tmp_path: Path) -> None:
    data = json.loads((SAMPLES / "openai-completions.json").read_text())
    result = data["data"][0]["results"][0]
    data["data"][0]["results"].append({**result, "batch": True, "num_model_requests": 2, "input_tokens": 800,
                                       "output_tokens": 80, "input_cached_tokens": 0})  # fmt: skip
    path = tmp_path / "with-batch.json"
    path.write_text(json.dumps(data))
    found = held(agreeing(), tmp_path, path)
    row = next(row for row in found.rows if not row.agrees)
    assert "the batch tier: 2 request(s), 800 input tokens came through the batch API" in row.explanations[0]


def test_money_of_a_day_without_a_grouping(tmp_path: Path) -> None:
    data = json.loads((SAMPLES / "openai-costs.json").read_text())
    for bucket in data["data"]:
        whole = sum(result["amount"]["value"] for result in bucket["results"])
        bucket["results"] = [
            {**bucket["results"][0], "line_item": None, "amount": {"value": whole, "currency": "usd"}}
        ]
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(data))
    found = held(agreeing(), tmp_path, path, "openai-completions.json", "openai-embeddings.json")
    assert found.agrees
    assert {row.model for row in found.rows if row.provider_says.cost_usd is not None} == {"(all)"}


def test_rounding_to_cents_agrees_and_the_day_that_is_not_over_is_said(tmp_path: Path) -> None:
    build = agreeing()
    build.model(None, NOON, 5, model="gpt-4o-2024-08-06", tokens=(0, 0, 0), cost=7.0)
    table = (SAMPLES / "openai-costs.csv").read_text().replace("0.00494,usd", "7.00800,usd")
    path = tmp_path / "costs.csv"
    path.write_text(table)
    assert held(build, tmp_path, path).agrees  # 7.01228 and 7.00922
    _drop(build)
    found = held(build, tmp_path / "2", "openai-completions.json", now=EPOCH_NS / 1e9)
    row = next(row for row in found.rows if not row.agrees)
    assert "this day is not over, and exports lag behind by minutes to hours" in row.explanations


def test_money_of_no_model_is_a_line_of_its_own(tmp_path: Path) -> None:
    """The Console's cost export has web searches between the tokens; they are not the day's sum."""
    line = "2027-01-15,,Default,hotel,message,,,0.03,0.03,web_search,not_available,,apikey_x,active\n"
    path = tmp_path / "costs.csv"
    path.write_text((SAMPLES / "anthropic-costs.csv").read_text() + line)
    found = held(agreeing(), tmp_path, path)
    assert {(row.model, row.agrees) for row in found.rows} == {
        ("claude-haiku-4-5", True), ("web_search", False)
    }  # fmt: skip
    bare = tmp_path / "bare.csv"
    bare.write_text("usage_date_utc,cost_usd\n2027-01-15,0.00245\n")
    found = held(agreeing(), tmp_path / "2", bare)
    assert [(row.model, row.agrees) for row in found.rows] == [("(all)", True)]


def test_the_console_s_older_column_of_cache_writes_counts(tmp_path: Path) -> None:
    table = (SAMPLES / "anthropic-usage.csv").read_text()
    path = tmp_path / "usage.csv"
    path.write_text(table.replace("_cache_write_5m,usage_input_tokens_cache_write_1h", "_cache_write,x"))
    assert held(agreeing(), tmp_path, path).agrees


PAGE = '{"data": [{"start_time": 0, "results": [{%s}]}]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"object": "page", "data": [], "has_more": false}', "holds no day"),
        ('{"object": "page", "data": [{"start_time": 0, "results": []}], "has_more": true, "next_page": "x"}',
         "has more pages (next_page 'x'): fetch them"),
        ('{"data": [{"start_time": 0, "results": [{"object": "organization.usage.images.result"}]}]}',
         "its results are organization.usage.images.result; give usage/completions"),
        (PAGE % '"object": "organization.usage.completions.result", "model": null, "num_model_requests": 1,'
                ' "input_tokens": 1', "is not by model; export it with group_by=model"),
        (PAGE % '"object": "organization.costs.result", "amount": {"value": 1, "currency": "eur"}',
         "amounts are in eur; Taximeter reckons in USD"),
        ('{"rows": []}', "is not as its provider documents it (lacks 'data')"),
        ("a,b\n1,2\n", "its columns (a, b) are of none of the exports"),
        ("", "its columns (none)"),
    ],
)  # fmt: skip
def test_what_is_no_export_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(content)
    with pytest.raises(NotAnExport) as error:
        read_export(path)
    assert message in str(error.value)


def test_a_real_run_is_reconciled_with_its_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recorded run's spans, and the provider's ledger of it as the providers would export it."""
    lines = [
        json.loads(line) for line in gzip.decompress((RUN / "provider.jsonl.gz").read_bytes()).splitlines()
    ]
    files = [str(path) for path in ledger.write(lines, tmp_path) if path.suffix == ".json"]
    tables = [str(path) for path in (tmp_path / "openai-usage.csv", tmp_path / "anthropic-usage.csv")]
    source = ["--from", f"file:{RUN / 'traces.otlp.gz'}"]
    assert main(["reconcile", *files, *source, "--tolerance", "0", "--all"]) == 0
    told = capsys.readouterr().out
    assert "rows agree within 0.00%" in told and "differs" not in told and "gpt-4o-2024-08-06" in told
    assert main(["reconcile", tables[1], *source, "--tolerance", "0"]) == 0
    capsys.readouterr()
    lines.append({**lines[-1], "ts_ns": lines[-1]["ts_ns"], "input_tokens": 1000, "cost_usd": "0.5"})
    files = [str(path) for path in ledger.write(lines, tmp_path / "2") if path.suffix == ".json"]
    assert main(["reconcile", *files, *source, "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == 1
    assert sum(not row["agrees"] for row in found["rows"]) == 1


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconcile", str(SAMPLES / API[0]), "--store", str(tmp_path / "none")]) == 2
    assert main(["reconcile", str(tmp_path / "nothing.json"), "--store", str(tmp_path)]) == 2
    build = Builder()
    build.request("/a", 0, 1)
    store = str(build.write(tmp_path / "calls-nothing"))
    assert main(["reconcile", str(SAMPLES / API[0]), "--store", store]) == 3
    assert "holds no model or embedding call" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["reconcile", "x", "--tolerance", "lots"])
    assert stop.value.code == 2
