"""The plan's documents, written from a loop's figures: what was found, done, predicted and measured.

Nothing in them is typed by hand but the sentences, so they say what the last run said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from examples.hotel_chat.flags import FLAGS
from examples.loop.effects import Effect
from examples.loop.goals import Goal
from examples.loop.items import AREAS, ITEMS, Item
from examples.loop.judge import Row, summary
from examples.loop.measure import Load, Run
from examples.loop.result import Result
from taximeter_analysis.advise.model import METRICS
from taximeter_analysis.advise.output import amount

_METRIC = {"s": "duration_s", "usd": "cost_usd", "count": "db_calls"}
_MACHINE = "Debian 12, x86-64, 2 cores, Python 3.11"


def write_pages(folder: Path, load: Load, result: Result) -> list[Path]:
    """Write the five documents below ``folder``; returns their paths. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = result.runs
    balanced = sum(run.balanced for run in runs.values())
    basis = (
        f'Written by `make loop LOOP_ARGS="--docs docs/performance-optimization"`: {len(runs)} runs of '
        f"{load.duration_s:g} s at {load.rate:g} requests a second, the same guests in each (seed "
        f"{load.seed}), {load.models}, the database is "
        f"{load.distance_ms:g} ms away each way. The books balance in {balanced} of {len(runs)} runs."
    )
    texts = {name: _area(name, result) for name in AREAS}
    texts["MONITORING_GUIDE"] = _monitoring(runs)
    texts["COMPLETION_SUMMARY"] = _completion(result)
    written = []
    for name, lines in texts.items():
        path = folder / f"{name}.md"
        title = name.replace("_", " ").capitalize().replace("Ai ", "AI ").replace("Api ", "API ")
        path.write_text("\n".join([f"# {title}", "", basis, "", *lines]) + "\n", encoding="utf-8")
        written.append(path)
    return written


def results_page(printed: str) -> str:
    """What a loop printed, as a page of docs/results."""
    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    return (
        f"# The closed loop\n\nThe output of `make loop` of {date.today():%-d %B %Y} ({_MACHINE}). What is "
        "predicted, how it is measured and what noise means is in [the advisor's page](../advisor.md); the "
        "plan's documents of the same run are in "
        "[docs/performance-optimization](../performance-optimization/COMPLETION_SUMMARY.md)."
        f"\n\n```\n{lines}\n```\n"
    )


def _area(name: str, result: Result) -> Iterator[str]:
    yield f"{AREAS[name]} Each fix is a flag of the example, off by default, switched while it runs."
    for item in ITEMS:
        if item.page == name:
            yield from _section(item, result)


def _section(item: Item, result: Result) -> Iterator[str]:
    flag = item.flag
    yield from (
        "",
        f"## `{flag}`",
        "",
        f"The plan: *{item.task}*. {FLAGS[flag][0].upper()}{FLAGS[flag][1:]}.",
        "",
    )
    yield from (f"{item.how}", "")
    rows = [row for row in result.rows if row.flag == flag]
    moved = [effect for effect in result.effects if effect.flag == flag]
    if rows:
        yield from _table(rows)
    elif moved:
        yield "No finding asks for it; measured in one run with the others that none asks for:"
        yield ""
        yield "| what | before | after | change |"
        yield "| --- | ---: | ---: | ---: |"
        for effect in moved:
            yield f"| {effect.what} | {' | '.join(effect_cells(effect))} |"
    elif flag in result.left_out:
        yield "Advised, but not tried by itself in this run, for want of time."
    else:
        why = item.why or "no finding asks for it"
        yield f"Not measured by itself: {why}. It is on in the run of the whole plan."


def effect_cells(effect: Effect) -> list[str]:
    """Before, after, change."""
    if effect.metric in ("db_calls", "input_tokens"):
        shown = [f"{value:,.1f}" for value in (effect.before, effect.after)]
    else:
        shown = [amount(effect.metric, value) for value in (effect.before, effect.after)]
    return [*shown, f"{effect.change:+.0%}"]


