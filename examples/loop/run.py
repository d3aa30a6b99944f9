"""``make loop``: the whole circle, and whether the advisor's predictions came true.

Exit codes: 0 done and every run's books balanced (predictions that missed are printed, not hidden);
1 books that do not balance, or something that did not start; 130 interrupted.

The baseline is run three times, before, between and after the fixes: a machine that grows slower meanwhile
is told from a fix that does. Each run is a stack of its own, with empty caches.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from httpx import HTTPError
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.loop.effects import Effect, effects
from examples.loop.fixes import assign, unadvised, whole_plan
from examples.loop.goals import Goal, Texts, goals
from examples.loop.judge import Row, judge, summary, touching
from examples.loop.measure import Load, Run, names_of, run
from examples.loop.pages import effect_cells, goal_cells, results_page, write_pages
from examples.loop.result import Result
from taximeter_analysis import open_store
from taximeter_analysis.advise import advise
from taximeter_analysis.advise.advice import ceiling_of_embeddings
from taximeter_analysis.advise.material import read
from taximeter_analysis.advise.model import METRICS
from taximeter_analysis.advise.output import amount, as_markdown
from taximeter_analysis.command import terminal_console
from taximeter_cli.supervise import StartFailed, terminate_as_interrupt


class _Clock:
    """Says how long it has been and how long it will be, from what the runs so far took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._done = 0
        self.ahead = 1  # runs: the baseline, to begin with

    @property
    def left_s(self) -> float | None:
        """None before the advice, when nobody knows what there is to try."""
        return self.ahead * self._elapsed / self._done if self._done and self.ahead > 0 else None

    @property
    def end_s(self) -> float:
        return self._elapsed + (self.left_s or 0.0)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def say(self, text: str) -> None:
        left = "" if self.left_s is None else f", {self.left_s / 60:4.1f} min left"
        self._console.print(f"[dim]{self._elapsed / 60:5.1f} min{left}[/dim]  {escape(text)}")

    def ended(self) -> None:
        self._done += 1
        self.ahead -= 1


def loop(load: Load, folder: Path, console: Console, *, only: Sequence[str] = (), limit_s: float) -> Result:
    """Run everything; ``only`` limits the flags that are tried one by one, ``limit_s`` the whole."""
    clock, redis = _Clock(console), shutil.which("redis-server")
    runs: dict[str, Run] = {}

    def variant(name: str, flags: Sequence[str]) -> Run:
        clock.say(f"{name}: {load.rate:g} requests/s for {load.duration_s:g} s")
        keep = folder / name.replace(",", "").replace(" ", "-")
        try:
            done = run(load, flags, keep, redis=redis, order=len(runs))
        except (StartFailed, TimeoutError, HTTPError) as error:
            clock.say(f"{name}: {type(error).__name__}, once more: {error}")
            done = run(load, flags, keep, redis=redis, order=len(runs))
        runs[name] = done
        wrong = "; ".join(str(row) for row in done.books if not row.balanced)
        clock.ended()
        clock.say(f"{name}: the books {'balance' if done.balanced else 'do NOT balance: ' + wrong}")
        return done

    baselines = [variant("baseline", ())]
    with open_store(baselines[0].store) as store:
        advice = advise(store)
        material = read(store)
        texts = Texts(ceiling_of_embeddings(store) or 0.0, int(baselines[0].lookups))
    touched = touching(material, names_of(baselines[0].store))
    (folder / "ADVICE.md").write_text(as_markdown(advice), encoding="utf-8")
    by_flag, rest = assign(advice.findings)
    small, _ = assign(advice.small)  # a fix does what was too little to be listed, too
    tried = [flag for flag in by_flag if not only or flag in only]
    clock.ahead = len(tried) + 5
    clock.say(f"advice: {len(advice.findings)} findings, of which {len(rest)} have no flag here")
    left_out = []
    for number, flag in enumerate(tried):
        if number == len(tried) // 2:
            baselines.append(variant("baseline, half way", ()))
        if clock.end_s > limit_s:
            clock.say(f"{flag}: left out, or the loop would take longer than {limit_s / 60:.0f} min")
            left_out.append(flag)
            clock.ahead -= 1
        else:
            variant(flag, (flag,))
    others = variant("not advised", unadvised(by_flag, bool(redis)))
    every = variant("all", tuple(by_flag))
    plan = variant("whole plan", whole_plan(bool(redis)))
    baselines.append(variant("baseline, at the end", ()))
    rows = [
        row
        for flag in tried
        if flag not in left_out
        for row in judge(flag, [*by_flag[flag], *small.get(flag, [])], baselines, runs[flag], touched)
    ]
    table = goals(baselines[0], every, plan, texts)
    return Result(rows, table, effects(baselines, others), runs, advice, tuple(left_out))


