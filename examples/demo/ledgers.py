"""What the outside world counted: the guests' log, the provider's ledger, Postgres's statements.

None of these knows of Taximeter. Money and tokens are brought to routes and hotels by joining the
provider's ledger with the guests' log on an id that the guests send as W3C baggage, which the
service's HTTP clients pass on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

#: Statements that are not database calls by DESIGN: transaction control and session set-up.
_NOT_CALLS = (
    r"^\s*(begin|start transaction|commit|end|rollback|abort|savepoint|release"
    r"|set|reset|discard|deallocate)(\s|;|$)"
)


@dataclass
class Figures:
    """One side of the books. ``by_*`` maps have the key as the other side spells it."""

    requests: float = 0
    errors: float = 0
    db_calls: float = 0
    model_calls: float = 0
    embedding_calls: float = 0
    attempts: float = 0
    input_tokens: float = 0
    output_tokens: float = 0
    cached_tokens: float = 0
    cost_usd: float = 0.0
    requests_by_route: dict[str, float] = field(default_factory=dict)
    cost_by_route: dict[str, float] = field(default_factory=dict)
    tokens_by_route: dict[str, float] = field(default_factory=dict)
    cost_by_hotel: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GuestRequest:
    """One line of the guests' log: a request as its sender saw it. Times in nanoseconds."""

    request: str
    trace_id: str
    method: str
    route: str
    hotel: str
    start_ns: int
    duration_ns: int
    status: int
    error: bool
    failure: str = ""

    @property
    def reached(self) -> bool:
        """False where there was no connection, so the service never saw the request."""
        return self.status != 0 or self.failure not in {"ConnectError", "ConnectTimeout", "PoolTimeout", ""}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSON-lines file, whole."""
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def read_guests(log: Path) -> list[GuestRequest]:
    """The guests' log; fields of a line that the books do not use are passed over."""
    names = GuestRequest.__dataclass_fields__
    return [GuestRequest(**{name: line[name] for name in names if name in line}) for line in read_lines(log)]


def read_postgres(dsn: str, role: str) -> int:
    """Statements that ``role`` sent since the reset, as ``pg_stat_statements`` counted them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s "
            "JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = %s AND s.query !~* %s",
            (role, _NOT_CALLS),
        ).fetchone()
    assert row is not None
    return int(row[0])


def ledger_figures(
    guests: Iterable[GuestRequest], provider: Iterable[dict[str, Any]], db_calls: int
) -> Figures:
    """Add up the three ledgers."""
    seen = [request for request in guests if request.reached]
    by_id = {request.request: request for request in seen}
    figures = Figures(requests=len(seen), errors=sum(request.error for request in seen), db_calls=db_calls)
    requests: dict[str, float] = defaultdict(float)
    for request in seen:
        requests[request.route] += 1
    money = Decimal(0)
    cost_route: dict[str, Decimal] = defaultdict(Decimal)
    cost_hotel: dict[str, Decimal] = defaultdict(Decimal)
    tokens: dict[str, float] = defaultdict(float)
    for line in provider:
        figures.attempts += 1
        if line["call"]:
            if line["operation"] == "embeddings":
                figures.embedding_calls += 1
            else:
                figures.model_calls += 1
        figures.input_tokens += line["input_tokens"]
        figures.output_tokens += line["output_tokens"]
        figures.cached_tokens += line["cached_tokens"]
        cost = Decimal(line["cost_usd"])
        money += cost
        guest = by_id.get(line["request"])
        if guest is not None and cost:
            cost_route[guest.route] += cost
            cost_hotel[guest.hotel] += cost
        if guest is not None and line["input_tokens"]:
            tokens[guest.route] += line["input_tokens"] + line["output_tokens"]
    figures.cost_usd = float(money)
    figures.requests_by_route = dict(requests)
    figures.cost_by_route = {route: float(cost) for route, cost in cost_route.items()}
    figures.cost_by_hotel = {hotel: float(cost) for hotel, cost in cost_hotel.items()}
    figures.tokens_by_route = dict(tokens)
    return figures
