"""Advice on a database for people: on a terminal and as Markdown; as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from taximeter_analysis.advise.database.advice import DatabaseAdvice
from taximeter_analysis.advise.database.functions import VERDICTS
from taximeter_analysis.advise.database.search import Advised
from taximeter_analysis.render import text as markup
from taximeter_analysis.render.units import count, percent, plain, seconds

_SHOWN = 3  # statements with plans, for each index


def as_json(advice: DatabaseAdvice) -> str:
    """One JSON document, ending in a newline."""
    return json.dumps(advice.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def basis(advice: DatabaseAdvice) -> str:
    """What the advice rests on, in one sentence."""
    return (
        f"{advice.database} (PostgreSQL {advice.version}): {count(len(advice.statements))} statements, "
        f"{seconds(advice.total_s)}; {count(len(advice.effects))} judged by {advice.planner}"
    )


def worth(advice: DatabaseAdvice, advised: Advised) -> str:
    """What an index serves, in one sentence."""
    took = sum(each.statement.total_s for each in advised.effects)
    least = min(each.gain for each in advised.effects)
    saved = sum(each.statement.total_s * (1 - 1 / each.gain) for each in advised.effects)
    share = f", {percent(saved / advice.total_s)} of all" if advice.total_s else ""
    return (
        f"{count(len(advised.effects))} statements that took {seconds(took)}; by cost at least "
        f"{least:,.0f} times "
        f"less, so up to {seconds(saved)} saved{share}"
    )


def _sections(advice: DatabaseAdvice) -> Iterator[tuple[str, str, list[str], list[tuple[str, str]]]]:
    """(heading, sentence, SQL, (title, plan)...) of every piece of advice."""
    for each in advice.advised:
        plans = []
        for one in each.effects[:_SHOWN]:
            plans.append(
                (
                    f"{one.gain:,.0f} times less: {plain(one.statement.text, 200)}",
                    _both(one.before.text(), one.after.text()),
                )
            )
        yield f"Create {each.index.name}", worth(advice, each), [f"{each.index.create()};"], plans
    for judged in advice.functions:
        if judged.broken:
            text = f"{VERDICTS[judged.verdict]}: {judged.reason}. {judged.remedy}".rstrip()
            plans = [("as it is planned", judged.plan.text())] if judged.plan else []
            yield f"Mend {judged.name}", text, [judged.rewrite] if judged.rewrite else [], plans
    for idle in advice.idle:
        text = f"{idle.reason}, {idle.bytes / 1e6:,.1f} MB on {idle.schema}.{idle.table}: {idle.detail}"
        yield f"Drop {idle.name}", text, [f"{idle.drop};"], []


def _clean(text: str) -> str:
    """Several lines for a terminal: a function's body may hold anything."""
    return "".join(letter for letter in text if letter == "\n" or letter.isprintable())


def _both(before: str, after: str) -> str:
    return f"before:\n{before}\nafter:\n{after}"


def _rest(advice: DatabaseAdvice) -> Iterator[str]:
    fine = [each for each in advice.functions if not each.broken]
    for judged in fine:
        yield f"{judged.name}: {VERDICTS[judged.verdict]} ({judged.reason})"
    if advice.disagreeing:
        yield (
            f"{count(len(advice.disagreeing))} statements are planned otherwise by the shadow than by "
            f"the server, and "
            f"are left without advice, first: {plain(advice.disagreeing[0].text, 120)}"
        )
    if advice.unread:
        statement, reason = advice.unread[0]
        yield (
            f"{count(len(advice.unread))} statements could not be planned, first: "
            f"{plain(statement.text, 80)} "
            f"({plain(reason, 120)})"
        )
    yield from advice.notes


def print_database(advice: DatabaseAdvice, console: Console, top: int) -> None:
    """The first ``top`` pieces of advice on a rich console."""
    console.print(Text(basis(advice), style="bold"))
    sections = list(_sections(advice))
    for number, (heading, text, sql, plans) in enumerate(sections[:top], 1):
        console.print(Text(f"\n{number}. {plain(heading, 120)}", style="bold"))
        console.print(Text(f"   {plain(text, 600)}"))
        for statement in sql:
            console.print(Text("   " + _clean(statement).replace("\n", "\n   "), style="green"))
        for title, plan in plans:
            console.print(Text(f"   {title}", style="dim"))
            console.print(Text("      " + _clean(plan).replace("\n", "\n      "), style="dim"))
    if len(sections) > top:
        console.print(f"\n{len(sections) - top} more: --top {len(sections)}")
    if not sections:
        console.print("\nNothing found that would pay.")
    for note in _rest(advice):
        console.print(Text(f"\nnote: {plain(note, 400)}", style="dim"))


def as_markdown(advice: DatabaseAdvice) -> str:
    """The whole advice as Markdown."""
    lines = ["# Advice on a database", "", markup.markdown(basis(advice)) + ".", ""]
    lines += [f"- {markup.markdown(plain(note, 400))}" for note in _rest(advice)]
    for number, (heading, text, sql, plans) in enumerate(_sections(advice), 1):
        lines += [
            "",
            f"## {number}. {markup.markdown(plain(heading, 120))}",
            "",
            markup.markdown(plain(text, 600)),
        ]
        for statement in sql:
            lines += ["", *(f"    {line}" for line in _clean(statement).splitlines())]
        for title, plan in plans:
            lines += [
                "",
                markup.markdown(title) + ":",
                "",
                *(f"    {line}" for line in _clean(plan).splitlines()),
            ]
    return "\n".join(lines) + "\n"
