"""The reconciliation for a terminal and as JSON."""

from __future__ import annotations

import json as _json

from rich.console import Console
from rich.text import Text

from taximeter_analysis.reconcile.model import FIGURES, Figures, Reconciliation, Row
from taximeter_analysis.render.tables import Page
from taximeter_analysis.render.units import UNKNOWN, count, money, plain

_TITLES = dict(zip(FIGURES, ("Calls", "Tokens in", "cached", "Tokens out", "Money"), strict=True))


def json(found: Reconciliation) -> str:
    """The documented JSON, one trailing newline."""
    return _json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False, default=sorted) + "\n"


def terminal(found: Reconciliation, console: Console, *, everything: bool = False) -> None:
    """Rows that differ (all of them with ``everything``), the reasons, the sums."""
    page = Page(console)
    page.console.print(Text.assemble(("Taximeter", "bold yellow"), "  ", (plain(found.store), "bold")))
    for source in found.sources:
        page.line(f"  {plain(source)}", "dim")
    rows = [row for row in found.rows if everything or not row.agrees]
    agreeing = sum(row.agrees for row in found.rows)
    page.title("By day and model", f"{agreeing} of {len(found.rows)} rows agree within {found.tolerance:.2%}")
    for row in rows:
        _print(row, page)
    page.title("In all")
    for row in found.totals:
        _print(row, page)
    for text in found.findings:
        page.paragraph(f"{plain(text)}.", "  * ")


def _print(row: Row, page: Page) -> None:
    mark = Text("agrees", "green") if row.agrees else Text("differs", "bold red")
    page.console.print(
        Text.assemble(f"  {plain(row.provider)} {row.day} {plain(row.model)}  ", mark), width=page.width
    )
    told = [name for name in FIGURES if getattr(row.provider_says, name) is not None or name in row.differing]
    for name in told:
        ours, theirs = getattr(row.taximeter, name), getattr(row.provider_says, name)
        both = _number(name, row.taximeter), _number(name, row.provider_says)
        line = f"      {_TITLES[name]:<11}{both[0]:>14}  provider {both[1]:>14}"
        if name in row.differing:
            line += f"  {_apart(name, (theirs or 0.0) - (ours or 0.0))}"
        page.line(line, "" if name in row.differing else "dim")
    for reason in row.explanations:
        page.paragraph(f"{plain(reason)}.", "      - ")


def _number(name: str, figures: Figures) -> str:
    value = getattr(figures, name)
    if value is None:
        return UNKNOWN
    return money(value) if name == "cost_usd" else count(value)


def _apart(name: str, gap: float) -> str:
    sign = "+" if gap > 0 else "-"
    return f"{sign}{money(abs(gap)) if name == 'cost_usd' else count(abs(gap))}"
