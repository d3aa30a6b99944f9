"""``taximeter reconcile EXPORT...``: tokens and money against the providers' own exports."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from taximeter_analysis.command import terminal_console
from taximeter_analysis.readers import place
from taximeter_analysis.readers.opened import opened
from taximeter_analysis.reconcile import output
from taximeter_analysis.reconcile.exports import read_export
from taximeter_analysis.reconcile.match import TOLERANCE, reconcile
from taximeter_analysis.reconcile.model import Reconciliation
from taximeter_analysis.reconcile.ours import seen
from taximeter_analysis.sources import add_store
from taximeter_analysis.store import NoStore, NothingToReport, StoreError, open_store
from taximeter_analysis.window import Filters

EXIT_DIFFERS, EXIT_USAGE, EXIT_NO_DATA = 1, 2, 3

EPILOG = """\
exports (what a file is shows in its content; several at once, usage and cost):
  OpenAI      usage/completions, usage/embeddings (group_by=model), costs (group_by=line_item);
              the dashboard's usage and cost CSV
  Anthropic   usage_report/messages (group_by[]=model), cost_report (group_by[]=description);
              the Console's usage and cost CSV

examples:
  taximeter reconcile usage.json costs.json
  taximeter reconcile exports/*.csv --store ./spans --tolerance 0.5%
  taximeter reconcile costs.json --from file:traces.json --format json

exit code: 0 everything agrees within the tolerance, 1 something differs or cannot be read, 2 wrong usage,
3 no model call in the store, or no day in the exports
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter reconcile``."""
    parser.description = (
        "Taximeter's tokens and money by day and model against the providers' usage and cost\n"
        "exports, and what explains the difference."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "exports", metavar="EXPORT", nargs="+", type=Path, help="a file that a provider exported"
    )
    add_store(parser)
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="instead of the span store: file:... or tempo+http://...",
    )
    parser.add_argument("--service", metavar="NAME", help="only this service.name's calls")
    parser.add_argument(
        "--tolerance", type=_share, default=TOLERANCE, metavar="SHARE",
        help=f"how far a figure may be off: 0.5%% or 0.005 (default: {TOLERANCE:g})",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show the rows that agree as well")
    parser.add_argument("--format", choices=("terminal", "json"), default="terminal", help="standard output")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write it as JSON as well")


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 0.5% or 0.005")
    return value


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter reconcile``; returns the exit code."""
    try:
        found = _reconcile(args)
        if args.json is not None:
            args.json.write_text(output.json(found), encoding="utf-8")
    except NothingToReport as error:
        return _fail(str(error), EXIT_NO_DATA)
    except (ValueError, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_DIFFERS)
    except OSError as error:
        return _fail(f"{error.filename}: cannot be written ({error.strerror})", EXIT_DIFFERS)
    if args.format == "json":
        sys.stdout.write(output.json(found))
    else:
        output.terminal(found, terminal_console(), everything=args.all)
    return 0 if found.agrees else EXIT_DIFFERS


def _reconcile(args: argparse.Namespace) -> Reconciliation:
    exports = [read_export(path) for path in args.exports]
    days = {day for export in exports for day in export.days}
    now, filters = time.time(), Filters(service=args.service)
    if args.source is not None:
        where = place.parse(args.source)
        if where.kind == "prometheus":
            raise ValueError(
                f"{where}: a Prometheus keeps no single calls; give the span store, a file or a Tempo"
            )
        begin = datetime.combine(min(days), datetime.min.time(), UTC).timestamp() if days else 0.0
        with opened(where, Filters(since=begin - 86400, service=args.service), now) as (store, _):
            mine = seen(store, filters)
        name = str(where)
    else:
        with open_store(args.store) as store:
            mine, name = seen(store, filters), str(store.path)
    if not mine.hours:
        raise NothingToReport(f"{name}: holds no model or embedding call to reconcile")
    found = reconcile(exports, mine, name, args.tolerance, now)
    if not found.rows:
        raise NothingToReport(
            f"{', '.join(str(path) for path in args.exports)}: nothing to compare on any day"
        )
    return found


def _fail(message: str, code: int) -> int:
    print(f"taximeter reconcile: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