def goal_cells(goal: Goal) -> list[str]:
    """Before, all advised and its change, the whole plan and its change, target, reached?"""
    reached = {"advised": "yes", "plan": "by the whole plan", "": "no"}[goal.reached]
    if goal.unit == "rate":
        before, advised, whole, target = (
            f"{value:.0%}" for value in (goal.before, goal.advised, goal.whole, goal.target)
        )
        return [before, advised, "", whole, "", target, reached]
    before, advised, whole = (
        amount(_METRIC[goal.unit], value) for value in (goal.before, goal.advised, goal.whole)
    )
    changes = (f"{goal.change(value):+.0%}" for value in (goal.advised, goal.whole))
    return [before, advised, next(changes), whole, next(changes), f"{goal.target:+.0%}", reached]


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| finding | saves | predicted | bounds | measured | inside? |"
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    for row in rows:
        value, low, high = (
            amount(row.metric, each) for each in (row.predicted.value, row.predicted.low, row.predicted.high)
        )
        measured = ("-" if row.measured < 0 else "") + amount(row.metric, abs(row.measured))
        inside = ("yes" if row.inside else "no") + ("" if row.told else " (below the runs' noise)")
        yield (
            f"| {', '.join(row.kinds)} ({row.findings}) | {METRICS[row.metric]} | "
            f"{'at most ' if row.ceiling else ''}{value} | "
            f"{low} to {high} | {measured} | {inside} |"
        )


def _monitoring(runs: Mapping[str, Run]) -> Iterator[str]:
    yield "Watch what the fixes moved; the dashboards and `taximeter compare` split each by the active flags."
    yield ""
    yield "| run | P50 | P95 | queries a request | embedding hit rate | money a 1,000 requests |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, run in runs.items():
        count = max(1.0, run.total("requests"))
        hits = f"{run.hits / run.lookups:.0%}" if run.lookups else "-"
        yield (
            f"| {name} | {amount('duration_s', run.quantile(0.5))} | "
            f"{amount('duration_s', run.quantile(0.95))} | "
            f"{run.total('db_calls') / count:.1f} | {hits} | "
            f"{amount('cost_usd', 1000 * run.total('cost_usd') / count)} |"
        )
    yield from (
        "",
        "Roll a fix out by its flag (`POST /admin/flags`), watch its section's figure under the flag against "
        "the rest, and switch it off where the figure does not move. Hold what was reached: `taximeter "
        "budget suggest` writes a budget from the recorded requests, `taximeter budget check` fails a build "
        "that exceeds it, `taximeter alerts render` makes the alerts of the same file. What to do when a "
        "page comes is in the runbooks (`docs/runbooks`), what the figures mean in `docs/monitoring.md`.",
    )


def _completion(result: Result) -> Iterator[str]:
    found = summary(result.rows)
    yield (
        f"{len(result.advice.findings)} findings; {found['predictions']} predictions held against a run. "
        f"Median error {found['median_error']:.0%} (15 % or less wanted), {found['inside']:.0%} inside their "
        f"bounds (80 % wanted). Times on {_MACHINE}."
    )
    yield from ("", "## The plan's success table", "")
    yield "| what | before | all advised | | whole plan | | target | reached? | how far it could go |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"
    for goal in result.goals:
        yield f"| {goal.what} | {' | '.join(goal_cells(goal))} | {goal.ceiling} |"
    yield from ("", "## The plan's tasks", "")
    yield "| phase | task | flag | page |"
    yield "| --- | --- | --- | --- |"
    for item in ITEMS:
        anchor = item.flag.replace(".", "")
        yield f"| {item.phase} | {item.task} | `{item.flag}` | [{item.page}]({item.page}.md#{anchor}) |"
    yield from ("", "## Every prediction", "")
    yield from _table(result.rows)
