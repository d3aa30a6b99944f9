"""Advice for people: on a terminal, as Markdown, and as JSON for programs.

Savings are told with their bounds, per request where that reads better than a sum; money per 30 days at the
pace that was observed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from taximeter_analysis.advise.advice import Advice
from taximeter_analysis.advise.model import METRICS, Estimate, Finding
from taximeter_analysis.advise.worth import OF_ALL, OF_ROUTE
from taximeter_analysis.render import text as markup
from taximeter_analysis.render.units import compact, count, money, percent, plain, seconds

_TENANTS = 4


def as_json(advice: Advice) -> str:
    """One JSON document, ending in a newline."""
    return json.dumps(advice.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def amount(metric: str, value: float) -> str:
    """A value of a metric with its unit."""
    if metric.endswith("_s"):
        return seconds(value)
    if metric == "cost_usd":
        return money(value)
    return compact(value) if metric == "input_tokens" else count(value)


def _bounds(metric: str, each: Estimate) -> str:
    return f"{amount(metric, each.value)} ({amount(metric, each.low)} to {amount(metric, each.high)})"


def savings(advice: Advice, finding: Finding) -> Iterator[str]:
    """The predicted savings, one text each."""
    for metric, each in finding.savings.items():
        whole = advice.totals.get(metric) or 0.0
        share = f", {percent(each.value / whole)} of all" if whole and metric != "first_byte_s" else ""
        if metric == "cost_usd" and advice.month_factor:
            yield f"{METRICS[metric]}: {_bounds(metric, each.times(advice.month_factor))} per 30 days{share}"
        elif metric.endswith("_s") and finding.requests:
            one = each.times(1 / finding.requests)
            yield f"{METRICS[metric]}: {_bounds(metric, one)} a request{share}"
        else:
            yield f"{METRICS[metric]}: {_bounds(metric, each)}{share}"


def details(advice: Advice, finding: Finding) -> Iterator[tuple[str, str]]:
    """(name, text) of everything that is to be said of a finding below its title."""
    yield "seen", finding.what
    found = list(savings(advice, finding))
    yield ("saves at most" if finding.ceiling else "saves"), "; ".join(found) or "no figure"
    if finding.quantiles:
        both = (
            f"{key.upper()} {seconds(now)} to {seconds(then)}"
            for key, (now, then) in finding.quantiles.items()
        )
        yield "route", ", ".join(both)
    yield "do", finding.remedy
    yield "if", finding.assumption
    for statement in finding.statements[:4]:
        yield "statement", plain(statement, 160)
    if finding.code:
        yield "code", plain(finding.code, 200)
    if len(finding.tenants) > 1:
        top = list(finding.tenants.items())
        shown = ", ".join(f"{plain(name, 40)} {percent(share)}" for name, share in top[:_TENANTS])
        yield "tenants", shown + (f" and {len(top) - _TENANTS} more" if len(top) > _TENANTS else "")
    if finding.traces:
        yield "traces", ", ".join(finding.traces)


def _head(finding: Finding) -> str:
    return finding.title + (f", on {plain(finding.route, 100)}" if finding.route else "")


def _small(advice: Advice) -> Iterator[str]:
    if advice.small:
        kinds = ", ".join(sorted({finding.kind for finding in advice.small}))
        yield (
            f"{count(len(advice.small))} more ({kinds}) are in the JSON alone: each saves less than "
            f"{percent(OF_ALL)} of all time and money, and {percent(OF_ROUTE)} of its route's time and calls"
        )


def _basis(advice: Advice) -> str:
    return (
        f"{count(len(advice.findings))} findings in {count(advice.requests)} requests over "
        f"{seconds(advice.observed_s)}; a saving is what the same traffic would have taken less"
    )


def print_advice(advice: Advice, console: Console, top: int) -> None:
    """The ``top`` findings on a rich console."""
    console.print(Text(_basis(advice), style="bold"))
    for number, finding in enumerate(advice.findings[:top], 1):
        console.print(f"\n[bold]{number}. {escape(_head(finding))}[/bold] [dim]{finding.kind}[/dim]")
        for name, value in details(advice, finding):
            line = Text(f"   {name:<14}", style="dim")
            line.append(value, style="green" if name.startswith("saves") else "default")
            line.no_wrap = False
            console.print(line, soft_wrap=False)
    if len(advice.findings) > top:
        console.print(f"\n{len(advice.findings) - top} more: --top {len(advice.findings)}")
    if not advice.findings:
        console.print("\nNothing found that would pay.")
    for note in (*advice.notes, *_small(advice)):
        console.print(Text(f"\nnote: {note}", style="dim"))


def as_markdown(advice: Advice) -> str:
    """The whole advice as Markdown."""
    lines = ["# Advice", "", markup.markdown(_basis(advice)) + ".", ""]
    lines += [f"- {markup.markdown(note)}" for note in (*advice.notes, *_small(advice))]
    for number, finding in enumerate(advice.findings, 1):
        lines += ["", f"## {number}. {markup.markdown(_head(finding))}", ""]
        for name, value in details(advice, finding):
            shown = markup.code(value) if name in ("statement", "code", "traces") else markup.markdown(value)
            lines.append(f"- **{name}**: {shown}")
    return "\n".join(lines) + "\n"
