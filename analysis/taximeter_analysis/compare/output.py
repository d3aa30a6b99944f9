"""A comparison for a terminal, as Markdown, or as JSON."""

from __future__ import annotations

import json as _json
from collections.abc import Iterable
from itertools import groupby

from rich.console import Console
from rich.text import Text

from taximeter_analysis.budget.result import show
from taximeter_analysis.compare.model import Comparison, Figure, Subject, Target
from taximeter_analysis.render.tables import Page
from taximeter_analysis.render.text import code, markdown, table
from taximeter_analysis.render.units import UNKNOWN, count, plain

_STYLES = {
    "better": "green", "worse": "bold red", "same": "dim", "not enough data": "yellow",
    "reached": "green", "not reached": "bold red", "not certain": "yellow",
}  # fmt: skip
_ORDER = ("worse", "better", "not enough data", "same")
_COLUMNS = ("Before", "After", "Change", "95 % bounds", "Verdict")
_TARGETS = ("Before", "After", "Target", "Change", "95 % bounds", "Verdict")


def json(found: Comparison) -> str:
    """The comparison as JSON text, ending in a newline."""
    return _json.dumps(found.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def headline(found: Comparison) -> str:
    """The result in one sentence."""
    verdicts: list[str] = [figure.verdict for route in found.routes for figure in route.figures]
    told = ", ".join(f"{verdicts.count(name)} {name}" for name in _ORDER[:2])
    rest = ", ".join(f"{verdicts.count(name)} {name}" for name in ("same", "not enough data"))
    met = sum(target.met == "reached" for target in found.targets)
    return (
        f"{len(found.routes)} routes in both: {told}, {rest}. "
        f"{met} of the plan's {len(found.targets)} targets reached."
    )


def _percent(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:+.1%}" if abs(value) < 0.0995 else f"{value:+.0%}"


def _bounds(low: float | None, high: float | None) -> str:
    return UNKNOWN if low is None and high is None else f"{_percent(low)} to {_percent(high)}"


def _verdict(figure: Figure) -> str:
    if figure.verdict == "not enough data" and figure.needs:
        what = " runs" if figure.counted == "runs" else ""
        return f"not enough data (needs n = {figure.needs:,}{what})"
    return figure.verdict


def _cells(figure: Figure) -> tuple[str, ...]:
    values = show(figure.before, figure.unit), show(figure.after, figure.unit)
    return *values, _percent(figure.change), _bounds(figure.low, figure.high), _verdict(figure)


def _target_cells(target: Target) -> tuple[str, ...]:
    values = show(target.before, target.unit), show(target.after, target.unit)
    if target.absolute:
        bounds = UNKNOWN
        if target.low is not None and target.high is not None:
            bounds = f"{show(target.low, 'share')} to {show(target.high, 'share')}"
        return *values, f"≥ {target.target:.0%}", UNKNOWN, bounds, target.met
    change = target.after / target.before - 1 if target.before and target.after is not None else None
    low_high = _bounds(target.low, target.high)
    return *values, _percent(target.target), _percent(change), low_high, target.met


def _changed(found: Comparison, everything: bool) -> list[tuple[Subject, Figure]]:
    pairs = [(route, figure) for route in found.routes for figure in route.figures]
    if not everything:
        pairs = [pair for pair in pairs if pair[1].verdict in ("worse", "better")]
    return sorted(pairs, key=lambda pair: _ORDER.index(pair[1].verdict))


def _missing(found: Comparison) -> list[str]:
    """Per figure: on how many routes data lack, and how much would do."""
    lacking = sorted(
        (figure for route in found.routes for figure in route.figures if figure.verdict == "not enough data"),
        key=lambda figure: figure.name,
    )
    lines = []
    for name, group in groupby(lacking, key=lambda figure: figure.name):
        figures = list(group)
        needs = sorted(figure.needs for figure in figures if figure.needs)
        bounds = " to ".join(f"{value:,}" for value in sorted({needs[0], needs[-1]})) if needs else ""
        many = f"; needs n = {bounds} {figures[0].counted} a side" if needs else ""
        lines.append(f"{name}: not enough data on {len(figures)} route(s){many}")
    return lines


def _last_column(rows: Iterable[tuple[str, ...]]) -> Iterable[tuple[str | Text, ...]]:
    for row in rows:
        style = next((style for name, style in _STYLES.items() if row[-1].startswith(name)), "")
        yield (*row[:-1], Text(row[-1], style))


def terminal(found: Comparison, console: Console, *, everything: bool = False) -> None:
    """Print headline, success table, totals, and the routes on which something changed."""
    page = Page(console)
    page.line(headline(found), "bold")
    page.paragraph(", ".join(map(plain, found.before)), "before: ")
    page.paragraph(", ".join(map(plain, found.after)), "after:  ")
    page.title("The plan's targets")
    page.table(
        ("", *_TARGETS), _last_column((target.title, *_target_cells(target)) for target in found.targets)
    )
    total = found.total
    page.title("All requests", f"{count(total.requests_before)} before, {count(total.requests_after)} after")
    page.table(("", *_COLUMNS), _last_column((figure.name, *_cells(figure)) for figure in total.figures))
    shown = _changed(found, everything)
    if shown:
        page.title("Routes" if everything else "Routes that changed")
        page.table(
            ("Route", "", *_COLUMNS),
            _last_column((plain(route.label), figure.name, *_cells(figure)) for route, figure in shown),
            left=2,
        )
    for line in [] if everything else _missing(found):
        page.paragraph(line, "  ")
    for label, names in (("only before", found.only_before), ("only after", found.only_after)):
        if names:
            page.paragraph(", ".join(map(plain, names)), f"{label}: ")
    for note in found.notes:
        page.paragraph(f"{note}.", "Note: ")


def summary(found: Comparison) -> str:
    """The comparison as Markdown."""
    lines = [f"### {markdown(headline(found))}", ""]
    lines += table(
        ("Target of the plan", *_TARGETS),
        [tuple(map(markdown, (target.title, *_target_cells(target)))) for target in found.targets],
    )
    lines += ["", f"All requests ({found.total.requests_before:,} → {found.total.requests_after:,})", ""]
    lines += table(
        ("Figure", *_COLUMNS),
        [(code(figure.name), *map(markdown, _cells(figure))) for figure in found.total.figures],
    )
    changed = _changed(found, everything=False)
    if changed:
        rows = [
            (code(route.label), code(figure.name), *map(markdown, _cells(figure)))
            for route, figure in changed
        ]
        lines += ["", *table(("Route", "Figure", *_COLUMNS), rows, left=2)]
    missing = [f"- {markdown(line)}" for line in _missing(found)]
    lines += ["", *missing] if missing else []
    lines += ["", *(f"{markdown(note)}." for note in found.notes)] if found.notes else []
    return "\n".join(lines) + "\n"
