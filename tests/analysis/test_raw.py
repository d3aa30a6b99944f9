"""Every figure of the report against the raw OTLP of a recorded run, and that against the run's ledgers.

The run is in ``tests/fixtures/run`` (`tests.analysis.recording`). What a sender sent is read in plain
Python by `tests.analysis.raw`, which imports nothing of Taximeter's.
"""

from __future__ import annotations

import ast
import gzip
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from taximeter_analysis import Report
from taximeter_analysis.readers.opened import report_from
from tests.analysis import raw
from tests.analysis.leaves import ASIDE, differences, leaves
from tests.analysis.recording import RUN


@pytest.fixture(scope="module")
def spans() -> list[raw.Span]:
    return raw.read(raw.messages(RUN / "traces.otlp.gz"))


@pytest.fixture(scope="module")
def told() -> Report:
    return report_from(f"file:{RUN / 'traces.otlp.gz'}", now=1_800_000_000.0)


def test_the_oracle_knows_nothing_of_taximeter() -> None:
    tree = ast.parse(Path(raw.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not [name for name in imported if name.startswith(("taximeter", "tests", "examples"))]


def test_every_figure_of_the_report_is_the_raw_datas(told: Report, spans: list[raw.Span]) -> None:
    ours, theirs = told.to_dict(), raw.figures(spans)
    assert ours["projection"]["monthly_usd"] == theirs.pop("monthly_usd")
    found = {name: value for name, value in ours.items() if name in theirs or name not in ASIDE}
    assert differences(found, theirs) == []
    assert len(dict(leaves(theirs))) > 1500


def test_one_changed_span_is_noticed(told: Report, spans: list[raw.Span]) -> None:
    """A test must be able to fail: one token more in one call of one request."""
    ours = told.to_dict()
    calls = [span for span in spans if span.family == "model"]
    calls[0].attributes["gen_ai.usage.input_tokens"] += 1
    try:
        theirs = raw.figures(spans)
    finally:
        calls[0].attributes["gen_ai.usage.input_tokens"] -= 1
    theirs.pop("monthly_usd")
    found = differences({name: ours[name] for name in theirs}, theirs)
    assert len(found) == 2  # the model's tokens, and the spans' total
    assert found[1].startswith("$.totals_from_spans.input_tokens")


def test_tenants_and_routes_sum_to_the_whole(told: Report) -> None:
    data = told.to_dict()
    for parts in ("tenants", "routes"):
        for name, whole in data["totals"].items():
            values = [item["usage"][name] for item in data[parts]]
            assert math.fsum(values) == pytest.approx(whole, rel=1e-12, abs=1e-15), (parts, name)
    assert sum(bucket["requests"] for bucket in data["timeline"]["buckets"]) == data["totals"]["requests"]


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress((RUN / name).read_bytes()).splitlines()]


def test_the_report_agrees_with_the_ledgers_of_that_run(told: Report) -> None:
    guests = [line for line in _lines("guests.jsonl.gz") if line["status"]]
    provider, totals = _lines("provider.jsonl.gz"), told.totals
    assert totals.requests == len(guests)
    assert totals.errors == sum(line["status"] >= 500 for line in guests)
    assert totals.db_calls == json.loads((RUN / "postgres.json").read_text())["statements"]
    first = [line for line in provider if line["retry_count"] == 0]
    assert totals.embedding_calls == sum(line["operation"] == "embeddings" for line in first)
    assert totals.model_calls == sum(line["operation"] != "embeddings" for line in first)
    assert totals.model_attempts == len(provider)
    for name in ("input_tokens", "output_tokens", "cached_tokens"):
        assert getattr(totals, name) == sum(line[name] for line in provider), name
    spent = sum((Decimal(line["cost_usd"]) for line in provider), Decimal(0))
    assert totals.cost_usd == pytest.approx(float(spent), rel=1e-9)
    routes = {route.route or "": 0 for route in told.routes}
    for route in told.routes:
        routes[route.route or ""] += route.usage.requests
    assert routes == {name: sum(g["route"] == name for g in guests) for name in {g["route"] for g in guests}}
