"""What `taximeter serve` shows: the report, a route, a trace; each from the store as it is now.

The report is made again at most once in a while, and by one request at a time: a page that reloads
itself in three windows costs no more than one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

from taximeter_analysis import traces
from taximeter_analysis.model import Report
from taximeter_analysis.render.page import bars_of, render_page, render_template
from taximeter_analysis.render.units import clock, money, seconds
from taximeter_analysis.report import report
from taximeter_analysis.store import NothingToReport, Store, StoreError, open_store
from taximeter_analysis.window import Filters

T = TypeVar("T")
_ATTEMPTS = 3  # a segment may be dropped under a reader's hands


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: str
    kind: str = "text/html; charset=utf-8"


class Site:
    """One store's pages. ``filters`` is asked anew for every report, so that "the last hour" moves on."""

    def __init__(
        self, store: Path, filters: Callable[[], Filters], *, slow_s: float, top: int, fresh_s: float = 2.0
    ) -> None:
        self._path, self._filters, self._slow_s, self._top = store, filters, slow_s, top
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._stamp, self._made = "", 0.0

    def answer(self, path: str, query: str) -> Answer:
        """The page at a path; 404 for what is not there, 503 while there is nothing to read."""
        try:
            if path == "/stamp":
                return Answer(200, self._now(), "text/plain; charset=utf-8")
            if path == "/":
                found, stamp = self._current()
                return Answer(200, render_page(found, stamp=stamp))
            if path == "/route":
                return self._route(query)
            if path.startswith("/trace/"):
                return self._trace(path.removeprefix("/trace/"))
        except (NothingToReport, StoreError, ValueError) as error:
            return _message(503, "Nothing to show", str(error))
        return _message(404, "No such page", "there are /, /route and /trace/<id>")

    def _now(self) -> str:
        """Changes when the store does: its newest segment, by name and time."""
        newest = max(
            ((file.stat().st_mtime_ns, file.name) for file in self._path.glob("*/*.parquet")), default=(0, "")
        )
        return f"{newest[0]:x}-{newest[1].rpartition('-')[2]}"

    def _current(self) -> tuple[Report, str]:
        with self._lock:
            stamp = self._now()
            young = time.monotonic() - self._made < self._fresh_s
            if self._report is None or (stamp != self._stamp and not young):
                self._report, self._stamp = self._read(self._make), stamp
                self._made = time.monotonic()
            return self._report, self._stamp

    def _make(self, store: Store) -> Report:
        return report(store, self._filters(), slow_s=self._slow_s, top=self._top)

    def _read(self, question: Callable[[Store], T]) -> T:
        for attempt in range(_ATTEMPTS):
            try:
                with open_store(self._path) as store:
                    return question(store)
            except NothingToReport:
                raise
            except StoreError:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _route(self, query: str) -> Answer:
        asked = {name: values[0] for name, values in parse_qs(query, max_num_fields=8).items()}
        key = (asked.get("service"), asked.get("method"), asked.get("route"))
        order = asked.get("order", "slowest")
        found, stamp = self._current()
        item = next((each for each in found.routes if (each.service, each.method, each.route) == key), None)
        if item is None or order not in ("slowest", "latest", "costliest"):
            return _message(404, "No such route", "the report has no such route in its window")

        def question(store: Store) -> list[dict[str, Any]]:
            from taximeter_analysis.selection import choose  # noqa: PLC0415  (keeps the page quick to load)

            choose(store, self._filters())
            return traces.requests_of(store, key, order)

        repeated = [
            each for each in found.repeated.shown if (each.service, each.label) == (item.service, item.label)
        ]
        page = render_template(
            "detail.html", stamp, title=item.label, subtitle=item.service or "(no service name)", item=item,
            repeated=repeated, requests=self._read(question), order=order, waterfall=None,
        )  # fmt: skip
        return Answer(200, page)

    def _trace(self, text: str) -> Answer:
        wanted = traces.parse_trace(text)
        found = self._read(lambda store: traces.waterfall(store, *wanted)) if wanted else None
        if found is None:
            return _message(404, "No such trace", f"the store has no span of trace {text[:40]!r}")
        spent = [bar.cost_usd for bar in found.bars if bar.cost_usd is not None]
        cost = f", {money(sum(spent))}" if spent else ""
        subtitle = f"trace {found.trace_id}, {seconds(found.duration_s)}{cost}"
        page = render_template(
            "detail.html", "", title=found.label, subtitle=subtitle, item=None, repeated=(), requests=(),
            order="", waterfall=bars_of(found),
        )  # fmt: skip
        return Answer(200, page)


def _message(status: int, title: str, text: str) -> Answer:
    page = render_template(
        "detail.html", "", title=title, subtitle=f"{text} ({clock(time.time())} UTC)", item=None, repeated=(),
        requests=(), order="", waterfall=None,
    )  # fmt: skip
    return Answer(status, page)
