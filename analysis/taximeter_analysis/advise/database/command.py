"""``taximeter advise db``: the command line around `advise_database`."""

from __future__ import annotations

import argparse
import sys

import psycopg

from taximeter_analysis.advise.database.advice import advise_database
from taximeter_analysis.advise.database.output import as_json, as_markdown, print_database
from taximeter_analysis.advise.database.server import ServerFailed
from taximeter_analysis.command import EXIT_FAILED, EXIT_USAGE, terminal_console
from taximeter_analysis.store import NoStore, StoreError, open_store
from taximeter_analysis.written import write_files

WRITERS = {"json": as_json, "markdown": as_markdown}


def main(args: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    try:
        if args.spans is None:
            found = advise_database(args.dsn, None, args.statements, args.planner)
        else:
            with open_store(args.spans) as store:
                found = advise_database(args.dsn, store, args.statements, args.planner)
    except (ValueError, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except (StoreError, ServerFailed) as error:
        return _fail(str(error), EXIT_FAILED)
    except psycopg.Error as error:
        return _fail(f"the database cannot be asked: {' '.join(str(error).split())}", EXIT_FAILED)
    if problem := write_files(args, WRITERS, found):
        return _fail(problem, EXIT_FAILED)
    if args.format in WRITERS:
        sys.stdout.write(WRITERS[args.format](found))
    else:
        print_database(found, terminal_console(), args.top)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"taximeter advise db: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
