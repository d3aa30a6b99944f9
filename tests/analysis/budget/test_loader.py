"""``budget.yaml``: what is read, what is refused and in which words, and its published schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from taximeter_analysis.budget import BudgetError, default_budget, load_budget, schema
from taximeter_analysis.budget.loader import DEFAULT, parse_budget

WHOLE = """
version: 1
total: {latency_p50: 100ms}
defaults: {latency_p95: 2s, error_rate: 1%}
routes:
  - {match: "POST *", service: chat, cost: $0.02, cache_hit_rate: {min: 60%, max_decrease: 0.1}}
  - {match: "/hotels/*", db_calls: 6, latency_p95: {max: 800ms, max_increase: 20%}, input_tokens: 3000}
money: {per_request: 0.01, per_day: 5 USD, per_month: 100}
caches: [{match: "*", hit_rate: 80%}]
tenants: [{match: "grand-*", per_day: 1}]
"""


def test_everything_has_its_unit() -> None:
    budget = parse_budget(WHOLE)
    assert budget.total["latency_p50"].max == 0.1
    assert budget.defaults["error_rate"].max == 0.01
    first, second = budget.routes
    assert (first.service, first.limits["cost"].max) == ("chat", 0.02)
    assert (first.limits["cache_hit_rate"].min, first.limits["cache_hit_rate"].max_decrease) == (0.6, 0.1)
    assert (second.limits["latency_p95"].max, second.limits["latency_p95"].max_increase) == (0.8, 0.2)
    assert (budget.money.per_request, budget.money.per_day, budget.money.per_month) == (0.01, 5, 100)
    assert budget.caches[0].hit_rate == 0.8
    assert budget.tenants[0].per_day == 1


def test_the_first_matching_entry_that_sets_a_limit_wins_then_the_default() -> None:
    budget = parse_budget(WHOLE)

    def place(name: str, service: str, method: str, route: str | None) -> str | None:
        found = budget.origin_of(service, method, route, name)
        return found[0] if found else None

    assert place("cost", "chat", "POST", "/hotels/{hotel}/chat") == "routes[0].cost"
    assert place("cost", "other", "POST", "/hotels/{hotel}/chat") is None
    assert place("cost", "chat", "GET", "/hotels/{hotel}/chat") is None
    assert place("db_calls", "chat", "POST", "/hotels/{hotel}/chat") == "routes[1].db_calls"
    assert place("latency_p95", "chat", "GET", "/health") == "defaults.latency_p95"
    assert place("error_rate", "chat", "GET", None) == "defaults.error_rate"
    limit = budget.limit_for("chat", "GET", "/hotels/{hotel}", "latency_p95")
    assert limit is not None
    assert limit.max == 0.8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file: is empty"),
        ("[", "is no YAML"),
        ("version: 2", "version: 2 is not known; write `version: 1`"),
        ("version: 1\nrouts: []", "routs: unknown name; did you mean `routes`?"),
        ("version: 1\ndefaults: {latency_p59: 1s}", "defaults.latency_p59: unknown name; did you mean"),
        ("version: 1\ndefaults: {latency_p95: 800}", "800 has no unit; write 800ms or 800s"),
        ("version: 1\ndefaults: {latency_p95: '800'}", "'800' is no duration; write 800ms or 2s"),
        ("version: 1\ndefaults: {error_rate: 5}", "5 is no share; write 1% or 0.01"),
        ("version: 1\ndefaults: {db_calls: -1}", "-1 is no number; write 6 or 4.5"),
        ("version: 1\ndefaults: {db_calls: true}", "True is no number"),
        ("version: 1\ndefaults: {db_calls: .nan}", "nan is no number"),
        ("version: 1\ndefaults: {db_calls: {min: 1}}", "defaults.db_calls.min: unknown name"),
        ("version: 1\ndefaults: {db_calls: {}}", "defaults.db_calls: is empty"),
        ("version: 1\ndefaults: {db_calls: 1, db_calls: 2}", "`db_calls` stands there twice"),
        ("version: 1\nroutes: [{match: '*'}]", "routes[0]: sets no limit"),
        ("version: 1\nroutes: [{db_calls: 1}]", "routes[0].match: is empty"),
        ("version: 1\nroutes: {match: '*'}", "not a list"),
        ("version: 1\ncaches: [{match: '*'}]", "caches[0]: sets no limit; add `hit_rate: 80%`"),
        ("version: 1\ntenants: [{match: '*'}]", "tenants[0]: sets no limit"),
    ],
)
def test_errors_name_path_value_and_remedy(text: str, message: str) -> None:
    with pytest.raises(BudgetError) as caught:
        parse_budget(text)
    assert str(caught.value).startswith("budget.yaml: ")
    assert message in str(caught.value)


def test_a_file_that_is_not_there_or_no_budget(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="taximeter budget suggest"):
        load_budget(tmp_path / "budget.yaml")
    (tmp_path / "huge.yaml").write_bytes(b" " * (2 << 20))
    with pytest.raises(BudgetError, match="larger than 1 MiB"):
        load_budget(tmp_path / "huge.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(BudgetError, match="not UTF-8"):
        load_budget(tmp_path / "binary.yaml")


def test_the_committed_schema_has_not_drifted() -> None:
    remedy = "run python -m taximeter_analysis.budget.schema"
    assert schema.COMMITTED.read_text(encoding="utf-8") == schema.text(), remedy


@pytest.mark.parametrize("text", [WHOLE, DEFAULT.read_text(encoding="utf-8")])
def test_the_schema_takes_what_the_loader_takes(text: str) -> None:
    parse_budget(text)
    jsonschema.validate(yaml.safe_load(text), schema.schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"version": 1, "routs": []},
        {"version": 1, "defaults": {"latency_p95": 800}},
        {"version": 1, "defaults": {"error_rate": 5}},
        {"version": 1, "defaults": {"db_calls": {}}},
        {"version": 1, "routes": [{"db_calls": 1}]},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(BudgetError):
        parse_budget(yaml.safe_dump(wrong))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema.schema())


def test_the_default_budget_is_the_plans() -> None:
    budget = default_budget()
    slow = budget.limit_for("any", "GET", "/any", "latency_p99")
    assert slow is not None
    assert slow.max == 2.0
    assert budget.caches[0].hit_rate == 0.8
