"""``taximeter report``: the command line around `open_store`, `report` and `render`.

Exit codes: 0 printed (and written); 1 the store is there but cannot be read, or a file cannot be
written; 2 wrong usage, including a store that does not exist, is empty, or holds nothing that was
asked for. An error is one line on standard error: what, where, and what to do.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from taximeter_analysis import render
from taximeter_analysis.model import Report
from taximeter_analysis.readers.place import EXAMPLES
from taximeter_analysis.report import SLOW_S, TOP, report
from taximeter_analysis.sources import add_selection, duration, filters_of
from taximeter_analysis.store import NoStore, NothingToReport, StoreError, open_store
from taximeter_collector.store.schema import MIN_REPEATS

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = {
    "json": ("JSON (documented schema)", render.json),
    "html": ("one self-contained page", render.html),
    "markdown": ("Markdown, in the shape of BASELINE_METRICS.md", render.markdown),
    "csv": ("CSV: one line a route, tenant and model", render.csv),
}

EXIT_FAILED = 1
EXIT_USAGE = 2

EPILOG = f"""\
instants and durations:
  2026-11-23T08:15:00Z, 2026-11-23T09:15+01:00, 2026-11-23 (UTC when no offset is given);
  15m, 24h, 7d, 1h30m: that long ago

reading the figures:
  P50, P95 and P99 are exact order statistics over all requests, failed ones included. '~' marks a
  weak one: P95 from under 59 requests, P99 from under 299. '-' means not known, which is not 0.
  N+1: one statement sent {MIN_REPEATS} times or more within one request.

examples:
  taximeter report --store ./spans
  taximeter report --since 24h --tenant alpenhof --html report.html
  taximeter report --since 7d --markdown BASELINE_METRICS.md --csv baseline.csv
  taximeter report --format json | jq .totals.cost_usd
  taximeter report --from 'file:telemetry/*.json'     the official collector's file exporter

exit code: 0 done, 1 cannot read or write, 2 wrong usage or nothing to report
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter report`` to its parser."""
    parser.description = (
        "Where time and money went, by route, from the span store: latency, database calls, model\n"
        "calls, tokens and cost, slow requests and queries, N+1, cost by tenant and model, and a\n"
        "month's projection."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_selection(parser)
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help=f"instead of the span store: {EXAMPLES}",
    )
    parser.add_argument(
        "--slow",
        metavar="DURATION",
        type=duration,
        default=SLOW_S,
        help=f"from when on a request or query is slow (default: {SLOW_S:g}s)",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=_positive,
        default=TOP,
        help="how many slow and repeated ones to list (default: 10)",
    )
    parser.add_argument(
        "--format", choices=("terminal", *FORMATS), default="terminal", help="what goes to standard output"
    )
    for name, (what, _) in FORMATS.items():
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write it as {what} as well")


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter report``; returns the exit code."""
    try:
        found = _report(args)
    except (ValueError, NothingToReport, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except StoreError as error:
        return _fail(str(error), EXIT_FAILED)
    written = []
    for name, (_, text) in FORMATS.items():
        path: Path | None = getattr(args, name)
        if path is None:
            continue
        try:
            path.write_text(text(found), encoding="utf-8")
        except OSError as error:
            remedy = f"give --{name} a file in a directory that you can write to"
            return _fail(f"{path}: cannot be written ({error.strerror}); {remedy}", EXIT_FAILED)
        written.append(str(path))
    if args.format in FORMATS:
        sys.stdout.write(FORMATS[args.format][1](found))
        return 0
    console = terminal_console()
    render.terminal(found, console)
    if written:
        console.print(f"\nwritten: {', '.join(written)}", markup=False, highlight=False, soft_wrap=True)
    return 0


def terminal_console() -> Console:
    """The console for standard output: as wide as the terminal; 100 columns (or COLUMNS) into a pipe."""
    from rich.console import Console  # noqa: PLC0415  (JSON and CSV do without)

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=100 if piped else None, highlight=False)


def _report(args: argparse.Namespace) -> Report:
    now = time.time()
    filters = filters_of(args, now)
    if args.source is not None:
        # HTTP and protobuf take 0.2 s to import, which a report of a store need not wait for.
        from taximeter_analysis.readers.opened import report_from  # noqa: PLC0415

        return report_from(args.source, filters, slow_s=args.slow, top=args.top, now=now, progress=_tell)
    with open_store(args.store) as store:
        return report(store, filters, slow_s=args.slow, top=args.top, now=now)


def _tell(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text} ", end="", file=sys.stderr, flush=True)  # noqa: T201


def _fail(message: str, code: int) -> int:
    print(f"taximeter report: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; write 1 or more")
    return int(text)
