"""The report as Markdown and CSV: the plan's block, the same figures, and no word of a stranger runs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

from taximeter_analysis import Report, open_store, render, report
from taximeter_analysis.render.units import compact, money, seconds
from tests.analysis.stores import Builder


def test_the_plans_own_block(hotel_report: Report) -> None:
    text = render.markdown(hotel_report)
    block = text.split("```")[1].strip().splitlines()
    assert [line.split(":")[0] for line in block] == [
        "API Response Time (P50)", "API Response Time (P95)", "Database Queries per Request",
        "Embedding API Calls per Day", "Cache Hit Rate", "Monthly AI Costs",
    ]  # fmt: skip
    assert block[0].endswith(seconds(hotel_report.latency.p50))
    assert block[5].endswith(money(hotel_report.projection.monthly_usd))
    for heading in ("Response times by route", "Where the time goes", "Database", "Embeddings by endpoint",
                    "Tokens and money", "Slow requests and queries (≥ 2 s)"):  # fmt: skip
        assert f"\n## {heading}\n" in text


def test_every_table_has_one_width(hotel_report: Report) -> None:
    width = None
    for line in render.markdown(hotel_report).splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = line.count(" | ")
        assert width in (None, cells), line
        width = cells


def test_tenants_and_routes_sum_to_the_whole(hotel_report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(render.csv(hotel_report))))
    [total] = [row for row in rows if row["kind"] == "total"]
    for kind in ("tenant", "route"):
        parts = [row for row in rows if row["kind"] == kind]
        assert len(parts) > 3
        for name in ("requests", "errors", "db_calls", "model_calls", "embedding_calls", "input_tokens",
                     "output_tokens", "cached_tokens", "cache_lookups", "cache_hits"):  # fmt: skip
            assert sum(int(row[name]) for row in parts) == int(total[name]), (kind, name)
        assert math.fsum(float(row["cost_usd"]) for row in parts) == pytest.approx(
            float(total["cost_usd"]), rel=1e-12
        )
    models = [row for row in rows if row["kind"] == "model"]
    assert math.fsum(float(row["cost_usd"]) for row in models) == pytest.approx(
        float(total["cost_usd"]), rel=1e-12
    )
    assert float(total["cost_usd_per_day"]) * 30 == pytest.approx(float(total["cost_usd_per_month"]))


def test_strangers_words_stay_words(tmp_path: Path) -> None:
    build = Builder("`a|b`<script>")
    build.db(build.request("/x|y`z\n# h", 0, 3000, tenant="=cmd()"), 0, 2500, "SELECT '`|\n'")
    with open_store(build.write(tmp_path / "store")) as store:
        found = report(store)
    text = render.markdown(found)
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\n# h" not in text
    assert "/x¦y'z # h" in text
    assert ",'=cmd()," in render.csv(found)


def test_little_observed_is_no_month(tmp_path: Path) -> None:
    build = Builder()
    build.request("/a", 0, 10, cost_usd=0.5, model_calls=1)
    with open_store(build.write(tmp_path / "store")) as store:
        text = render.markdown(report(store))
    assert "Monthly AI Costs:             - (only 0.0 s were observed" in text
    assert compact(None) in text
