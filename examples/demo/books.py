"""The books: what Taximeter says against what the ledgers counted, row by row.

Counts must be equal; money within a relative 1e-9 (both sides add doubles or decimals in another
order). The latency page pairs every request by trace id: the server's duration lies inside the
client's, so it can never be the longer one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.demo.ledgers import Figures, GuestRequest
from taximeter_analysis.render.units import seconds

MONEY_TOLERANCE = 1e-9
_COUNTS = {
    "requests": "requests",
    "errors": "errors (5xx)",
    "db_calls": "database calls",
    "model_calls": "model calls",
    "embedding_calls": "embedding calls",
    "attempts": "attempts (HTTP)",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "cached_tokens": "cached tokens",
}
_MAPS = {
    "requests_by_route": ("requests by route", 0.0),
    "cost_by_route": ("money by route", MONEY_TOLERANCE),
    "tokens_by_route": ("tokens by route", 0.0),
    "cost_by_hotel": ("money by hotel", MONEY_TOLERANCE),
}


@dataclass(frozen=True)
class Row:
    """One line of the books. ``where`` names the worst key of a line that sums up many."""

    what: str
    source: str
    taximeter: float
    ledger: float
    balanced: bool
    money: bool = False
    where: str = ""

    @property
    def difference(self) -> float:
        return self.taximeter - self.ledger

    def to_dict(self) -> dict[str, str | float | bool]:
        """For ``report.json``."""
        return {**asdict(self), "difference": self.difference}

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f"{self.what}{place}, {self.source}: Taximeter {self.taximeter!r}, ledger {self.ledger!r}"


@dataclass(frozen=True)
class RouteLatency:
    """One route's latency on both sides, in seconds. ``longer``: the server outlasted the client."""

    route: str
    paired: int
    server_p50: float
    server_p95: float
    client_p50: float
    client_p95: float
    longer: int


def compare(source: str, taximeter: Figures, ledger: Figures) -> list[Row]:
    """The rows for one source of Taximeter's figures (``store`` or ``metrics``)."""
    rows = []
    for name, title in _COUNTS.items():
        ours, theirs = getattr(taximeter, name), getattr(ledger, name)
        rows.append(Row(title, source, ours, theirs, ours == theirs))
    ours, theirs = taximeter.cost_usd, ledger.cost_usd
    rows.append(Row("money (USD)", source, ours, theirs, _close(ours, theirs, MONEY_TOLERANCE), money=True))
    for name, (title, tolerance) in _MAPS.items():
        rows.append(_worst(title, source, getattr(taximeter, name), getattr(ledger, name), tolerance))
    return rows


def _worst(
    title: str, source: str, ours: Mapping[str, float], theirs: Mapping[str, float], tolerance: float
) -> Row:
    # One row for a whole map: the sums if every key agrees, else the key that is furthest off.
    keys = [
        key
        for key in ours.keys() | theirs.keys()
        if not _close(ours.get(key, 0.0), theirs.get(key, 0.0), tolerance)
    ]
    money = tolerance > 0
    if not keys:
        title = f"{title} ({len(theirs)})"
        return Row(title, source, math.fsum(ours.values()), math.fsum(theirs.values()), True, money)
    key = max(keys, key=lambda key: abs(ours.get(key, 0.0) - theirs.get(key, 0.0)))
    return Row(title, source, ours.get(key, 0.0), theirs.get(key, 0.0), False, money, where=key or "(none)")


def _close(ours: float, theirs: float, tolerance: float) -> bool:
    return ours == theirs or math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=0.0)


def latency(guests: Iterable[GuestRequest], server_ns: Mapping[str, int]) -> list[RouteLatency]:
    """Pair client and server by trace id. ``server_ns``: trace id (hex) -> server duration."""
    routes: dict[str, list[tuple[int, int]]] = {}
    for guest in guests:
        if guest.trace_id in server_ns:
            pair = (server_ns[guest.trace_id], guest.duration_ns)
            routes.setdefault(f"{guest.method} {guest.route or '(no route)'}", []).append(pair)
    rows = []
    for route, pairs in sorted(routes.items()):
        server, client = sorted(s for s, _ in pairs), sorted(c for _, c in pairs)
        rows.append(
            RouteLatency(
                route=route,
                paired=len(pairs),
                server_p50=quantile(server, 0.5) / 1e9,
                server_p95=quantile(server, 0.95) / 1e9,
                client_p50=quantile(client, 0.5) / 1e9,
                client_p95=quantile(client, 0.95) / 1e9,
                longer=sum(s > c for s, c in pairs),
            )
        )
    return rows


def latency_row(rows: Sequence[RouteLatency], reached: int) -> list[Row]:
    """The two lines that latency adds to the books."""
    paired = sum(row.paired for row in rows)
    longer = sum(row.longer for row in rows)
    return [
        Row("requests paired by trace id", "store", paired, reached, paired == reached),
        Row("server longer than client", "store", longer, 0, longer == 0),
    ]


def quantile(ordered: Sequence[int], q: float) -> int:
    """The smallest value with at least ``q`` of the sorted values at or below it."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def print_books(console: Console, rows: Sequence[Row]) -> None:
    """The table *what | source | Taximeter | ledger | difference*."""
    table = Table(title="The books", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("what", no_wrap=True)
    table.add_column("from")
    for name in ("Taximeter", "ledger", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        style = None if row.balanced else "bold red"
        title = row.what + (f" [{row.where}]" if row.where else "")
        # The last bits of a sum of doubles are shown for what they are.
        apart = (
            f"{row.difference:.0e}" if row.balanced and row.difference else _number(row.difference, row.money)
        )
        table.add_row(
            Text(title),
            row.source,
            _number(row.taximeter, row.money),
            _number(row.ledger, row.money),
            apart,
            style=style,
        )
    console.print(table)


def print_latency(console: Console, rows: Sequence[RouteLatency]) -> None:
    """Server and client side by side, by route."""
    table = Table(
        title="Latency at the server | at the client, paired request by request",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("route", overflow="fold", ratio=1)
    for name in ("pairs", "P50", "| P50", "P95", "| P95", "longer"):
        table.add_column(
            name, justify="right", no_wrap=True, min_width=max(len(name), 7 if "P" in name else 0)
        )
    for row in rows:
        latencies = (row.server_p50, row.client_p50, row.server_p95, row.client_p95)
        table.add_row(row.route, str(row.paired), *map(seconds, latencies), str(row.longer))
    console.print(table)


def _number(value: float, money: bool) -> str:
    if money:
        return f"{value:,.6f}" if value else "0"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"
