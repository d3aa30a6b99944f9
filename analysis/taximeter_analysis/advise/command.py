"""``taximeter advise``: the command line around `advise` and its outputs.

Exit codes as of ``taximeter report``: 0 done (with or without findings), 1 cannot read or write, 2 wrong
usage or nothing there.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from taximeter_analysis.advise.advice import advise
from taximeter_analysis.advise.material import LIMIT
from taximeter_analysis.advise.output import as_json, as_markdown, print_advice
from taximeter_analysis.command import EXIT_FAILED, EXIT_USAGE, terminal_console
from taximeter_analysis.sources import add_selection, filters_of
from taximeter_analysis.store import NoStore, NothingToReport, StoreError, open_store

WRITERS = {"json": as_json, "markdown": as_markdown}

EPILOG = """\
reading a finding:
  'saves' is what the same traffic would have taken less, with a lower and an upper bound; 'if' is the
  assumption. Findings are ranked by their shares of all money and all time. docs/advisor.md explains each.

examples:
  taximeter advise --store ./spans --since 24h
  taximeter advise --tenant alpenhof --markdown ADVICE.md
  taximeter advise --format json | jq '.findings[0]'

exit code: 0 done, 1 cannot read or write, 2 wrong usage or nothing there
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter advise`` to its parser."""
    parser.description = (
        "What could be saved in time, calls and money, from the span store: each finding with its evidence,\n"
        "a predicted saving with bounds, the assumption behind it, and what to do."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_selection(parser)
    parser.add_argument(
        "--top", metavar="N", type=_positive, default=12, help="how many to print (default: 12)"
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_positive,
        default=LIMIT,
        help=f"requests to read at most (default: {LIMIT:,})",
    )
    parser.add_argument(
        "--format", choices=("terminal", *WRITERS), default="terminal", help="what goes to standard output"
    )
    for name in WRITERS:
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write it as {name} as well")


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter advise``; returns the exit code."""
    try:
        filters = filters_of(args, time.time())
        with open_store(args.store) as store:
            found = advise(store, filters, args.limit)
    except (ValueError, NothingToReport, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_FAILED)
    for name, text in WRITERS.items():
        path: Path | None = getattr(args, name)
        if path is not None:
            try:
                path.write_text(text(found), encoding="utf-8")
            except OSError as error:
                return _fail(f"{path}: cannot be written ({error.strerror}); name another file", EXIT_FAILED)
    if args.format in WRITERS:
        sys.stdout.write(WRITERS[args.format](found))
    else:
        print_advice(found, terminal_console(), args.top)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"taximeter advise: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of findings or requests; write 1 or more")
    return int(text)
