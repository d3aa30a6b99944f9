"""``taximeter dashboards``: render the dashboards, or bring them to a Grafana that exists.

Exit codes: 0 done, or no difference; 1 drift, a difference, or Grafana refused; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from taximeter_analysis.budget import BudgetError, load_budget
from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.grafana import Grafana, GrafanaError, differences
from taximeter_dashboards.limits import from_budget
from taximeter_dashboards.render import PROMETHEUS_UID, rendered, to_json

EXIT_USAGE = 2
DEFAULT_URL = "http://localhost:3000"
TOKEN_VARIABLE = "TAXIMETER_GRAFANA_TOKEN"  # noqa: S105  (a variable's name)
DEFAULT_OUTPUT = Path("taximeter-dashboards")
EPILOG = """\
examples:
  taximeter dashboards list
  taximeter dashboards render --output /etc/grafana/taximeter --budget budget.yaml
  TAXIMETER_GRAFANA_TOKEN=... taximeter dashboards diff --url https://grafana.example.org
  taximeter dashboards push --url https://grafana.example.org --datasource my-prometheus --token-file token

diff and push speak to an existing Grafana or Grafana Cloud with a service account's token, taken from
TAXIMETER_GRAFANA_TOKEN or from the file that --token-file names.
"""


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter dashboards`` to its parser."""
    command.epilog = EPILOG
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = command.add_subparsers(dest="action", metavar="action", required=True)
    actions.add_parser("list", help="every dashboard with its uid, title and number of panels")
    render = actions.add_parser(
        "render", help="write every dashboard's JSON, for Grafana's file provisioning"
    )
    render.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write to (default %(default)s)"
    )
    render.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files differ")
    diff = actions.add_parser("diff", help="what a push would change; exit 1 if anything")
    push = actions.add_parser(
        "push", help="create or replace the dashboards in a folder of a running Grafana"
    )
    for parser in (diff, push):
        parser.add_argument("--url", default=DEFAULT_URL, help="Grafana's address (default %(default)s)")
        parser.add_argument("--token-file", type=Path, metavar="FILE")
        parser.add_argument(
            "--datasource",
            default=PROMETHEUS_UID,
            metavar="UID",
            help="Prometheus data source chosen at first (default %(default)s)",
        )
    for parser in (render, diff, push):
        parser.add_argument(
            "--budget", type=Path, metavar="FILE", help="budget.yaml whose limits become threshold lines"
        )


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    if args.action == "list":
        for made in dashboards():
            print(f"{made.uid:22} {made.title:36} {sum(1 for _ in made.panels()):3} panels")
        return 0
    try:
        limits = from_budget(load_budget(args.budget) if args.budget else None)
    except BudgetError as error:
        print(f"taximeter dashboards: {error}", file=sys.stderr)
        return EXIT_USAGE
    if args.action == "render":
        return _render(args.output, rendered(limits), check=args.check)
    models = [to_json(made, args.datasource) for made in dashboards(limits)]
    try:
        with Grafana(args.url, _token(args.token_file)) as grafana:
            return (_diff if args.action == "diff" else _push)(grafana, models)
    except (GrafanaError, OSError) as error:
        print(f"taximeter dashboards: {error}", file=sys.stderr)
        return 1


def _token(path: Path | None) -> str | None:
    return path.read_text(encoding="utf-8").strip() if path else os.environ.get(TOKEN_VARIABLE) or None


def _diff(grafana: Grafana, models: list[dict[str, Any]]) -> int:
    changed = False
    for model in models:
        for line in differences(model, grafana.dashboard(model["uid"])):
            changed = True
            print(f"{model['uid']}: {line}")
    return int(changed)


def _push(grafana: Grafana, models: list[dict[str, Any]]) -> int:
    grafana.ensure_folder()
    for model in models:
        changed = differences(model, grafana.dashboard(model["uid"]))
        print(f"{grafana.save_dashboard(model)} ({'changed' if changed else 'as it was'})")
    source = models[0]["templating"]["list"][0]["current"]["value"]
    if grafana.data_source(source) is None:
        print(
            f"note: Grafana has no data source with the uid {source}; choose one at the top of each "
            "dashboard, or push again with --datasource UID",
            file=sys.stderr,
        )
    return 0


def _render(folder: Path, files: dict[str, str], *, check: bool) -> int:
    if check:
        changed = [name for name, text in files.items() if _read(folder / name) != text]
        for name in changed:
            print(f"{folder / name} differs from what would be rendered", file=sys.stderr)
        return int(bool(changed))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            print(folder / name)
    except OSError as error:
        print(f"taximeter dashboards: cannot write to {folder}: {error}", file=sys.stderr)
        return 1
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
