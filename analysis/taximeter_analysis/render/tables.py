"""The report in a terminal: tables that fit 100 columns, each line one row.

Long routes and statements are shortened in the middle or at the end, never wrapped. Colour comes
from the console, which honours NO_COLOR and pipes; nothing is said by colour alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taximeter_analysis.highlights import highlights
from taximeter_analysis.model import Quantiles, Ranked, Report, Route, Split, Usage, bounds_of
from taximeter_analysis.readers.place import is_place
from taximeter_analysis.render.units import (
    UNKNOWN,
    between,
    clock,
    compact,
    count,
    money,
    per_request,
    percent,
    plain,
    seconds,
)
from taximeter_analysis.render.units import (
    limit as threshold,
)

WIDTH = 100
_QUANTILES = (("P50", 0.5), ("P95", 0.95), ("P99", 0.99))
_GAP = 2  # the box draws one blank of it
_COMFORT = 26  # columns a route wants
_TENANTS = 20  # of them a screen shows


def print_report(report: Report, console: Console) -> None:
    """Print the whole report on this console, at most 100 columns wide unless routes need more."""
    page = Page(console)
    _head(report, page)
    if report.routes:
        _routes(report, page)
    _slow(report, page)
    _repeated(report, page)
    _money(report, page)
    _totals(report, page)
    for note in report.notes:
        page.paragraph(f"{note}.", "Note: ")


class Page:
    """Prints titles and tables at one width."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.width = min(console.width, 140)

    def title(self, text: str, aside: str = "") -> None:
        title = Text("\n" + text, style="bold")
        if aside:
            title.append(f"  {aside}", style="not bold dim")
        self.console.print(title, width=self.width)

    def line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), width=self.width)

    def paragraph(self, text: str, lead: str = "") -> None:
        """Text after ``lead``, its further lines hanging under its first."""
        for line in textwrap.wrap(text, self.width, initial_indent=lead, subsequent_indent=" " * len(lead)):
            self.line(line)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        left: int = 1,
        flex: int = 0,
        spare: Sequence[str] = (),
    ) -> None:
        """A table whose first ``left`` columns are text; column ``flex`` gives way when it is too wide.

        ``spare`` names the columns to leave out, in this order, where even that makes no room: a column
        less, and named below, is better than half a number.
        """
        body = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
        columns, body, left_out = self._fit(list(columns), body, flex, spare)
        widths = [
            max(len(name), *(cell.cell_len for cell in column)) if body else len(name)
            for name, column in zip(columns, zip(*body, strict=True) if body else columns, strict=True)
        ]
        room = self.width - sum(widths) - _GAP * (len(columns) - 1) + widths[flex]
        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, _GAP - 1, 0, 0),
            header_style="dim",
        )
        for index, name in enumerate(columns):
            table.add_column(
                name, justify="left" if index < left else "right", no_wrap=True, overflow="ellipsis"
            )
        for row in body:
            row[flex] = shorten(row[flex], max(room, 12))
            table.add_row(*row)
        self.console.print(table, width=max(self.width, 60))
        if left_out:
            self.paragraph(f"in a wider terminal also: {', '.join(left_out)}", "  ")

    def _fit(
        self, columns: list[str], body: list[list[Text]], flex: int, spare: Sequence[str]
    ) -> tuple[list[str], list[list[Text]], list[str]]:
        widths = {
            name: max(len(name), *(row[index].cell_len for row in body), 0)
            for index, name in enumerate(columns)
        }
        left_out: list[str] = []
        for name in spare:
            fixed = [width for other, width in widths.items() if other != columns[flex]]
            wanted = min(_COMFORT, widths[columns[flex]])
            if sum(fixed) + wanted + _GAP * len(fixed) <= self.width:
                break
            del widths[name]
            left_out.append(name)
        kept = [index for index, name in enumerate(columns) if name in widths]
        return [columns[index] for index in kept], [[row[index] for index in kept] for row in body], left_out


def shorten(text: Text, width: int) -> Text:
    """The text in at most ``width`` columns, its middle left out: a route's end tells most."""
    if text.cell_len <= width:
        return text
    head = (width - 1) // 2
    return Text.assemble(text[:head], "…", text[len(text) - (width - 1 - head) :])


def _number(text: str, style: str = "") -> Text:
    return Text(text, style="dim" if text in ("0", "$0", "0%", UNKNOWN) else style)


def _error(errors: int) -> Text:
    return _number(count(errors), "bold red")


def _weak(quantiles: Quantiles, which: str) -> Text:
    value: float | None = getattr(quantiles, which)
    weak = which != "p50" and bool(getattr(quantiles, f"{which}_weak"))
    return _number(f"{'~' if weak and value is not None else ''}{seconds(value)}")


def _label(report: Report, route: Route) -> Text:
    text = plain(route.label)
    return Text(f"{plain(route.service)} {text}" if len(report.services) > 1 else text)


