"""A discovery for people: on a terminal, as Markdown in the plan's own shape, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taximeter_analysis.discover.model import KINDS, TITLES, TRACED, Discovery, Kind, Sighting, SourceFile
from taximeter_analysis.render import text as markup
from taximeter_analysis.render.units import count, plain

_HEADS: dict[Kind, str] = {
    "route": "routes", "database": "database", "embedding": "embed", "model": "model", "cache": "cache",
    "parallel": "parallel", "sequential": "in turn", "todo": "TODO",
}  # fmt: skip
#: The plan's own names for the lines of its overview.
_PLAN: dict[Kind, tuple[str, str, str]] = {
    "route": ("API Routes:", "endpoint", "endpoints"),
    "database": ("Database Queries:", "direct query", "direct queries"),
    "embedding": ("Embedding Calls:", "call", "calls"),
    "model": ("Model Calls:", "call", "calls"),
    "cache": ("Cache Usage:", "cache-related line", "cache-related lines"),
    "parallel": ("Parallel Execution:", "await of several at once", "awaits of several at once"),
    "sequential": ("Sequential Awaits:", "place that may be parallel", "places that may be parallel"),
    "todo": ("TODO Comments:", "performance-related", "performance-related"),
}


def as_json(found: Discovery) -> str:
    """One JSON document, ending in a newline."""
    return json.dumps(found.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def head(found: Discovery) -> str:
    """What was read, in one line."""
    line = f"{plain(found.root, 200)}: {count(found.read)} files read"
    if found.unread:
        line += f", {count(len(found.unread))} not read"
    if found.tests_left_out:
        line += f", {count(found.tests_left_out)} of tests left out"
    return line


def totals(found: Discovery) -> Iterator[tuple[Kind, int, str]]:
    """(kind, how many, its name in singular or plural) in the plan's order."""
    for kind in KINDS:
        number = int(getattr(found.counts, kind))
        yield kind, number, TITLES[kind][number != 1]


def never_seen(found: Discovery) -> list[tuple[SourceFile, Sighting]]:
    """Routes and calls that traces have never seen."""
    return [(file, each) for file, each in found.each(*TRACED) if each.seen == "never"]


def print_discovery(found: Discovery, console: Console, *, top: int, details: bool) -> None:
    """Totals, the files with most in them, what traces have never seen; with ``details`` each place."""
    console.print(f"[bold]{escape(head(found))}[/bold]\n", highlight=False)
    for _, number, title in totals(found):
        console.print(f"{count(number):>8}  {title}")
    if found.files:
        console.print()
        console.print(_table(found.files[:top], found))
        if len(found.files) > top:
            console.print(f"{len(found.files) - top} more files: --top {len(found.files)}")
    if details:
        for file in found.files[:top]:
            console.print(f"\n[bold]{escape(plain(file.path, 200))}[/bold]")
            for each in file.sightings:
                seen = {"never": "  never seen", "yes": "  seen"}.get(each.seen or "", "")
                console.print(f"  {each.line:>5}  {each.kind:<10}  {escape(_what(each))}[dim]{seen}[/dim]")
    if found.traced:
        _print_seen(found, console, top)
    for unread in found.unread[:top]:
        line = f"not read: {plain(unread.path, 200)}: {unread.reason} ({plain(unread.detail, 120)})"
        console.print(f"[dim]{escape(line)}[/dim]")
    for note in found.notes:
        console.print(f"[dim]note: {escape(plain(note))}[/dim]")


def _print_seen(found: Discovery, console: Console, top: int) -> None:
    assert found.traced is not None
    console.print(
        f"\n[bold]never seen[/bold] in {count(found.traced.requests)} requests "
        f"of {count(found.traced.routes)} routes"
    )
    missing = never_seen(found)
    for file, each in missing[:top]:
        console.print(
            f"  {each.kind:<10} {escape(_what(each))}  [dim]{escape(plain(file.path, 120))}:{each.line}[/dim]"
        )
    if len(missing) > top:
        console.print(f"  {len(missing) - top} more: --top {len(missing)}")
    if not missing:
        console.print("  nothing: each route and call of which that can be said was seen")


def _what(each: Sighting) -> str:
    name = f" {each.name}" if each.name and each.kind in ("database", "model", "embedding") else ""
    return plain(each.what + name, 160)


def _table(files: Sequence[SourceFile], found: Discovery) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("file", overflow="fold", ratio=1)
    shown = [kind for kind in KINDS if getattr(found.counts, kind)]
    for kind in shown:
        table.add_column(_HEADS[kind], justify="right")
    for file in files:
        counts = file.counts()
        table.add_row(escape(plain(file.path, 200)), *(str(counts[kind] or "") for kind in shown))
    return table


def as_markdown(found: Discovery) -> str:
    """The plan's "Discovery Phase - Current Analysis", filled in."""
    lines = ["## Discovery Phase - Current Analysis", "", markup.markdown(head(found)) + ".", ""]
    lines += ["### Infrastructure Overview", "", "```"]
    for kind, number, _ in totals(found):
        title, one, many = _PLAN[kind]
        lines.append(f"{title:<21}{count(number)} {one if number == 1 else many}")
    lines += ["```", "", "### Known Performance Issues", ""]
    issues = [
        f"{markup.code(each.what)} ({markup.code(f'{file.path}:{each.line}')})"
        for kind in ("todo", "sequential")
        for file, each in found.each(kind)
    ]
    lines += [f"{number}. {issue}" for number, issue in enumerate(issues, 1)] or [
        "None in the code's comments."
    ]
    lines += ["", "### Architecture Strengths", ""]
    lines += [f"- {each}" for each in _strengths(found)] or ["- None that the code shows."]
    lines += ["", "### Files", ""]
    lines += markup.table(
        ["file", *(_HEADS[kind] for kind in KINDS)],
        (
            [markup.code(file.path), *(str(file.counts()[kind] or "") for kind in KINDS)]
            for file in found.files
        ),
    )
    if found.traced:
        lines += ["", "### Never Seen by Traces", ""]
        lines.append(
            f"{count(found.traced.requests)} requests of {count(found.traced.routes)} routes, "
            f"in {markup.code(found.traced.store)}."
        )
        lines.append("")
        lines += [
            f"- {each.kind} {markup.code(_what(each))} ({markup.code(f'{file.path}:{each.line}')})"
            for file, each in never_seen(found)
        ] or ["Nothing."]
    lines += [""] * bool(found.unread or found.notes)
    lines += [f"- not read: {markup.code(each.path)}: {each.reason}" for each in found.unread]
    lines += [f"- {markup.markdown(note)}" for note in found.notes]
    return "\n".join(lines) + "\n"


def _strengths(found: Discovery) -> Iterator[str]:
    for kind, text in (
        ("cache", "caches are named in {0} files"),
        ("parallel", "several awaits at once in {0} files"),
    ):
        files = {file.path for file, each in found.each(kind)}  # type: ignore[arg-type]
        if files:
            yield text.format(count(len(files)))
