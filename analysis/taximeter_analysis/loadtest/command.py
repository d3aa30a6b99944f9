"""``taximeter loadtest``: so many guests against a service, or against two of them in turn."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from taximeter_analysis import render
from taximeter_analysis.command import terminal_console
from taximeter_analysis.compare import compare, output
from taximeter_analysis.loadtest.blocks import Block
from taximeter_analysis.loadtest.run import Load, LoadFailed, Side, order, run_block, run_worker
from taximeter_analysis.model import Report
from taximeter_analysis.render.tables import Page
from taximeter_analysis.render.units import count, percent, seconds
from taximeter_analysis.sources import duration
from taximeter_analysis.window import iso

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OWN_LIMIT = 3
PORT = 5557

EPILOG = """\
A scenario is a Locust file: https://docs.locust.io/en/stable/writing-a-locustfile.html

examples:
  taximeter loadtest guests.py --host http://localhost:8000                      100 guests, one minute
  taximeter loadtest guests.py --host http://old:8000 --host-b http://new:8000   A and B in six blocks each
  taximeter loadtest guests.py --host URL --before-a 'flag off' --before-b 'flag on' --blocks 6
  taximeter loadtest guests.py --host URL --guests 1000 --processes 4            ten times as many
  taximeter loadtest guests.py --host URL --guests 1000 --remote-workers 8 --bind 10.0.0.5
  taximeter loadtest guests.py --worker-of 10.0.0.5                              on the other machines

each block is written to --output as a saved report (A-1.json, ...), which `taximeter compare` and
`taximeter budget check --report` take; blocks.json has the blocks' windows in time.

exit code: 0 done, 1 failed, 2 wrong usage, 3 the load generator itself was the limit: its figures
           are not the service's
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter loadtest``."""
    parser.description = (
        "Send guests to a service, or to two in interleaved blocks, and compare. Watches its own CPU."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("scenario", type=Path, metavar="SCENARIO.py", help="a Locust file")
    parser.add_argument("--host", metavar="URL", help="the service (side A)")
    parser.add_argument("--host-b", metavar="URL", help="the other one (side B)")
    parser.add_argument("--before-a", metavar="CMD", help="run before each block of A")
    parser.add_argument("--before-b", metavar="CMD", help="run before each block of B")
    parser.add_argument("--guests", type=_number, default=100, help="concurrent (default: %(default)s)")
    parser.add_argument(
        "--spawn-rate", type=_number, help="guests that arrive per second (default: all at once)"
    )
    parser.add_argument("--duration", type=duration, default=60.0, help="of a block (default: 60s)")
    parser.add_argument("--warmup", type=duration, default=5.0, help="left out of each block (default: 5s)")
    parser.add_argument("--blocks", type=_number, help="a side (default: 6 with two sides, else 1)")
    parser.add_argument("--processes", type=_number, default=1, help="load generators here (default: 1)")
    parser.add_argument(
        "--remote-workers", type=_number, default=0, metavar="N", help="wait for N --worker-of"
    )
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="where they find us")
    parser.add_argument("--worker-of", metavar="ADDRESS", help="work for the master there")
    parser.add_argument(
        "--port", type=_number, default=PORT, help="master and workers (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("loadtest"), help="a folder (default: ./%(default)s)"
    )


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter loadtest``; returns the exit code."""
    wrong = _wrong_usage(args)
    if wrong:
        return _fail(wrong, EXIT_USAGE)
    if args.worker_of:
        return run_worker(args.scenario, args.worker_of, args.port, args.processes)
    try:
        return _run(args)
    except LoadFailed as error:
        return _fail(str(error), EXIT_FAILED)
    except OSError as error:
        return _fail(
            f"{error.filename}: {error.strerror}; give --output a folder you can write to", EXIT_FAILED
        )


def _wrong_usage(args: argparse.Namespace) -> str | None:
    if importlib.util.find_spec("locust") is None:
        return "needs the package 'locust': pip install 'taximeter[loadtest]'"
    if not args.scenario.is_file():
        return f"{args.scenario}: no such file; give a Locust file"
    if not args.host and not args.worker_of:
        return "--host URL is missing: which service?"
    if args.warmup >= args.duration:
        return f"--warmup {args.warmup:g}s leaves nothing of --duration {args.duration:g}s"
    return None


def _run(args: argparse.Namespace) -> int:
    sides = [Side("A", args.host, args.before_a)]
    if args.host_b or args.before_b:
        sides.append(Side("B", args.host_b or args.host, args.before_b))
    load = Load(
        scenario=args.scenario, guests=args.guests, spawn_rate=args.spawn_rate or args.guests,
        duration_s=args.duration, warmup_s=args.warmup, processes=args.processes,
        remote_workers=args.remote_workers, bind=args.bind, port=args.port if args.remote_workers else None,
    )  # fmt: skip
    args.output.mkdir(parents=True, exist_ok=True)
    page = Page(terminal_console())
    blocks: list[Block] = []
    reports: dict[str, list[Report]] = {side.name: [] for side in sides}
    for number, side in order(sides, args.blocks or (6 if len(sides) > 1 else 1)):
        block = run_block(load, side, number, args.output)
        found = block.report(side.host)
        (args.output / f"{block.name}.json").write_text(render.json(found), encoding="utf-8")
        blocks.append(block)
        reports[side.name].append(found)
        page.line(_line(block, found))
    windows = [{"side": block.side, "since": iso(block.since), "until": iso(block.until)} for block in blocks]
    (args.output / "blocks.json").write_text(json.dumps(windows, indent=2) + "\n", encoding="utf-8")
    if len(sides) > 1:
        page.line("")
        output.terminal(compare(reports["A"], reports["B"], paired=len(reports["A"]) > 1), page.console)
    page.line(f"written: {args.output}/")
    limited = [block for block in blocks if block.own_limit]
    for block in limited:
        page.paragraph(f"block {block.name}: {block.own_limit}", "the load generator was the limit: ")
    if limited:
        page.paragraph("raise --processes, use --remote-workers, or send fewer guests", "  ")
    return EXIT_OWN_LIMIT if limited else 0


def _line(block: Block, found: Report) -> str:
    latency, errors = found.latency, found.totals.errors
    rate, failed = block.count / max(block.until - block.since, 1e-9), percent(errors / block.count)
    return (
        f"{block.name:5} {count(block.count)} requests, {rate:,.1f}/s, {failed} failed, "
        f"P50 {seconds(latency.p50)}, P95 {seconds(latency.p95)}; "
        f"own CPU at most {max(block.cores, default=0):.0%} of a core"
    )


def _fail(message: str, code: int) -> int:
    print(f"taximeter loadtest: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