def print_effects(console: Console, found: Sequence[Effect]) -> None:
    table = Table(title="Fixes that no finding asks for, in one run: what each alone moves",
                  box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")  # fmt: skip
    for name in ("fix", "what", "before", "after", "change"):
        table.add_column(name, justify="left" if name in ("fix", "what") else "right")
    for effect in found:
        table.add_row(effect.flag, effect.what, *effect_cells(effect))
    console.print(table)


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    table = Table(title="Findings, predicted and measured (sums over the run)", box=box.SIMPLE_HEAD,
                  title_justify="left", title_style="bold")  # fmt: skip
    for name in ("fix", "finding", "saves"):
        table.add_column(name, overflow="fold")
    for name in ("predicted", "bounds", "measured", "noise", "error", "inside?"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = (amount(row.metric, each) for each in (row.predicted.low, row.predicted.high))
        measured = ("-" if row.measured < 0 else "") + amount(row.metric, abs(row.measured))
        table.add_row(
            row.flag,
            f"{', '.join(row.kinds)} ({row.findings})",
            METRICS[row.metric],
            ("<= " if row.ceiling else "") + amount(row.metric, row.predicted.value),
            f"{low} to {high}",
            measured,
            amount(row.metric, row.noise),
            "" if row.error is None else f"{row.error:.0%}",
            ("yes" if row.inside else "NO") + ("" if row.told else ", noise"),
        )
    console.print(table)
    found = summary(rows)
    console.print(
        f"{found['predictions']} predictions. Median error of the {found['expectations']} that are no "
        f"upper bounds: "
        f"{found['median_error']:.0%} (wanted: 15% or less). Bounds held the measured value in "
        f"{found['inside']:.0%} "
        "(wanted: 80% or more). Noise: what the runs of the baseline differ by; "
        f"{found['untold']} savings are smaller than that, so that these runs cannot tell."
    )


def print_goals(console: Console, found: Sequence[Goal]) -> None:
    table = Table(title="The plan's success table", box=box.SIMPLE_HEAD,
                  title_justify="left", title_style="bold")  # fmt: skip
    for name in ("what", "before", "all advised", "", "whole plan", "", "target", "reached?"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for goal in found:
        table.add_row(goal.what, *goal_cells(goal))
    console.print(table)
    for goal in found:
        if goal.ceiling and goal.reached != "advised":
            console.print(f"{goal.what}: {goal.ceiling}.", highlight=False)


def main() -> int:
    """Run ``make loop``; returns the exit code."""
    args = _arguments()
    console = terminal_console()
    if not console.is_terminal:
        console = Console(width=132, highlight=False)
    console.record = True
    load = Load(args.duration, args.rate, args.guests, args.seed, args.latency_scale, args.distance)
    console.print(
        f"In every run the same guests (seed {load.seed}); {load.models}, and the database is "
        f"{load.distance_ms:g} ms away, each way. The machine's load before: "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )
    try:
        with terminate_as_interrupt(), tempfile.TemporaryDirectory(prefix="taximeter-loop-") as folder:
            keep = args.keep or Path(folder)
            keep.mkdir(parents=True, exist_ok=True)
            result = loop(load, keep, console, only=args.only, limit_s=60 * args.limit)
            print_rows(console, result.rows)
            print_effects(console, result.effects)
            print_goals(console, result.goals)
            _rest(console, result)
            wrong = [name for name, each in result.runs.items() if not each.balanced]
            console.print(
                f"The books of {', '.join(wrong)} do not balance."
                if wrong
                else f"The books balance in each of {len(result.runs)} runs."
            )
            if args.results:
                args.results.write_text(results_page(console.export_text(clear=False)), encoding="utf-8")
            if args.docs:
                write_pages(args.docs, load, result)
            if args.keep:
                document = {
                    "rows": [asdict(each) for each in result.rows],
                    "goals": [asdict(each) for each in result.goals],
                    "effects": [asdict(each) for each in result.effects],
                }
                (keep / "loop.json").write_text(json.dumps(document, indent=2) + "\n")
    except (StartFailed, TimeoutError, HTTPError) as error:
        console.print("[red]The loop could not go on.[/red]", escape(str(error)))
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: everything was stopped and removed")
        return 130
    return 1 if wrong else 0


def _rest(console: Console, result: Result) -> None:
    if result.left_out:
        console.print(f"Not tried one by one, for want of time: {', '.join(result.left_out)}")
    _, rest = assign(result.advice.findings)
    if rest:
        console.print("\nFindings that no flag answers:")
        for finding in rest:
            console.print(f"  {finding.kind}: {finding.title}, {finding.route or 'all routes'}", markup=False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.loop", description=__doc__)
    usual = Load()
    for name, value, text in (
        ("--duration", usual.duration_s, "seconds of load a run"),
        ("--rate", usual.rate, "requests per second"),
        ("--latency-scale", usual.latency_scale, "times the real services' time to answer"),
        ("--distance", usual.distance_ms, "milliseconds to the database, one way"),
    ):
        parser.add_argument(name, type=float, default=value, help=f"{text} (default {value:g})")
    parser.add_argument(
        "--limit",
        type=float,
        default=27.0,
        help="minutes that the whole may take: beyond them the fixes worth least are not tried one by one",
    )
    parser.add_argument("--guests", type=int, default=usual.guests)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument(
        "--only", nargs="*", default=(), metavar="FLAG", help="try these flags one by one only"
    )
    parser.add_argument("--docs", type=Path, help="write the plan's five documents into this folder")
    parser.add_argument("--results", type=Path, help="write what is printed into this file, as Markdown")
    parser.add_argument("--keep", type=Path, help="keep stores, advice and figures in this folder")
    return parser.parse_args()
