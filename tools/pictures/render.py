"""Pictures of the dashboards: ``make dashboards-pictures``, not part of the tests.

Runs the example under load with a real Prometheus and the database's exporter, fetches what every panel asks
for, and has Grafana's own libraries from npm draw it in a headless Chromium. The libraries (433 MB) are
installed outside the tree, in TAXIMETER_PICTURES_MODULES; no lock file is kept. No Grafana server runs: there
is none on npm.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from examples.demo.stack import ROOT, Stack, running_stack
from taximeter_collector.prometheus import catalogue as c
from tests.dashboards.exporters import exporters
from tests.dashboards.queries import filled
from tests.e2e import harness

HERE = Path(__file__).parent
MODULES = Path(os.environ.get("TAXIMETER_PICTURES_MODULES", "/tmp/taximeter-pictures"))
PACKAGES = [
    *("@grafana/ui@13.2.3", "@grafana/data@13.2.3", "@grafana/schema@13.2.3"),
    *("react@18", "react-dom@18", "react-router-dom@5", "rxjs@7", "esbuild"),
]
WINDOWS = {"__rate_interval": "20s", "before": "1.0.0", "after": "2.0.0", "ago": "60s", "__range": "150s"}
CELL, HEAD = 38, 84
SECONDS = 150.0


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--data", type=Path, help="draw from this saved data, or save it there")
    parser.add_argument("--only", default="", help="comma-separated names of dashboards")
    args = parser.parse_args()
    script = bundle()
    if args.data and args.data.exists():
        everything = json.loads(args.data.read_text())
    else:
        everything = collect()
        if args.data:
            args.data.write_text(json.dumps(everything))
    for name, data in everything.items():
        if not args.only or name in args.only.split(","):
            draw(script, data, args.output / f"dashboard-{name}.png")
    return 0


def bundle() -> str:
    """The page's script, with Grafana's libraries in it."""
    MODULES.mkdir(parents=True, exist_ok=True)
    if not (MODULES / "node_modules" / "@grafana" / "ui").is_dir():
        (MODULES / "package.json").write_text('{"name": "pictures", "private": true}')
        command = ["npm", "install", "--legacy-peer-deps", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run([*command, *PACKAGES], cwd=MODULES, check=True)
    shutil.copy(HERE / "page.jsx", MODULES / "page.jsx")
    out = MODULES / "page.js"
    options = [
        "--bundle",
        "--jsx=automatic",
        "--format=esm",
        "--loader:.svg=dataurl",
        "--loader:.png=dataurl",
        "--loader:.ttf=empty",
    ]
    options += ['--define:process.env.NODE_ENV="production"', "--define:global=window", f"--outfile={out}"]
    esbuild = MODULES / "node_modules" / ".bin" / "esbuild"
    subprocess.run([esbuild, "page.jsx", "--log-level=error", *options], cwd=MODULES, check=True)
    return out.read_text()


def collect() -> dict[str, Any]:
    """Two versions of the example under load, and what each panel gets from Prometheus."""
    binary = shutil.which("prometheus")
    if binary is None:
        sys.exit("no `prometheus` on PATH")
    quick = {"OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    env = {**quick, "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.0.0"}
    with running_stack(scale="small", latency_scale=0.5, service_env=env) as stack:
        jobs = {
            c.SCRAPE_JOB: [stack.ports.prometheus],
            c.COLLECTOR_JOB: [stack.ports.telemetry],
            **exporters(stack),
        }
        prometheus = harness.start_prometheus(stack.supervisor, binary, stack.directory / "prometheus", jobs)
        _load(stack, 80)
        stack.set_flags(fix_batch_reservations=True)
        stack.start_service({**quick, "OTEL_RESOURCE_ATTRIBUTES": "service.version=2.0.0"})
        stack.set_flags(fix_batch_reservations=True)
        stack.start_guests(duration=100, rate=12, guests=50)
        time.sleep(70)
        end = time.time()  # under load still
        return {path.stem.removeprefix("taximeter-"): _data(path, prometheus.url, end) for path in _files()}


def _files() -> list[Path]:
    return sorted((ROOT / "dashboards" / "json").glob("*.json"))


def _load(stack: Stack, seconds: float) -> None:
    process = stack.start_guests(duration=seconds, rate=12, guests=50)
    assert process.popen.wait(seconds + 120) == 0, process.tail()


def _data(path: Path, url: str, end: float) -> dict[str, Any]:
    board = json.loads(path.read_text())
    start = end - SECONDS
    wanted = ("id", "title", "description", "type", "gridPos", "fieldConfig", "options", "links")
    panels = []
    for panel in board["panels"]:
        kept = {key: panel.get(key) for key in (*wanted, "transformations")}
        targets = panel.get("targets") or ()
        table = panel["type"] == "table"
        kept["answers"] = [_answer(url, one, end) for one in targets] if table else []
        kept["series"] = [one for each in targets for one in _series(url, each, start, end)]
        shown = (each for each in targets if each.get("exemplar"))
        kept["exemplars"] = [one for each in shown for one in _exemplars(url, each["expr"], start, end)]
        panels.append(kept)
    variables = [
        {"label": one["label"], "value": WINDOWS.get(one["name"], "All")}
        for one in board["templating"]["list"]
        if one["type"] != "datasource"
    ]
    others = [json.loads(other.read_text())["title"] for other in _files() if other != path]
    markers = [
        {"time": float(one["values"][0][0]) * 1000}
        for note in board["annotations"]["list"]
        if "expr" in note
        for one in _get(url, "query_range", query=filled(note["expr"], WINDOWS), start=start, end=end, step=2)
        if one["values"][0][0] > start + 2
    ]
    return {
        **{"title": board["title"], "from": start * 1000, "to": end * 1000, "panels": panels},
        **{"variables": variables, "others": others, "markers": markers},
    }


def _get(url: str, path: str, **params: Any) -> Any:
    """The result of a call of Prometheus's HTTP API."""
    answer = httpx.get(f"{url}/api/v1/{path}", params=params, trust_env=False, timeout=60)
    data = answer.raise_for_status().json()["data"]
    return data["result"] if isinstance(data, dict) else data


