"""``taximeter dashboards``: render with a budget, and push and diff against a stand-in of Grafana's API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taximeter_cli.main import main
from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.grafana import differences
from tests.dashboards.grafana_standin import grafana

BUDGET = """\
version: 1
defaults: {latency_p95: 800ms, db_calls: 6, error_rate: 2%}
routes:
  - {match: "POST /hotels/*/chat", latency_p95: 3s}
money: {per_day: 12.5}
"""


def limits_of(folder: Path, name: str, title: str) -> list[float]:
    board = json.loads((folder / f"taximeter-{name}.json").read_text())
    panel = next(panel for panel in board["panels"] if panel["title"] == title)
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [step["value"] for step in steps if step["value"] is not None]


def test_threshold_lines_come_from_the_budget(tmp_path: Path) -> None:
    budget = tmp_path / "budget.yaml"
    budget.write_text(BUDGET)
    assert main(["dashboards", "render", "--output", str(tmp_path), "--budget", str(budget)]) == 0
    assert limits_of(tmp_path, "overview", "P95 by route") == [0.8]
    assert limits_of(tmp_path, "overview", "Failed") == [0.02]
    assert limits_of(tmp_path, "database", "Queries per request") == [6]
    assert limits_of(tmp_path, "money", "Last 24 hours") == [12.5]
    assert limits_of(tmp_path, "money", "Month, projected") == []
    board = json.loads((tmp_path / "taximeter-overview.json").read_text())
    used = next(panel for panel in board["panels"] if panel["title"] == "Latency against its limit")
    chat, rest = (target["expr"] for target in used["targets"])
    assert 'http_route=~"/hotels/.*/chat"' in chat and "/ 3 >= 0" in chat
    assert 'http_route!~"/hotels/.*/chat"' in rest and "/ 0.8 >= 0" in rest


def test_a_wrong_budget_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "render", "--budget", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_check_finds_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "render", "--output", str(tmp_path)]) == 0
    assert main(["dashboards", "render", "--output", str(tmp_path), "--check"]) == 0
    (tmp_path / "taximeter-money.json").write_text("{}")
    capsys.readouterr()
    assert main(["dashboards", "render", "--output", str(tmp_path), "--check"]) == 1
    assert "taximeter-money.json" in capsys.readouterr().err


def test_diff_push_diff(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with grafana() as state:
        state.token, state.sources = "secret", {"mine": "http://127.0.0.1:9"}
        target = ["--url", state.url, "--datasource", "mine"]
        assert main(["dashboards", "diff", *target]) == 1
        refused = capsys.readouterr().err
        assert "401" in refused and "TAXIMETER_GRAFANA_TOKEN" in refused and "secret" not in refused
        monkeypatch.setenv("TAXIMETER_GRAFANA_TOKEN", "secret")
        assert main(["dashboards", "diff", *target]) == 1
        assert capsys.readouterr().out.count("is not there yet") == len(dashboards())
        assert main(["dashboards", "push", *target]) == 0
        assert "changed" in capsys.readouterr().out
        assert set(state.dashboards) == {board.uid for board in dashboards()}
        assert state.folders == {"taximeter": "Taximeter"}
        assert main(["dashboards", "diff", *target]) == 0
        assert main(["dashboards", "push", *target]) == 0
        assert "as it was" in capsys.readouterr().out

        state.dashboards["taximeter-money"]["panels"][1]["title"] = "Renamed by hand"
        assert main(["dashboards", "diff", *target]) == 1
        said = capsys.readouterr().out
        assert said == "taximeter-money: panels[1].title: 'Renamed by hand' becomes 'Per hour'\n"


def test_push_says_which_data_source_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with grafana() as state:
        assert main(["dashboards", "push", "--url", state.url]) == 0
    assert "taximeter-prometheus" in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "diff", "--url", "http://127.0.0.1:9"]) == 1
    assert "cannot reach Grafana at http://127.0.0.1:9" in capsys.readouterr().err


def test_differences_are_bounded_and_ignore_what_grafana_adds() -> None:
    assert differences({"a": [1]}, {"a": [1], "id": 7, "version": 3, "added": True}) == []
    many = differences({str(n): n for n in range(50)}, {})
    assert len(many) == 21 and many[-1] == "... and 30 more"
