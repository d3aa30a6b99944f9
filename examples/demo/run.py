"""``make demo``: run the stack under load once, print the report, and balance the books.

Exit codes: 0 the books balance; 1 a row does not (it is named), or something did not start;
130 interrupted. Nothing is left behind in any case.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from examples.demo import books, figures, ledgers
from examples.demo.stack import SERVICE_ROLE, Stack, running_stack
from taximeter_analysis import open_store, render
from taximeter_analysis import report as make_report
from taximeter_analysis.command import terminal_console
from taximeter_cli.supervise import StartFailed, terminate_as_interrupt


def main() -> int:
    """Run the demo; returns the exit code."""
    args = _arguments()
    args.output.mkdir(parents=True, exist_ok=True)  # better now than after the load
    console = terminal_console()
    started = time.monotonic()

    def step(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {text}")

    try:
        with terminate_as_interrupt(), running_stack(progress=step, seed=args.seed) as stack:
            step(f"load: {args.guests} guests, {args.rate:g} requests/s for {args.duration:g} s")
            _load(stack, console, args)
            step("stopping the service (SIGTERM): it flushes what it holds")
            stack.supervisor.stop("service")
            stack.drain()
            step("reading the span store and the metrics")
            balanced = _tell(stack, console, args.output)
            step("stopping")
        step("done: no process, port or temporary folder is left")
    except (StartFailed, TimeoutError, httpx.HTTPError, subprocess.TimeoutExpired) as error:
        console.print("[red]The demo could not go on.[/red]", escape(str(error)))
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: everything was stopped and removed")
        return 130
    return 0 if balanced else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Run the hotel chat under load with Taximeter on it; hold its figures against ledgers.",
    )
    parser.add_argument(
        "--duration", type=_positive, default=75.0, help="seconds of load (default %(default)s)"
    )
    parser.add_argument(
        "--rate", type=_positive, default=20.0, help="requests per second (default %(default)s)"
    )
    parser.add_argument("--guests", type=_count, default=100, help="concurrent guests (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=7, help="of load, latencies and data (default %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        help="where report.json and report.html go (default %(default)s)",
    )
    return parser.parse_args()


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _count(text: str) -> int:
    return int(_positive(str(int(text))))


def _load(stack: Stack, console: Console, args: argparse.Namespace) -> None:
    process = stack.start_guests(duration=args.duration, rate=args.rate, guests=args.guests)
    begin = time.monotonic()
    columns = (TextColumn("         {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("guests are chatting", total=args.duration)
        told = begin
        while process.running:
            time.sleep(0.2)
            now = time.monotonic()
            progress.update(bar, completed=min(now - begin, args.duration))
            if not console.is_terminal and now - told > 15:  # a log file wants lines, not a bar
                console.print(f"         {now - begin:3.0f} s of load")
                told = now
            _others_run(stack)
    if process.popen.returncode != 0:
        raise StartFailed(f"the guests ended with code {process.popen.returncode}:\n{process.tail()}")
    stack.supervisor.stop("guests")


def _others_run(stack: Stack) -> None:
    for name, process in stack.supervisor.processes.items():
        if name != "guests" and not process.running:
            raise StartFailed(f"{name} ended with code {process.popen.returncode}:\n{process.tail()}")


def _tell(stack: Stack, console: Console, output: Path) -> bool:
    """Print report and books, write the files; whether the books balance."""
    guests = ledgers.read_guests(stack.guests_log)
    ledger = ledgers.ledger_figures(
        guests,
        ledgers.read_lines(stack.provider_ledger),
        ledgers.read_postgres(stack.postgres.dsn(), SERVICE_ROLE),
    )
    kept = output / "store"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(stack.store, kept, ignore=shutil.ignore_patterns(".*"))
    with open_store(kept) as store:
        report = make_report(store)
        sources = {
            "spans": figures.from_spans(store),
            "accounts": figures.from_accounts(store),
            "metrics": figures.from_metrics(figures.parse_exposition(stack.scrape())),
        }
        latency = books.latency(guests, figures.server_durations(store))
    rows = [row for source, ours in sources.items() for row in books.compare(source, ours, ledger)]
    rows += books.latency_row(latency, sum(guest.reached for guest in guests))

    render.terminal(report, console)
    books.print_latency(console, latency)
    books.print_books(console, rows)
    document = {**report.to_dict(), "books": [row.to_dict() for row in rows]}
    (output / "report.json").write_text(json.dumps(document, indent=2) + "\n")
    (output / "report.html").write_text(render.html(report))
    (output / "BASELINE_METRICS.md").write_text(render.markdown(report))
    console.print(f"written: {output}: report.html, report.json, BASELINE_METRICS.md")
    console.print(f"the spans are kept: taximeter serve --store {kept}")
    wrong = [row for row in rows if not row.balanced]
    for row in wrong:
        console.print(f"[bold red]does not balance:[/bold red] {escape(str(row))}")
    if not wrong:
        console.print(f"[bold green]The books balance:[/bold green] {len(rows)} rows, every difference 0.")
    return not wrong
