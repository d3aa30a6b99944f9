"""The plan's documents, written from a loop's figures: what was found, done, predicted and measured.

Nothing in them is typed by hand but the sentences, so they say what the last run said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from examples.hotel_chat.flags import FLAGS
from examples.loop.judge import Goal, Row, summary
from examples.loop.measure import Load, Run
from taximeter_analysis.advise import Advice
from taximeter_analysis.advise.model import METRICS
from taximeter_analysis.advise.output import amount

#: document -> (what it is about, its flags)
AREAS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "DATABASE_OPTIMIZATION": (
        "Fewer statements, and faster ones",
        ("fix.batch_reservations", "fix.hotel_cache", "fix.indexes", "fix.stats_query",
         "fix.match_functions", "fix.occupancy_view"),
    ),
    "AI_COST_OPTIMIZATION": (
        "Fewer embedding and model calls, fewer tokens, cheaper ones",
        ("fix.embedding_cache", "fix.faq_vectors", "fix.answer_cache", "fix.prompt_order", "fix.short_prompt",
         "fix.prompt_trial", "fix.routing"),
    ),
    "API_OPTIMIZATION": (
        "Answers that come sooner",
        ("fix.parallel", "fix.stream_chat", "fix.route_cache", "fix.quote_cache"),
    ),
}  # fmt: skip
_METRIC = {"s": "duration_s", "usd": "cost_usd", "count": "db_calls"}


def write_pages(
    folder: Path,
    load: Load,
    rows: Sequence[Row],
    goals: Sequence[Goal],
    *,
    runs: Mapping[str, Run],
    advice: Advice,
) -> list[Path]:
    """Write the five documents below ``folder``; returns their paths. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    basis = (
        f"From one `make loop`: {len(runs)} runs of {load.duration_s:g} s at {load.rate:g} requests a "
        f"second, the "
        f"same guests in each (seed {load.seed}), models at {load.latency_scale:g} of their usual "
        f"latency, the "
        f"database {load.distance_ms:g} ms away each way. The books balance in "
        f"{sum(run.balanced for run in runs.values())} of {len(runs)} runs."
    )
    texts = {name: _area(*AREAS[name], rows) for name in AREAS}
    texts["MONITORING_GUIDE"] = _monitoring(runs)
    texts["COMPLETION_SUMMARY"] = _completion(rows, goals, advice)
    written = []
    for name, lines in texts.items():
        path = folder / f"{name}.md"
        title = name.replace("_", " ").capitalize().replace("Ai ", "AI ").replace("Api ", "API ")
        path.write_text("\n".join([f"# {title}", "", basis, "", *lines]) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _area(about: str, flags: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    yield f"{about}. Each fix is a flag of the example, off by default, switched while it runs."
    for flag in flags:
        yield from ("", f"## `{flag}`", "", f"{FLAGS[flag].capitalize()}.", "")
        own = [row for row in rows if row.flag == flag]
        if own:
            yield from _table(own)
        else:
            yield "Not advised, or not tried by itself, in this run."


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| finding | saves | predicted | bounds | measured | inside? |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        value, low, high = (
            amount(row.metric, each) for each in (row.predicted.value, row.predicted.low, row.predicted.high)
        )
        measured = ("-" if row.measured < 0 else "") + amount(row.metric, abs(row.measured))
        inside = ("yes" if row.inside else "no") + ("" if row.told else " (below the runs' noise)")
        yield (
            f"| {', '.join(row.kinds)} | {METRICS[row.metric]} | "
            f"{'at most ' if row.ceiling else ''}{value} | "
            f"{low} to {high} | {measured} | {inside} |"
        )


def _monitoring(runs: Mapping[str, Run]) -> Iterator[str]:
    yield "Watch what the fixes moved; the dashboards split each by the active flags."
    yield ""
    yield "| run | P50 | P95 | queries a request | embedding hit rate | money a 1,000 requests |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, run in runs.items():
        count = max(1.0, run.total("requests"))
        hits = f"{run.hits / run.lookups:.0%}" if run.lookups else "-"
        yield (
            f"| {name} | {amount('duration_s', run.quantile(0.5))} | "
            f"{amount('duration_s', run.quantile(0.95))} | "
            f"{run.total('db_calls') / count:.1f} | {hits} | "
            f"{amount('cost_usd', 1000 * run.total('cost_usd') / count)} |"
        )
    yield ""
    yield "Gate the next change on these: `taximeter budget suggest`, then `taximeter budget check` in CI."


def _completion(rows: Sequence[Row], goals: Sequence[Goal], advice: Advice) -> Iterator[str]:
    found = summary(rows)
    yield (
        f"{len(advice.findings)} findings; {found['predictions']} predictions were held against a run. "
        f"Median error "
        f"{found['median_error']:.0%} (15 % or less wanted), {found['inside']:.0%} inside their bounds "
        f"(80 % wanted)."
    )
    yield ""
    yield "| what | before | after | change | target | reached? |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for goal in goals:
        if goal.unit == "rate":
            before, after, change, target = (
                f"{goal.before:.0%}",
                f"{goal.after:.0%}",
                "",
                f"{goal.target:.0%}",
            )
        else:
            before, after = (amount(_METRIC[goal.unit], value) for value in (goal.before, goal.after))
            change, target = f"{goal.change:+.0%}", f"{goal.target:+.0%}"
        reached = "yes" if goal.reached else f"no: {goal.note}" if goal.note else "no"
        yield f"| {goal.what} | {before} | {after} | {change} | {target} | {reached} |"
