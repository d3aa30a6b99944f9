"""``taximeter discover``: the command line around `discover`, `seen` and the outputs.

Exit codes: 0 done (files that could not be read are listed, and are no failure), 1 cannot write or read the
store, 2 wrong usage or no such place.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from taximeter_analysis.command import EXIT_FAILED, EXIT_USAGE, terminal_console
from taximeter_analysis.discover import discover as reading
from taximeter_analysis.discover.output import as_json, as_markdown, print_discovery
from taximeter_analysis.discover.seen import compare
from taximeter_analysis.discover.walk import MAX_BYTES
from taximeter_analysis.store import NoStore, NothingToReport, StoreError, open_store
from taximeter_analysis.written import write_files

WRITERS = {"json": as_json, "markdown": as_markdown}

EPILOG = """\
what is counted (docs/discover.md says it exactly):
  routes             FastAPI, Flask, Django, Starlette, aiohttp; Next.js, Express, Fastify, Hono, NestJS, tRPC
  database calls     drivers, SQLAlchemy, Django, Supabase, Prisma, Drizzle, Mongo, vector stores
  embedding, model   OpenAI, Anthropic, Google, AI SDK, LangChain, LiteLLM, and functions named for it
  cache lines        lines of code that name a cache
  parallel awaits    asyncio.gather, TaskGroup, Promise.all, ...
  sequential awaits  a hint: neighbours that do not need each other, and calls awaited in each round of a loop
  performance TODOs  comments with a mark and a word about speed, or that call something slow

The code is read as text (Python by ast, TypeScript and JavaScript by tree-sitter): nothing is imported, run
or sent anywhere. Left out: what .gitignore names, dependencies, build output, links, tests (--tests).

examples:
  taximeter discover .                                  the totals, and the files with most in them
  taximeter discover src/app --details                  each place, file by file
  taximeter discover . --store ./spans                  which routes and calls have traces never seen?
  taximeter discover . --markdown DISCOVERY.md          the plan's discovery phase, filled in
  taximeter discover . --format json | jq '.counts'

exit code: 0 done (unreadable files are listed), 1 cannot read the store or write, 2 wrong usage
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter discover`` to its parser."""
    parser.description = (
        "What a code base asks of databases and models, and where: routes, database calls, embedding and\n"
        "model calls, caches, parallel and sequential awaits, performance TODOs; and what of it traces have\n"
        "never seen."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("path", metavar="PATH", type=Path, help="a folder of source code, or one file")
    parser.add_argument(
        "--store", metavar="DIR", type=Path, help="a span store: what have its traces never seen?"
    )
    parser.add_argument("--tests", action="store_true", help="read tests too")
    parser.add_argument("--details", action="store_true", help="list each place, file by file")
    parser.add_argument(
        "--top", metavar="N", type=_positive, default=20, help="files and places shown (default: 20)"
    )
    parser.add_argument(
        "--max-bytes", metavar="N", type=_positive, default=MAX_BYTES,
        help=f"leave out larger files (default: {MAX_BYTES:,})",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("terminal", *WRITERS), default="terminal", help="what goes to standard output"
    )
    for name in WRITERS:
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write it as {name} as well")


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter discover``; returns the exit code."""
    try:
        with _progress() as progress:
            found = reading.discover(args.path, tests=args.tests, max_bytes=args.max_bytes, progress=progress)
        if args.store is not None:
            with open_store(args.store) as store:
                found = compare(found, store)
    except (ValueError, NothingToReport, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_FAILED)
    if problem := write_files(args, WRITERS, found):
        return _fail(problem, EXIT_FAILED)
    if args.format in WRITERS:
        sys.stdout.write(WRITERS[args.format](found))
    else:
        print_discovery(found, terminal_console(), top=args.top, details=args.details)
    return 0


@contextmanager
def _progress() -> Iterator[reading.Progress]:
    """A bar on standard error where that is a terminal; it goes away when it is done."""
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=None)

        def tell(done: int, whole: int, path: str) -> None:
            bar.update(task, completed=done, total=whole, description=path[-40:].replace("[", "\\["))

        yield tell


def _fail(message: str, code: int) -> int:
    print(f"taximeter discover: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 1 or more")
    return int(text)
