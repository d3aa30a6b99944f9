"""Runs `promtool test rules` on cases written in Python: series in, alerts out.

A case of short duration is fed raw series and goes through recording and alerting rules. A case about
history or days is fed what its alert reads, with longer steps.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from taximeter_alerts.rules import alerts_file, recording_file
from taximeter_alerts.thresholds import of_budget
from taximeter_analysis.budget import Limit, RouteBudget, default_budget
from tests.collector.prometheus_binary import REQUIRE

BUDGET = replace(
    default_budget(),
    routes=(
        RouteBudget("GET /rooms/{room}", {"db_calls": Limit(max=9)}),
        RouteBudget("/rooms*", {"db_calls": Limit(max=4), "latency_p95": Limit(max=0.3)}),
    ),
)
"""The delivered budget, and limits of routes, which it has not."""
THRESHOLDS = of_budget(BUDGET)[0]


@dataclass(frozen=True)
class Case:
    """``series``: selector to promtool values. ``fires``: how many alerts of that name at ``at``."""

    alert: str
    why: str
    series: dict[str, str]
    at: str
    fires: int
    history: bool = False
    days: bool = False

    @property
    def step(self) -> str:
        """Time between the values, and between evaluations."""
        return "30m" if self.days else "5m" if self.history else "1m"


def require_tool(name: str, package: str) -> str:
    """The path of a tool; skips without it, or fails where CI demands it."""
    found = shutil.which(name)
    if found is None:
        reason = f"no `{name}` on PATH (Debian: apt-get install {package})"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{reason}, and {REQUIRE}=1 demands one")
        pytest.skip(reason)
    return found


def run(cases: Sequence[Case], folder: Path) -> str:
    """Test all cases, in one file for each alert and step, each loading that alert alone; what failed."""
    promtool = require_tool("promtool", "prometheus")
    (folder / "recording.yaml").write_text(recording_file(THRESHOLDS))
    for group in yaml.safe_load(alerts_file(THRESHOLDS))["groups"]:
        for rule in group["rules"]:
            alone = {"groups": [{"name": "alert", "rules": [rule]}]}
            (folder / f"{rule['alert']}.yaml").write_text(yaml.safe_dump(alone))
    names = []
    for alert, step in sorted({(case.alert, case.step) for case in cases}):
        chosen = [case for case in cases if (case.alert, case.step) == (alert, step)]
        names.append(f"{alert}-{step}-test.yaml")
        (folder / names[-1]).write_text(yaml.safe_dump(_file(alert, step, chosen)))

    def test(share: list[str]) -> str:
        argv = [promtool, "test", "rules", *share]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        return done.stdout + done.stderr if done.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        return "".join(pool.map(test, [share for share in (names[::2], names[1::2]) if share]))


def _file(alert: str, step: str, cases: Sequence[Case]) -> dict[str, Any]:
    raw = step == "1m"
    return {
        "rule_files": [*(["recording.yaml"] if raw else []), f"{alert}.yaml"],
        "evaluation_interval": step,
        # promtool's own order is random
        "group_eval_order": [*(["taximeter-recording"] if raw else []), "alert"],
        "tests": [
            {
                "name": f"{case.alert}: {case.why}",
                "interval": step,
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})',
                        "eval_time": case.at,
                        "exp_samples": [{"labels": "{}", "value": case.fires}] if case.fires else [],
                    }
                ],
            }
            for case in cases
        ],
    }
