"""What `taximeter top` shows and how keys change it: no terminal, no clock, no store in here.

Three views, one below the other: all routes, one route's requests, one trace as a waterfall. `Screen.key`
takes a key and says what is wanted; `Screen.lines` gives the text for a size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from taximeter_analysis.model import Bar, Report, Route, Waterfall
from taximeter_analysis.render.tables import shorten
from taximeter_analysis.render.units import (
    UNKNOWN,
    clock,
    compact,
    count,
    money,
    per_request,
    percent,
    plain,
    seconds,
)

HELP = "arrows choose  Enter opens  Esc back  s sorts  / filters  e exports  q quits"
SORTS: tuple[tuple[str, Callable[[Route], float]], ...] = (
    ("time", lambda route: (route.latency.p50 or 0) * route.usage.requests),
    ("requests", lambda route: route.usage.requests),
    ("P95", lambda route: route.latency.p95 or 0),
    ("errors", lambda route: route.usage.errors),
    ("queries", lambda route: route.db_calls_per_request or 0),
    ("cost", lambda route: route.usage.cost_usd or 0),
)
_GROUPS = {"request": ("█", "white"), "db": ("▓", "blue"), "model": ("█", "yellow"), "http": ("▒", "magenta")}
_COLUMNS = ("Requests", "Err", "P50", "P95", "DB/req", "Embed", "$/req", "Cost", "Hits")
_ERRORS = 1  # the column's place
_NOTHING = ("0", "$0", "0%", UNKNOWN)
_WIDTHS = (8, 5, 8, 8, 6, 6, 10, 9, 5)


def _fit(number: float | None, column: int) -> str:
    """A count as it is, or in short where the column is too narrow for it."""
    text = count(number)
    return text if len(text) <= _WIDTHS[column] else compact(number)


@dataclass
class Screen:
    """The state: what is shown, chosen, sorted and filtered."""

    report: Report | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    trace: Waterfall | None = None
    route: Route | None = None
    sort: int = 0
    filter: str = ""
    typing: bool = False
    chosen: int = 0
    message: str = ""

    @property
    def view(self) -> str:
        return "trace" if self.trace else "route" if self.route else "routes"

    def routes(self) -> list[Route]:
        """Those that the filter lets through, in order."""
        found = self.report.routes if self.report else ()
        wanted = self.filter.lower()
        kept = [route for route in found if wanted in f"{route.service} {route.label}".lower()]
        return sorted(kept, key=SORTS[self.sort][1], reverse=True)

    def key(self, key: str) -> str:
        """Take a key; returns what the caller has to do: quit, export, open-route, open-trace, or nothing."""
        self.message = ""
        if self.typing:
            self._type(key)
            return ""
        if key in ("q", "ctrl-c"):
            return "quit"
        if key in ("esc", "left", "backspace"):
            self._back()
        elif key in ("up", "down", "k", "j"):
            step = 1 if key in ("down", "j") else -1
            self.chosen = max(0, min(self.chosen + step, self._rows() - 1))
        elif key == "s":
            self.sort, self.chosen = (self.sort + 1) % len(SORTS), 0
        elif key == "/" and self.view == "routes":
            self.typing, self.filter = True, ""
        elif key == "e":
            return "export"
        elif key in ("enter", "right") and self._rows():
            return self._enter()
        return ""

    def _type(self, key: str) -> None:
        if key in ("enter", "esc"):
            self.typing = False
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key
        self.chosen = 0

    def _enter(self) -> str:
        if self.view == "routes":
            self.route, self.chosen = self.routes()[self.chosen], 0
            return "open-route"
        return "open-trace" if self.view == "route" else ""

    def _back(self) -> None:
        if self.trace:
            self.trace = None
        elif self.route:
            self.route, self.requests = None, []
        else:
            self.filter = ""
        self.chosen = 0

    def _rows(self) -> int:
        return {"routes": len(self.routes()), "route": len(self.requests)}.get(
            self.view, len(self.trace.bars) if self.trace else 0
        )

    def lines(self, width: int, height: int) -> list[Text]:
        """Exactly ``height`` lines of at most ``width`` columns."""
        head = self._head()
        body = {"routes": self._routes, "route": self._requests, "trace": self._bars}[self.view](width)
        room = max(1, height - len(head) - 2)
        top = min(max(0, self.chosen - room + 1), max(0, len(body) - 1 - room)) if len(body) - 1 > room else 0
        shown = [*head, body[0], *body[1 + top : 1 + top + room]]
        shown += [Text()] * (height - 1 - len(shown))
        foot = f"/{self.filter}▏ Enter keeps it" if self.typing else self.message or HELP
        shown = [*shown[: height - 1], Text(foot, style="reverse" if self.typing else "dim")]
        for line in shown:
            line.truncate(width, overflow="ellipsis")
        return shown

    def _head(self) -> list[Text]:
        report = self.report
        if report is None:
            return [
                Text("Taximeter", style="bold yellow"),
                Text("no request yet in the window", style="dim"),
            ]
        services = ", ".join(plain(name) for name in report.services) or "(no service name)"
        usage = report.totals
        rate = f", {per_request(report.requests_per_second)}/s" if report.requests_per_second else ""
        return [
            Text.assemble(
                ("Taximeter", "bold yellow"), f"  {services}  ", (f"{clock(report.window.last)} UTC", "dim")
            ),
            Text(
                f"{count(usage.requests)} requests{rate}, {percent(report.error_rate)} errors, "
                f"P50 {seconds(report.latency.p50)}, P95 {seconds(report.latency.p95)}, "
                f"{money(usage.cost_usd)} ({money(report.projection.monthly_usd)} a month)"
            ),
            self._third(),
        ]

    def _third(self) -> Text:
        """What the colours of a waterfall mean; in the list of routes the filter."""
        if self.trace is None:
            return Text(f"only routes with {self.filter!r}" if self.filter else "", style="bold")
        marks = {"request": "request", "db": "database", "model": "models", "http": "other calls"}
        parts = [part for name, word in marks.items() for part in (_GROUPS[name], (f" {word}  ", "dim"))]
        return Text.assemble(*parts)

    def _row(
        self, width: int, name: Text, cells: Sequence[str], widths: Sequence[int], index: int | None
    ) -> Text:
        kept = list(zip(cells, widths, strict=True))
        while kept and sum(size + 1 for _, size in kept) > width - 20:
            kept.pop()  # a column less is better than half a number
        room = width - sum(size + 1 for _, size in kept)
        line = shorten(name, room)
        line.pad_right(max(0, room - line.cell_len))
        for number, (cell, size) in enumerate(kept):
            failed = number == _ERRORS and widths is _WIDTHS and index is not None and cell != "0"
            line.append(f" {cell:>{size}}", style="bold red" if failed else "dim" if cell in _NOTHING else "")
        if index is not None and index == self.chosen:
            line.stylize("reverse")
        return line

    def _routes(self, width: int) -> list[Text]:
        title = f"Route, by {SORTS[self.sort][0]}"
        lines = [self._row(width, Text(title, style="bold"), _COLUMNS, _WIDTHS, None)]
        for index, route in enumerate(self.routes()):
            usage = route.usage
            cells = (
                _fit(usage.requests, 0), _fit(usage.errors, 1), seconds(route.latency.p50),
                seconds(route.latency.p95),
                per_request(route.db_calls_per_request), _fit(usage.embedding_calls, 5),
                money(route.cost_per_request_usd), money(usage.cost_usd), percent(route.cache_hit_rate),
            )  # fmt: skip
            lines.append(self._row(width, Text(plain(route.label)), cells, _WIDTHS, index))
        return lines

    def _requests(self, width: int) -> list[Text]:
        assert self.route is not None
        widths = (9, 6, 8, 6, 10)
        name = Text(f"{plain(self.route.label)}: its latest requests", style="bold")
        lines = [self._row(width, name, ("Took", "Status", "DB calls", "Models", "Cost"), widths, None)]
        for index, each in enumerate(self.requests):
            cells = (
                seconds(each["duration_s"]), str(each["status"] or UNKNOWN), count(each["db_calls"]),
                count(each["model_calls"]), money(each["cost_usd"]),
            )  # fmt: skip
            when = Text(f"{clock(each['start'], date=False)}  {each['trace_id']}")
            lines.append(self._row(width, when, cells, widths, index))
        return lines

    def _bars(self, width: int) -> list[Text]:
        assert self.trace is not None
        track = max(10, width - 60)
        begin = min(0.0, *(bar.offset_s for bar in self.trace.bars))
        end = max(self.trace.duration_s, *(bar.offset_s + bar.duration_s for bar in self.trace.bars))
        whole = max(end - begin, 1e-9)
        spent = [bar.cost_usd for bar in self.trace.bars if bar.cost_usd is not None]
        title = f"{plain(self.trace.label)}  trace {self.trace.trace_id}"
        title += f"  {money(sum(spent))}" if spent else ""
        lines = [Text(title, style="bold")]
        for index, bar in enumerate(self.trace.bars):
            lines.append(self._bar(bar, index, track, (bar.offset_s - begin) / whole, bar.duration_s / whole))
        return lines

    def _bar(self, bar: Bar, index: int, track: int, at: float, share: float) -> Text:
        words = plain(bar.name) if not bar.detail or bar.detail in bar.name else plain(bar.detail)
        line = Text("  " * min(bar.depth, 6) + words, style="red" if bar.error else "")
        line = shorten(line, 38)
        line.pad_right(max(0, 38 - line.cell_len))
        line.append(
            f" {seconds(bar.duration_s):>8} {money(bar.cost_usd) if bar.cost_usd is not None else '':>10} "
        )
        mark, colour = _GROUPS.get(bar.group, ("░", "bright_black"))
        left = min(track - 1, int(at * track))
        size = max(1, min(track - left, round(share * track)))
        line.append(" " * left)
        line.append(mark * size, style=colour)
        if index == self.chosen:
            line.stylize("reverse", 0, 38)
        return line
