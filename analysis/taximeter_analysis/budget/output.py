"""The outcome of a check for a terminal, a pull request (Markdown), a CI server (JUnit) or as JSON."""

from __future__ import annotations

import json as _json
from xml.etree import ElementTree

from rich.console import Console
from rich.text import Text

from taximeter_analysis.budget.result import Line, Outcome, show, show_limit, worst_first
from taximeter_analysis.render.tables import Page
from taximeter_analysis.render.text import code, markdown, table, xml
from taximeter_analysis.render.units import UNKNOWN, plain

_WORDS = {"pass": "ok", "fail": "BROKEN", "no_data": "no data", "skipped": "skipped"}
_STYLES = {"pass": "green", "fail": "bold red", "no_data": "yellow", "skipped": "dim"}
COLUMNS = ("Limit", "Measured", "Allowed", "Bounds", "n")


def json(outcome: Outcome) -> str:
    """The outcome as JSON text, ending in a newline."""
    return _json.dumps(outcome.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _bounds(line: Line) -> str:
    """Bounds of the measured value, or of its ratio to the baseline."""
    if line.low is None and line.high is None:
        return UNKNOWN

    def one(value: float | None) -> str:
        if line.relative:
            return UNKNOWN if value is None else f"{value - 1:+.0%}"
        return show(value, line.unit)

    return f"{one(line.low)} to {one(line.high)}"


def _cells(line: Line) -> tuple[str, str, str, str, str]:
    return line.name, show(line.measured, line.unit), show_limit(line), _bounds(line), f"{line.count:,}"


def terminal(outcome: Outcome, console: Console, *, everything: bool = False) -> None:
    """Print the verdict, what is broken or unknown, and on demand what holds."""
    page = Page(console)
    page.line(outcome.headline, _STYLES[outcome.state])
    shown = [line for line in worst_first(outcome.lines) if everything or line.state != "pass" or line.reason]
    if shown:
        page.table(
            ("", "Route", *COLUMNS),
            (
                (Text(_WORDS[line.state], _STYLES[line.state]), Text(plain(line.subject)), *_cells(line))
                for line in shown
            ),
            left=3,
            flex=1,
        )
    for line in shown:
        if line.reason:
            page.paragraph(f"{plain(line.subject)}, {line.name}: {plain(line.reason)} [{line.place}]", "  ")
    for note in outcome.notes:
        page.paragraph(note, "Note: ")
    if not everything and len(shown) < len(outcome.lines):
        page.line(
            f"{len(outcome.lines) - len(shown)} limits hold and are not listed (--all lists them)", "dim"
        )


def summary(outcome: Outcome) -> str:
    """A Markdown summary for a pull request: the verdict first, what holds folded away."""
    icon = {"pass": "✅", "fail": "❌", "no_data": "⚠️"}[outcome.state]
    lines = [f"### {icon} {markdown(outcome.headline)}", ""]
    for state, title in (("fail", "Broken"), ("no_data", "Not enough data"), ("pass", "Kept")):
        chosen = [line for line in outcome.lines if line.state == state]
        if not chosen:
            continue
        rows = [
            (code(line.subject), *map(markdown, _cells(line)), markdown(line.reason or "")) for line in chosen
        ]
        body = table(("Route", *COLUMNS, "Why"), rows, left=2)
        if state == "fail":
            lines += [*body, ""]
        else:
            head = f"<details><summary>{title}: {len(chosen)}</summary>"
            lines += [head, "", *body, "", "</details>", ""]
    against = f" against {code(outcome.baseline)}" if outcome.baseline else ""
    lines += [f"{code(outcome.source)}{against}, limits from {code(outcome.budget)}.", *_notes(outcome)]
    lines += [
        "Latency, error rate and hit rate allow for chance: an unchanged build fails at most 5 times in 100."
    ]
    return "\n".join(lines) + "\n"


def _notes(outcome: Outcome) -> list[str]:
    return [f"{markdown(note)}." for note in outcome.notes]


def junit(outcome: Outcome) -> str:
    """JUnit XML: one test case a limit; what lacks data is an error, so that no CI server shows it green."""
    counts = {state: len(outcome.of(state)) for state in ("fail", "no_data", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        name="taximeter budget",
        tests=str(len(outcome.lines)),
        failures=str(counts["fail"]),
        errors=str(counts["no_data"]),
        skipped=str(counts["skipped"]),
    )
    for line in outcome.lines:
        case = ElementTree.SubElement(suite, "testcase", classname=xml(line.subject), name=line.place)
        measured = f"{line.name}: {show(line.measured, line.unit)}, allowed {show_limit(line)}"
        if line.state == "pass":
            continue
        tag = {"fail": "failure", "no_data": "error", "skipped": "skipped"}[line.state]
        ElementTree.SubElement(case, tag, message=xml(f"{measured}; {line.reason}"))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
