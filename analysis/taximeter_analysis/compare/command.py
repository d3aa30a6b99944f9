"""``taximeter compare A B``: what changed between two windows, versions, runs or saved reports."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from taximeter_analysis.command import terminal_console
from taximeter_analysis.compare import output
from taximeter_analysis.compare.compute import EFFECT, compare
from taximeter_analysis.model import Report
from taximeter_analysis.sources import read_runs
from taximeter_analysis.store import NoStore, NothingToReport, StoreError

EXIT_FAILED = 1
EXIT_USAGE = 2

EPILOG = """\
A and B:
  report.json                a saved report (taximeter report --json)
  taximeter-data/store       a span store
  store@24h..1h              a window of it, store@2026-11-25..2026-11-26
  store@version=1.4          a service.version; also @service= and @tenant=
  a1.json,a2.json,a3.json    several runs of one side; 'a-*.json' as well
  tempo+http://host:3200@2h..1h            what a Tempo holds of that hour
  prometheus+http://host:9090@2h..1h       a Prometheus: counts and money; --blocks makes them comparable
  file:traces.json           OTLP, as the official collector's file exporter writes it

verdicts:
  better, worse     the change is beyond chance, corrected for the number of figures in the table
  same              surely smaller than --effect, the smallest change that matters
  not enough data   needs n = so many requests (or runs) a side to show a change of --effect

examples:
  taximeter compare before.json after.json
  taximeter compare store@version=1.4 store@version=1.5 --markdown summary.md
  taximeter compare 'out/A-*.json' 'out/B-*.json' --paired

exit code: 0 compared, 1 cannot read or write, 2 wrong usage or nothing to compare
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter compare``."""
    parser.description = (
        "What changed from A to B, by route and in all, with confidence bounds, and which of the\n"
        "optimization plan's targets are reached."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("a", metavar="A", help="before")
    parser.add_argument("b", metavar="B", help="after")
    parser.add_argument(
        "--blocks", metavar="N", type=_blocks, default=1, help="cut each store's window into N equal blocks"
    )
    parser.add_argument("--paired", action="store_true", help="the runs were interleaved: A1 B1 A2 B2 ...")
    parser.add_argument(
        "--effect",
        type=_share,
        default=EFFECT,
        help="the smallest change that matters (default: %(default)s)",
    )
    parser.add_argument("--all", action="store_true", help="list every figure of every route")
    parser.add_argument(
        "--format", choices=("terminal", "json", "markdown"), default="terminal", help="standard output"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the comparison as JSON")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write it as Markdown")


def _blocks(text: str) -> int:
    if not text.isdigit() or not 2 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of blocks; write 6, or 2 to 1000")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 0.1 for 10 %")
    return value


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter compare``; returns the exit code."""
    try:
        before, after = _sides(args)
        found = compare(before, after, effect=args.effect, paired=args.paired)
        for path, render in ((args.json, output.json), (args.markdown, output.summary)):
            if path is not None:
                path.write_text(render(found), encoding="utf-8")
    except (NothingToReport, NoStore, ValueError) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_FAILED)
    except OSError as error:
        remedy = "give a file in a directory that you can write to"
        return _fail(f"{error.filename}: cannot be written ({error.strerror}); {remedy}", EXIT_FAILED)
    if args.format == "terminal":
        output.terminal(found, terminal_console(), everything=args.all)
    else:
        text: Callable[..., str] = output.json if args.format == "json" else output.summary
        sys.stdout.write(text(found))
    return 0


def _sides(args: argparse.Namespace) -> tuple[list[Report], list[Report]]:
    now = time.time()
    return read_runs(args.a, now, args.blocks), read_runs(args.b, now, args.blocks)


def _fail(message: str, code: int) -> int:
    print(f"taximeter compare: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
