"""``taximeter budget check`` and ``taximeter budget suggest``: the gate for CI, and a first file for it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from taximeter_analysis.budget import output
from taximeter_analysis.budget.check import NoBaseline, check
from taximeter_analysis.budget.loader import load_budget
from taximeter_analysis.budget.model import LIMITS
from taximeter_analysis.budget.result import EXIT, Outcome
from taximeter_analysis.budget.suggest import HEADROOM, LATENCY_HEADROOM, suggest
from taximeter_analysis.command import terminal_console
from taximeter_analysis.model import Report
from taximeter_analysis.report import report
from taximeter_analysis.sources import add_selection, filters_of, read_runs
from taximeter_analysis.store import NoStore, NothingToReport, StoreError, open_store

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DATA = 3
DEFAULT_BUDGET = Path("budget.yaml")

CHECK_EPILOG = """\
how it judges:
  counts, tokens and money per request: hard, since they do not depend on the machine;
  latency, error rate, hit rate: broken only when the one-sided 95 % confidence bound is beyond the
  limit, corrected (Holm) for their number: an unchanged build fails in at most 5 of 100 runs.
  Too few requests are "not enough data (needs n = ...)", never a guess.
  Several reports a side are runs: latency is then judged by run (Student's t), counts over all of them.

examples:
  taximeter budget check --store ./spans
  taximeter budget check --report report.json --baseline main.json --markdown summary.md
  taximeter budget check --report 'B-*.json' --baseline 'A-*.json' --paired
  taximeter budget check --junit budget.xml --since 30m

exit code: 0 every limit holds, 1 a limit is broken (or a file cannot be written or read),
           2 wrong usage, 3 not enough data for some limit and none is broken
"""

SUGGEST_EPILOG = """\
examples:
  taximeter budget suggest --store ./spans --output budget.yaml
  taximeter budget suggest --report report.json --headroom 0.1

exit code: 0 written, 1 cannot read or write, 2 wrong usage or nothing to report
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the two subcommands and their options."""
    parser.description = (
        "A performance budget: limits by route for latency, queries, model calls, tokens and money."
    )
    commands = parser.add_subparsers(dest="budget_command", metavar="check|suggest", required=True)
    checker = commands.add_parser(
        "check",
        help="hold a store or a saved report against budget.yaml",
        description="Hold what was measured against a budget.\n\nlimits of a route: " + ", ".join(LIMITS),
        epilog=CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    checker.add_argument(
        "--budget", metavar="FILE", type=Path, default=DEFAULT_BUDGET, help=f"default: ./{DEFAULT_BUDGET}"
    )
    _add_source(checker)
    checker.add_argument(
        "--baseline",
        metavar="FILE[,FILE...]",
        help="a saved report.json, for limits such as max_increase; several runs where --report is several",
    )
    checker.add_argument("--paired", action="store_true", help="the runs were interleaved: A1 B1 A2 B2 ...")
    checker.add_argument("--format", choices=("terminal", "json"), default="terminal", help="standard output")
    checker.add_argument("--all", action="store_true", help="list the limits that hold as well")
    checker.add_argument("--json", metavar="FILE", type=Path, help="write the outcome as JSON")
    checker.add_argument("--junit", metavar="FILE", type=Path, help="write it as JUnit XML")
    checker.add_argument("--markdown", metavar="FILE", type=Path, help="write a summary for a pull request")
    checker.add_argument(
        "--allow-no-data",
        action="store_true",
        help="exit 0, not 3, when data are missing and nothing is broken",
    )
    writer = commands.add_parser(
        "suggest",
        help="write a first budget.yaml from what was measured",
        description="Write a budget that the measured service keeps, and one more query per request breaks.",
        epilog=SUGGEST_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source(writer)
    writer.add_argument("--output", metavar="FILE", type=Path, help="a new file (default: standard output)")
    writer.add_argument(
        "--replay",
        action="store_true",
        help="the checked runs repeat these very requests (seeded): leave no room for another mix",
    )
    writer.add_argument("--force", action="store_true", help="replace --output if it exists")
    writer.add_argument(
        "--headroom", type=_share, default=HEADROOM, help="of counts, tokens and money (default: %(default)s)"
    )
    writer.add_argument(
        "--latency-headroom", type=_share, default=LATENCY_HEADROOM, help="of latency (default: %(default)s)"
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument(
        "--report",
        metavar="FILE[,FILE...]",
        help="a saved report.json instead of a store; several (or 'B-*.json') are runs of the same thing",
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 0.05 for 5 %")
    return value


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter budget``; returns the exit code."""
    try:
        return _check(args) if args.budget_command == "check" else _suggest(args)
    except NothingToReport as error:
        return _fail(str(error), EXIT_NO_DATA if args.budget_command == "check" else EXIT_USAGE)
    except (NoBaseline, NoStore, ValueError) as error:
        return _fail(str(error), EXIT_USAGE)
    except (StoreError, OSError) as error:
        return _fail(str(error), EXIT_FAILED)


def _measured(args: argparse.Namespace) -> list[Report]:
    if args.report is not None:
        given = [
            name for name in ("since", "until", "service", "tenant", "service_version") if getattr(args, name)
        ]
        if given:
            raise ValueError(
                f"--{given[0].replace('_', '-')} chooses from a store; a saved report has its window already"
            )
        return read_runs(args.report, time.time())
    now = time.time()
    filters = filters_of(args, now)
    with open_store(args.store) as store:
        return [report(store, filters, now=now)]


def _check(args: argparse.Namespace) -> int:
    budget = load_budget(args.budget)
    baseline = read_runs(args.baseline, time.time()) if args.baseline is not None else None
    outcome = check(budget, _measured(args), baseline, paired=args.paired)
    for option, path, render in (
        ("--json", args.json, output.json),
        ("--junit", args.junit, output.junit),
        ("--markdown", args.markdown, output.summary),
    ):
        if path is not None:
            _write(path, render(outcome), option)
    if args.format == "json":
        sys.stdout.write(output.json(outcome))
    else:
        output.terminal(outcome, terminal_console(), everything=args.all)
    return _code(outcome, allow_no_data=args.allow_no_data)


def _code(outcome: Outcome, *, allow_no_data: bool) -> int:
    return 0 if outcome.state == "no_data" and allow_no_data else EXIT[outcome.state]


def _suggest(args: argparse.Namespace) -> int:
    found = _measured(args)
    if len(found) > 1:
        raise ValueError(f"a budget is suggested from one report, and --report names {len(found)}")
    text = suggest(found[0], args.headroom, args.latency_headroom, replay=args.replay)
    if args.output is None:
        sys.stdout.write(text)
        return 0
    if args.output.exists() and not args.force:
        raise ValueError(
            f"{args.output}: is there already; name another --output, or add --force to replace it"
        )
    _write(args.output, text, "--output")
    sys.stdout.write(f"written: {args.output}\n")
    return 0


def _write(path: Path, text: str, option: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OSError(
            f"{path}: cannot be written ({error.strerror}); "
            f"give {option} a file in a directory that you can write to"
        ) from None


def _fail(message: str, code: int) -> int:
    print(f"taximeter budget: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
