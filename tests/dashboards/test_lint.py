"""Lint of the rendered dashboards, after grafana/dashboard-linter and cloudflare/pint.

Judged is the JSON that Grafana gets, not our model of it, so that a mistake in rendering shows too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from taximeter_cli.main import COMMANDS
from taximeter_collector.prometheus import catalogue
from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.render import rendered
from tests.dashboards.queries import filled

FOLDER = Path(__file__).parents[2] / "dashboards" / "json"
FILES = sorted(FOLDER.glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FILES}
WINDOWS = {"__rate_interval": "1m", "__range": "1h", "ago": "1d", "before": "1", "after": "2"}
#: Windows that are a panel's meaning: burn rates, the last day, a version's first minutes.
FIXED_WINDOWS = {"5m", "1h", "6h", "1d"}
UNITS = {"reqps", "percentunit", "s", "short", "ops", "currencyUSD", "bytes"}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in board["panels"] if panel["type"] != "row")


def every_panel() -> list[Any]:
    return [
        pytest.param(board, panel, id=f"{name[10:]}-{panel['title']}")
        for name, board in BOARDS.items()
        for panel in panels(board)
    ]


def expressions(board: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in panels(board):
        for target in panel["targets"]:
            yield panel["title"], target


def test_what_is_committed_is_what_would_be_rendered() -> None:
    wanted = rendered()
    assert {path.name for path in FILES} == set(wanted)
    drifted = [name for name, text in wanted.items() if (FOLDER / name).read_text() != text]
    assert drifted == [], "run: taximeter dashboards render --output dashboards/json"


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == name
    assert board["description"]
    assert "taximeter" in board["tags"]
    assert not board["editable"]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert "job" in variables
    for variable in variables.values():
        assert variable["label"], variable["name"]
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] == "${datasource}"
    ids = [panel["id"] for panel in board["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1)), "ids of panels and rows are unique"
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles) or name == "taximeter-compare"
    assert any(link["type"] == "dashboards" and link["includeVars"] for link in board["links"])
    assert any(query["name"] == "New versions" for query in board["annotations"]["list"])
    used = {word for _, target in expressions(board) for word in re.findall(r"\$(\w+)", target["expr"])}
    assert used <= {*variables, "__rate_interval", "__range"}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken.get((x, y))}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize(("board", "panel"), every_panel())
def test_panel(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 60, "says what it is and what to do"
    assert set(re.findall(r"`taximeter (\w+)", panel["description"])) <= COMMANDS.keys()
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters) > 0
    for link in panel.get("links") or ():
        uid = re.match(r"/d/([\w-]+)\?", link["url"])
        assert uid is not None and uid[1] in BOARDS
        assert "${__url_time_range}" in link["url"] and "${job:queryparam}" in link["url"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        lint_expression(target["expr"])
        if target.get("exemplar"):
            assert "_bucket" in target["expr"]
        if panel["type"] == "bargauge":
            assert len(target["legendFormat"]) <= 30, "a longer name is clipped where the bar begins"


def lint_expression(expression: str) -> None:
    promql_parser.parse(filled(expression, WINDOWS))
    for window in re.findall(r"\[([^\]]+)\]", expression):
        assert window in {"$__rate_interval", "$__range"} | FIXED_WINDOWS, window
    # A counter is rated or increased (or, where its first step counts, read at its highest or looked for).
    for found in re.finditer(r"(\w+\()?(\w+_(?:total|bucket|sum|count))\{", expression):
        assert found[1] in _OF_COUNTERS, f"{found[2]} is a counter: rate it"
    # What divides is above 0, or is a number, or a setting that is never 0.
    for found in re.finditer(r"/ (?:on \(\w*\) )?(?:group_left \(\) )?(\S.*)", expression):
        divisor = found[1]
        guarded = divisor.startswith("(") and re.search(r"> 0(\.\d+)?\)", divisor)
        constant = re.match(r"[\d.]+", divisor)
        counted = divisor.startswith("count(") or divisor.startswith(catalogue.PG_MAX_CONNECTIONS)
        assert guarded or constant or counted, f"may divide by 0: {divisor}"
    # Only names of the catalogue, which come from semconv or from the program that exposes them.
    for metric in metrics(expression):
        assert metric in EXPOSED, f"{metric} is in no catalogue"
    for label in labels(expression):
        assert label in LABELS, f"{label} is in no catalogue"
    unscoped = [name for name in metrics(expression) if name not in OTHERS]
    assert not unscoped or "$job" in expression or "$collector" in expression or catalogue.UP in expression \
        or catalogue.SAMPLES in expression  # fmt: skip


def strings() -> set[str]:
    found = set()
    for value in vars(catalogue).values():
        if isinstance(value, catalogue.Histogram):
            found |= {value.bucket, value.count, value.sum}
        elif isinstance(value, str):
            found.add(value)
    return found


EXPOSED = LABELS = strings() | {"le", "exporter", "data_type", "reason", "mode"}
OTHERS = {name for name in EXPOSED if name.startswith(("pg_", "tempo_", "pgbouncer_", "node_"))}
_OF_COUNTERS = {"rate(", "increase(", "max_over_time(", "count_over_time("}
_KEYWORDS = {"sum", "by", "rate", "increase", "histogram_quantile", "or", "and", "on", "unless", "count",
             "max", "vector", "group_left", "last_over_time", "max_over_time", "count_over_time", "offset",
             "topk", "avg", "clamp_max", "sort_desc"}  # fmt: skip


def metrics(expression: str) -> set[str]:
    """Words that are selectors: outside braces, brackets, and grouping lists."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(?:by|on|group_left)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"offset \$?\w+", " ", bare)
    return set(re.findall(r"[a-z_:]\w*", bare, re.IGNORECASE)) - _KEYWORDS


def labels(expression: str) -> set[str]:
    grouped = re.findall(r"\b(?:by|on|group_left)\s*\(([^)]*)\)", expression)
    matched = re.findall(r"[{,](\w+)[=!]", re.sub(r'"[^"]*"', '""', expression))
    return {word.strip() for group in grouped for word in group.split(",") if word.strip()} | set(matched)


def test_no_query_stands_twice_on_one_dashboard() -> None:
    for board in dashboards():
        seen: dict[str, str] = {}
        for panel in board.panels():
            for query in panel.queries:
                if panel.kind in {"timeseries", "bars"}:
                    assert query.expr not in seen, f"{panel.title} repeats {seen[query.expr]}"
                    seen[query.expr] = panel.title


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("sum(http_server_request_duration_seconds_count{job=~\"$job\"})", "rate it"),
        ("sum(rate(http_server_request_duration_seconds_count{job=~\"$job\"}[5s]))", "5s"),
        ("vector(1) / sum(rate(taximeter_cost_usd_total{job=~\"$job\"}[$__rate_interval]))", "divide by 0"),
        ("sum(rate(made_up_total{job=~\"$job\"}[$__rate_interval]))", "no catalogue"),
        ("sum by (made_up) (rate(taximeter_cost_usd_total{job=~\"$job\"}[5m]))", "no catalogue"),
    ],
)  # fmt: skip
def test_lint_finds(expression: str, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        lint_expression(expression)
