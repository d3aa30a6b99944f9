"""The shares of a request in numbers, by Prometheus's own engine: true from a process's first export on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from taximeter_collector.prometheus import catalogue as c
from tests.alerts.promtool import require_tool
from tests.dashboards.queries import every_query, filled

pytestmark = pytest.mark.prometheus

#: (instance, status) -> samples of the requests' seconds, every 15 s; and instance -> the part's seconds.
Requests = dict[tuple[str, str], str]
Part = dict[str, str]

STEADY: tuple[Requests, Part] = ({("old", "200"): "0+6x20"}, {"old": "0+1.5x20"})
#: A process ends, another begins. Of the new one a 404 is seen first, then a route's long requests.
REPLACED: tuple[Requests, Part] = (
    {
        ("old", "200"): "0+6x6 stale",
        ("new", "404"): "_x13 0.003+0.003x10",
        ("new", "200"): "_x14 4.994+6x10",
    },
    {"old": "0+1.5x6 stale", "new": "_x13 0.0005 2.5+1.5x10"},
)
IDLE: tuple[Requests, Part] = ({("old", "200"): "9+0.02x20"}, {"old": "9+1x20"})
PARALLEL: tuple[Requests, Part] = ({("old", "200"): "0+6x20"}, {"old": "0+18x20"})


@pytest.mark.parametrize("metric", [c.DB_SECONDS, c.POOL_WAIT])
def test_a_share_is_of_the_same_requests_and_never_of_nothing(tmp_path: Path, metric: str) -> None:
    cases = [
        case("a quarter, all the time", metric, STEADY, {"2m": 0.25, "4m": 0.25}),
        case(
            "a restart: no share of its first 3 ms, 2.5 s of 5 s, then ever nearer to a quarter",
            metric,
            REPLACED,
            {"1m30s": 0.25, "3m15s": None, "3m30s": 0.5, "3m45s": 0.364, "5m": 0.25},
        ),
        case("80 ms of requests in a minute are too few for a share", metric, IDLE, {"2m": None}),
        case("statements in parallel take more than the request", metric, PARALLEL, {"2m": 3}),
    ]
    file = tmp_path / "shares.yaml"
    file.write_text(json.dumps({"tests": cases}))
    argv = [require_tool("promtool", "prometheus"), "test", "rules", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def case(
    name: str, metric: str, told: tuple[Requests, Part], shown: dict[str, float | None]
) -> dict[str, object]:
    """A test for promtool: the panel of ``metric``, to a thousandth, at each moment."""
    (query,) = [
        placed.query.expr
        for placed in every_query()
        if placed.panel.title.startswith("Share of the request spent") and metric in placed.query.expr
    ]
    requests, part = told
    series = {_series(c.REQUESTS.sum, *labels): values for labels, values in requests.items()}
    series |= {_series(metric, instance): values for instance, values in part.items()}
    return {
        "name": name,
        "interval": "15s",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"round({filled(query, {'__rate_interval': '1m'})}, 0.001)",
                "eval_time": at,
                "exp_samples": [] if value is None else [{"labels": f'{{{c.ROUTE}="/a"}}', "value": value}],
            }
            for at, value in shown.items()
        ],
    }


def _series(metric: str, instance: str, status: str = "") -> str:
    labels = f'{c.JOB}="chat",{c.INSTANCE}="{instance}",{c.ROUTE}="/a"'
    return f'{metric}{{{labels},{c.STATUS}="{status}"}}' if status else f"{metric}{{{labels}}}"
