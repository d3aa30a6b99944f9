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
from taximeter_analysis.written import write_files

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


DATABASE = """\
Which indexes would pay, which are for nothing, and which functions search vectors without an index.

The server is asked for its catalogue and for plans: EXPLAIN without ANALYZE, in read-only transactions that
wait at most half a second for a lock. Nothing is created and no row is read."""

DATABASE_EPILOG = """\
statements come from pg_stat_statements, where that is installed, and from --spans. Read them as a role with
pg_read_all_stats (or pg_monitor); a password belongs into PGPASSWORD or ~/.pgpass, not onto a command line.

examples:
  taximeter advise db --dsn 'postgresql://monitor@db.example/hotel' --spans ./spans
  PGSERVICE=production taximeter advise db --planner shadow --markdown INDEXES.md

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
    _add_output(parser)
    _add_database(parser.add_subparsers(dest="subject", metavar="db"))


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=("terminal", *WRITERS), default="terminal", help="what goes to standard output"
    )
    for name in WRITERS:
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write it as {name} as well")


def _add_database(subjects: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subjects.add_parser(
        "db",
        help="which indexes would pay, which are for nothing, why vector search scans",
        description=DATABASE,
        epilog=DATABASE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dsn",
        default="",
        help="a libpq connection string or URI (default: PGHOST, PGSERVICE and their like)",
    )
    parser.add_argument("--spans", metavar="DIR", help="a span store, whose statements are judged as well")
    parser.add_argument(
        "--planner",
        choices=("auto", "hypopg", "shadow"),
        default="auto",
        help="who judges indexes that do not exist: hypopg in the database, or an empty server with its "
        "statistics (default: hypopg where it is installed)",
    )
    parser.add_argument(
        "--statements",
        metavar="N",
        type=_positive,
        default=100,
        help="the dearest N are judged (default: 100)",
    )
    parser.add_argument(
        "--top", metavar="N", type=_positive, default=12, help="how much to print (default: 12)"
    )
    _add_output(parser)


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter advise``; returns the exit code."""
    if args.subject == "db":
        try:
            from taximeter_analysis.advise.database import command as database  # noqa: PLC0415  (needs psycopg)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("taximeter"):
                raise
            return _fail(f"db needs '{error.name}': pip install 'taximeter[database]'", EXIT_USAGE)
        return database.main(args)
    try:
        filters = filters_of(args, time.time())
        with open_store(args.store) as store:
            found = advise(store, filters, args.limit)
    except (ValueError, NothingToReport, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_FAILED)
    if problem := write_files(args, WRITERS, found):
        return _fail(problem, EXIT_FAILED)
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