def _answer(url: str, target: Any, end: float) -> dict[str, Any]:
    """A table's instant query: its labels, and a row for each series."""
    found = _get(url, "query", query=filled(target["expr"], WINDOWS), time=end)
    rows = [{"labels": one["metric"], "value": float(one["value"][1])} for one in found]
    rows = [{**row, "value": None if math.isnan(row["value"]) else row["value"]} for row in rows]
    labels = sorted({label for row in rows for label in row["labels"]})
    return {"refId": target["refId"], "labels": labels, "rows": rows}


def _exemplars(url: str, expression: str, start: float, end: float) -> list[dict[str, float]]:
    """Time and value of an expression's exemplars: one in three seconds."""
    series = _get(url, "query_exemplars", query=filled(expression, WINDOWS), start=start, end=end)
    points = [(float(one["timestamp"]), float(one["value"])) for each in series for one in each["exemplars"]]
    last = {int(moment / 3): (moment, value) for moment, value in sorted(points)}
    return [{"time": moment * 1000, "value": value} for moment, value in last.values()]


def _series(url: str, target: Any, start: float, end: float) -> list[dict[str, Any]]:
    found = []
    expression = filled(target["expr"], WINDOWS)
    if target.get("instant"):
        answer = _get(url, "query", query=expression, time=end)
        answers = [{**one, "values": [one["value"]]} for one in answer]
    else:
        answers = _get(url, "query_range", query=expression, start=start, end=end, step=2)
    for one in answers:
        name = target["legendFormat"]
        for label, value in one["metric"].items():
            name = name.replace(f"{{{{{label}}}}}", value)
        name = re.sub(r"{{.*?}}", "", name)  # as Grafana: of a label that is missing, nothing is left
        for variable, value in WINDOWS.items():
            name = name.replace(f"${variable}", value)
        numbers = [float(value) for _, value in one["values"]]
        if not all(math.isnan(number) for number in numbers):
            values = [None if math.isnan(number) else number for number in numbers]
            times = [moment * 1000 for moment, _ in one["values"]]
            name = "" if name == "__auto" else name
            found.append({"refId": target["refId"], "name": name, "times": times, "values": values})
    return found


def draw(script: str, data: dict[str, Any], path: Path) -> None:
    """One dashboard's page, photographed."""
    page = MODULES / f"{path.stem}.html"
    # Grafana measures labels in Inter; where that is not there, what stands for it is measured and drawn.
    style = "@font-face{font-family:Inter;src:local('Inter'),local('DejaVu Sans')}"
    style += "body{margin:0;background:#111217;color:#ccccdc;font:14px Inter,Helvetica,Arial,sans-serif}"
    style += "button{color:inherit}.sr-only{position:absolute;overflow:hidden;width:1px;height:1px}"
    safe = script.replace("</script", "<\\/script")
    style += (MODULES / "page.css").read_text()
    page.write_text(
        f"<!doctype html><meta charset=utf-8><style>{style}</style><div id=root></div>"
        f"<script>window.DATA={json.dumps(data)}</script><script type=module>{safe}</script>"
    )
    height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in data["panels"]) * CELL + HEAD + 16
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-background-networking",
    ]
    options += [f"--window-size=1600,{height}", f"--screenshot={path}", "--virtual-time-budget=8000"]
    command = [shutil.which("chromium") or "chromium", *options, f"--user-data-dir={MODULES / 'profile'}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=180)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main())