def _head(report: Report, page: Page) -> None:
    services = ", ".join(plain(name) for name in report.services) or "(no service name)"
    page.console.print(
        Text.assemble(("Taximeter", "bold yellow"), "  ", (services, "bold")), width=page.width
    )
    window = report.window
    text = f"{clock(window.first)} to {clock(window.last)} UTC, {seconds(window.observed_s)} observed"
    if report.tenant_filter is not None:
        text += f", tenant {plain(report.tenant_filter)} only"
    page.line(text, "dim")
    if report.totals.requests:
        page.line(
            f"{count(report.totals.requests)} requests"
            + (f" ({per_request(report.requests_per_second)}/s)" if report.requests_per_second else "")
            + f", {count(report.totals.errors)} errors ({percent(report.error_rate)}), "
            f"P50 {seconds(report.latency.p50)}, P95 {seconds(report.latency.p95)}, "
            f"P99 {seconds(report.latency.p99)}"
        )
        bounds = [(name, bounds_of(report.latency, report.ranked, q)) for name, q in _QUANTILES]
        if known := [f"{name} {between(*found)}" for name, found in bounds if found is not None]:
            page.line(
                f"{'in the bucket' if report.latency.within else '95 % sure'}: {', '.join(known)}", "dim"
            )
    found = highlights(report)
    if found:
        page.title("What stands out")
    for highlight in found:
        page.paragraph(f"{plain(highlight.subject)} {highlight.text}", "  * ")


def _sure(latency: Quantiles, ranked: tuple[Ranked, ...]) -> Text:
    found = bounds_of(latency, ranked, 0.95)
    return _number(UNKNOWN if found is None else between(*found))


def _routes(report: Report, page: Page) -> None:
    weak = any(route.latency.p95_weak or route.latency.p99_weak for route in report.routes)
    page.title("Routes: time", "~ weak: P95 from under 59 requests, P99 from under 299" if weak else "")
    sure = "P95 within" if report.latency.within else "95 % sure"
    page.table(
        ("Route", "Requests", "Errors", "P50", "P95", sure, "P99", "DB/req", "DB time"),
        (
            (
                _label(report, route),
                count(route.usage.requests),
                _error(route.usage.errors),
                _weak(route.latency, "p50"),
                _weak(route.latency, "p95"),
                _sure(route.latency, route.ranked),
                _weak(route.latency, "p99"),
                _number(per_request(route.db_calls_per_request)),
                _number(percent(route.db_time_share)),
            )
            for route in report.routes
        ),
        spare=("DB time", "Errors", "P99"),
    )
    spending = [route for route in report.routes if _spends(route)]
    if not spending:
        return
    page.title("Routes: models and money", "calls and tokens in all; routes without any are left out")
    page.table(
        ("Route", "Models", "Embed", "Tok in", "Tok out", "$/request", "Cost", "Cache", "1st byte", "Stream"),
        (
            (
                _label(report, route),
                _number(count(route.usage.model_calls)),
                _number(count(route.usage.embedding_calls)),
                _number(compact(route.usage.input_tokens)),
                _number(compact(route.usage.output_tokens)),
                _number(money(route.cost_per_request_usd)),
                _number(money(route.usage.cost_usd)),
                _number(percent(route.cache_hit_rate)),
                _number(seconds(route.first_byte.p50)),
                _number(percent(route.streamed_share)),
            )
            for route in spending
        ),
        spare=("Tok out", "Models", "Tok in", "Cache", "Stream", "1st byte"),
    )
    _caches(report, page)


def _caches(report: Report, page: Page) -> None:
    if not report.caches:
        return
    page.title("Caches", "hit rate over all routes")
    page.table(
        ("Cache", "Look-ups", "Hits", "Hit rate"),
        (
            (
                Text("(not named)" if item.name is None else plain(item.name)),
                count(item.lookups),
                count(item.hits),
                percent(item.hit_rate),
            )
            for item in report.caches
        ),
    )


def _spends(route: Route) -> bool:
    usage = route.usage
    return bool(usage.model_calls or usage.embedding_calls or usage.cost_usd or usage.cache_lookups)


def _split_cells(split: Split | None) -> list[Text]:
    if split is None:
        return [Text(UNKNOWN)] * 4
    return [_number(seconds(part)) for part in (split.db_s, split.model_s, split.http_s, split.other_s)]


def _slow(report: Report, page: Page) -> None:
    slow, limit = report.slow, threshold(report.slow.threshold_s)
    if not slow.requests:
        page.title("Slow requests", f"none took {limit} or longer")
    else:
        page.title("Slow requests", _shown(len(slow.requests), slow.requests_total, f"at {limit} or longer"))
        page.table(
            ("Route", "Trace", "Status", "Took", "Database", "Models", "Calls", "Own"),
            (
                (
                    Text(plain(item.label)),
                    item.trace_id,
                    Text(str(item.status or UNKNOWN), "bold red" if item.error else ""),
                    seconds(item.duration_s),
                    *_split_cells(item.split),
                )
                for item in slow.requests
            ),
            left=2,
            spare=("Status", "Own", "Calls", "Models", "Database"),
        )
        if not is_place(report.store):
            page.line("  taximeter serve shows each as a waterfall, at /trace/<its id>", "dim")
    if not slow.queries:
        page.title("Slow queries", f"none took {limit} or longer")
        return
    page.title("Slow queries", _shown(len(slow.queries), slow.queries_total, f"at {limit} or longer"))
    page.table(
        ("Statement", "Trace", "Took"),
        ((Text(plain(item.statement)), item.trace_id, seconds(item.duration_s)) for item in slow.queries),
        left=2,
    )


