"""Lint of every rule as rendered, after dashboard-linter and pint; and every link is followed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from taximeter_alerts import recording
from taximeter_alerts.model import HEARTBEAT
from taximeter_alerts.profile import PROFILES
from taximeter_alerts.rules import alerts_file, recording_file
from taximeter_collector.own_metrics import METRICS
from taximeter_collector.prometheus import catalogue
from tests.alerts.promtool import THRESHOLDS

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "dashboards" / "json"
RULES: list[dict[str, Any]] = [
    rule
    for profile in PROFILES.values()
    for text in (recording_file(THRESHOLDS, profile), alerts_file(THRESHOLDS, profile))
    for group in yaml.safe_load(text)["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDS = [rule for rule in RULES if "record" in rule]

_WORDS = {
    *("sum", "avg", "min", "max", "count", "topk", "by", "on", "group_left", "and", "or", "unless", "offset"),
    *("rate", "increase", "absent", "vector", "timestamp", "label_replace", "histogram_quantile"),
    *("quantile_over_time", "count_over_time", "avg_over_time", "min_over_time", "max_over_time"),
}
COUNTERS = re.compile(r"\w+(?:_total|_count|_sum|_bucket)$")
OWN_COUNTERS = {
    name
    for name, (kind, _) in METRICS.items()
    if kind == "counter"  # no suffix: as officially
}


def metrics_of(expression: str) -> list[tuple[str, str]]:
    """The metrics of an expression, each with the function or operator text right before it."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\[[^\]]*\]|offset \w+", "", bare)
    bare = re.sub(r"\b(by|on|group_left) \([^)]*\)", r"\1", bare)
    names = re.finditer(r"[a-zA-Z_:][\w:]*", bare)
    return [(m[0], bare[max(0, m.start() - 12) : m.start()]) for m in names if m[0] not in _WORDS]


def known_metrics() -> set[str]:
    names: set[str] = set()
    for value in vars(catalogue).values():
        if isinstance(value, catalogue.Histogram):
            names |= {value.bucket, value.count, value.sum}
        elif isinstance(value, str):
            names.add(value)
    return names | {value for name, value in vars(recording).items() if name.isupper()}


def ids(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_a_rule_reads_only_metrics_that_somebody_writes(rule: dict[str, Any]) -> None:
    unknown = {name for name, _ in metrics_of(rule["expr"])} - known_metrics()
    assert not unknown


def test_the_lint_sees_a_metric_that_nobody_writes() -> None:
    wrong = 'sum by (job) (rate(http_server_duration_seconds_count{le="2"}[5m])) / on (job) up > 0'
    assert [name for name, _ in metrics_of(wrong)] == ["http_server_duration_seconds_count", "up"]


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_counters_are_rated(rule: dict[str, Any]) -> None:
    recorded = {value for name, value in vars(recording).items() if name.isupper()}
    new = re.findall(r"\((\w+) unless \1 offset \w+\)", rule["expr"])  # a series' first value is a rise
    for name, before in metrics_of(rule["expr"]):
        counter = COUNTERS.search(name) or name in OWN_COUNTERS
        if counter and name not in recorded and name not in new:
            assert before.endswith(("rate(", "increase(")), f"{name} after {before!r}"


@pytest.mark.parametrize("rule", RECORDS, ids=ids)
def test_a_recorded_ratio_divides_by_no_zero(rule: dict[str, Any]) -> None:
    """NaN would be silent in an alert, but poisons the history that a recorded value becomes."""
    for divided in re.split(r"\n\s*/ ", rule["expr"])[1:]:
        assert re.search(r"> 0\)$", divided), divided


def test_records_are_named_by_level_metric_and_operation() -> None:
    for rule in RECORDS:
        assert re.fullmatch(r"[a-z_]+:taximeter_[a-z_]+:(rate|ratio|p95|per_request)", rule["record"])


def test_no_rule_stands_twice() -> None:
    for key in ("alert", "record", "expr"):
        values = Counter(rule[key] for rule in RULES[: len(RULES) // len(PROFILES)] if key in rule)
        assert not [value for value, times in values.items() if times > 1]


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_an_alert_has_all_that_it_must(rule: dict[str, Any]) -> None:
    assert rule["for"]
    assert set(rule["labels"]) == {"severity", "team"}
    required = {"summary", "description", "runbook_url", "dashboard_url"}
    assert required <= set(rule["annotations"]) <= {*required, "traces_url"}


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_labels_of_the_annotations_survive_the_expression(rule: dict[str, Any]) -> None:
    """An aggregation drops the labels it does not name: a template would then say nothing."""
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    for aggregated in re.findall(r"^(?:sum|max|min|avg) by \(([^)]*)\)", rule["expr"], re.MULTILINE):
        assert used <= {label.strip() for label in aggregated.split(",")}, ids(rule)


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_every_link_leads_somewhere(rule: dict[str, Any]) -> None:
    links = rule["annotations"]
    runbook = ROOT / links["runbook_url"]
    assert runbook.read_text().startswith(f"# {rule['alert']}\n")
    severity = rule["labels"]["severity"]
    kind = {"critical": "pages", "warning": "is a ticket", HEARTBEAT: "heartbeat"}[severity]
    assert kind in runbook.read_text().splitlines()[2]
    for page, target in re.findall(r"\[([^\]]+)\]\(([^)#]+)\)", runbook.read_text()):
        assert (runbook.parent / target).exists(), f"{page}: {target}"
    dashboard = urlsplit(links["dashboard_url"])
    uid = dashboard.path.removeprefix("/d/")
    assert f"`{uid}`" in runbook.read_text().splitlines()[2]
    if not DASHBOARDS.is_dir():  # dashboards are a part of their own
        return
    made = json.loads((DASHBOARDS / f"{uid}.json").read_text())
    assert made["uid"] == uid
    variables = {variable["name"] for variable in made["templating"]["list"]}
    assert {name.removeprefix("var-") for name in parse_qs(dashboard.query)} <= variables