def _shown(shown: int, total: int, what: str) -> str:
    return f"{count(total)} {what}" + (f", the {shown} longest" if shown < total else "")


def _repeated(report: Report, page: Page) -> None:
    found = report.repeated
    what = f"one statement sent {found.min_repeats} times or more in a request"
    if not found.shown:
        page.title("N+1", f"none: no {what[4:]}")
        return
    page.title("Worst N+1", _shown(len(found.shown), found.total, f"found: {what}"))
    for item in found.shown:
        page.paragraph(
            f"{plain(item.label)}: {per_request(item.repeats_median)} times per request (at most "
            f"{count(item.repeats_max)}), {seconds(item.time_per_request_s)} of each request, "
            f"{count(item.requests)} requests",
            "  ",
        )
        statement = Text(plain(item.statement), style="dim")
        statement.truncate(page.width - 4, overflow="ellipsis")
        page.console.print(Text("    ") + statement, width=page.width, no_wrap=True)
        page.line(f"    trace {item.trace_id}", "dim")


def _money(report: Report, page: Page) -> None:
    whole = report.totals.cost_usd
    if any(item.tenant is not None for item in report.tenants):
        page.title("Cost by tenant")
        page.table(
            ("Tenant", "Requests", "Models", "Embed", "Tokens", "Cost", "Share", "$/request"),
            (
                (Text("(none)" if item.tenant is None else plain(item.tenant)), *_spent(item.usage, whole))
                for item in report.tenants[:_TENANTS]
            ),
        )
        if rest := report.tenants[_TENANTS:]:
            spent = sum(item.usage.cost_usd or 0.0 for item in rest)
            share = percent(spent / whole if whole else None)
            page.line(
                f"  {count(len(rest))} more with {money(spent)} together ({share}): in --csv, --html, --json",
                "dim",
            )
    if report.models:
        page.title("Cost by model")
        page.table(
            ("Model", "Operation", "Calls", "Errors", "Tok in", "cached", "Tok out", "P50", "P95", "Cost"),
            (
                (
                    Text(plain(item.model)),
                    plain(item.operation),
                    count(item.calls),
                    _error(item.errors),
                    compact(item.input_tokens),
                    _number(compact(item.cached_tokens)),
                    _number(compact(item.output_tokens)),
                    _weak(item.latency, "p50"),
                    _weak(item.latency, "p95"),
                    _number(money(item.cost_usd)),
                )
                for item in report.models
            ),
            left=2,
            spare=("Errors", "cached", "P50", "Operation"),
        )


def _spent(usage: Usage, whole: float | None) -> tuple[Text, ...]:
    tokens = None if usage.input_tokens is None else usage.input_tokens + (usage.output_tokens or 0)
    share = usage.cost_usd / whole if whole and usage.cost_usd is not None else None
    each = None if usage.cost_usd is None else usage.cost_usd / usage.requests
    return (
        _number(count(usage.requests)),
        _number(count(usage.model_calls)),
        _number(count(usage.embedding_calls)),
        _number(compact(tokens)),
        _number(money(usage.cost_usd)),
        _number(percent(share)),
        _number(money(each)),
    )


def _totals(report: Report, page: Page) -> None:
    usage = report.totals
    retries = None
    if usage.model_attempts is not None:
        retries = usage.model_attempts - (usage.model_calls or 0) - (usage.embedding_calls or 0)
    page.title("Totals")
    outside = report.totals_from_spans
    rows = [
        ("Requests, errors", f"{count(usage.requests)}, {count(usage.errors)}"),
        ("Database calls", count(usage.db_calls)),
        ("Model calls", f"{count(usage.model_calls)}, embedding calls {count(usage.embedding_calls)}"),
        (
            "Embedded texts",
            f"{count(usage.embedding_inputs)}, asked for before {count(usage.embedding_duplicates)}",
        ),
        ("Attempts", f"{count(usage.model_attempts)} ({count(retries)} retries)"),
        (
            "Tokens",
            f"{count(usage.input_tokens)} in ({count(usage.cached_tokens)} of them cached), "
            f"{count(usage.output_tokens)} out",
        ),
        ("AI cost", money(usage.cost_usd)),
        ("Projected per month", money(report.projection.monthly_usd)),
    ]
    if outside.outside_db_calls or outside.outside_model_calls or outside.outside_embedding_calls:
        rows.append(
            (
                "Outside of requests",
                f"{count(outside.outside_db_calls)} database, {count(outside.outside_model_calls)} model, "
                f"{count(outside.outside_embedding_calls)} embedding calls, "
                f"{money(outside.outside_cost_usd)}",
            )
        )
    for name, value in rows:
        page.line(f"  {name:<22}{value}")
    reasons = [report.projection.reason] if report.projection.reason else list(report.projection.caveats)
    for reason in reasons:
        page.paragraph(reason, " " * 24)
