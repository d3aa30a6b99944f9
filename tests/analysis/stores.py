"""Builds span stores by hand, in the collector's schema, for the tests of the analysis.

`Builder` writes exactly the rows it is told; `hotel` makes a store of the demo's shape from a seed.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taximeter_collector.store.schema import REQUESTS, SPANS
from taximeter_collector.store.segments import segment_name

EPOCH_NS = 1_800_000_000 * 1_000_000_000
MS = 1_000_000
ACCOUNT: dict[str, Any] = {
    "db_calls": 0, "db_duration_s": 0.0, "db_repeated": 0, "model_calls": 0, "model_attempts": 0,
    "embedding_calls": 0, "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "cost_usd": 0.0,
    "unpriced_calls": 0, "cache_lookups": 0, "cache_hits": 0, "streamed": False,
    "embedding_inputs": 0, "embedding_duplicates": 0, "pool_wait_s": 0.0,
}  # fmt: skip


class Builder:
    """Collects rows; `write` makes the store's segments. Ids count up from 1."""

    def __init__(self, service: str | None = "hotel") -> None:
        self.service = service
        self.spans: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self._next = 0

    def _id(self) -> int:
        self._next += 1
        return self._next

    def request(
        self, route: str | None, at_ms: float, took_ms: float, *, agent: bool = True, **row: Any
    ) -> dict[str, Any]:
        """A server span and its request row. ``agent=False`` leaves the account null."""
        number = self._id()
        trace = {
            "trace_hi": row.pop("trace_hi", 2**63 + number),
            "trace_lo": row.pop("trace_lo", number * 7919),
        }
        shared = {
            **trace,
            "span_id": number,
            "service": row.pop("service", self.service),
            "start_ns": EPOCH_NS + round(at_ms * MS),
            "duration_ns": round(took_ms * MS),
            "http_method": row.pop("http_method", "GET"),
            "http_route": route,
            "http_status": row.pop("http_status", 200),
            "tenant": row.pop("tenant", None),
        }
        error = row.pop("error", False)
        self.spans.append(
            {**shared, "parent_id": row.pop("parent_id", None), "name": f"{shared['http_method']} {route}",
             "kind": "server", "status": "error" if error else "unset"}
        )  # fmt: skip
        self.requests.append({**shared, "error": error, **(ACCOUNT if agent else {}), **row})
        return self.requests[-1]

    def span(
        self, request: dict[str, Any] | None, at_ms: float, took_ms: float, **row: Any
    ) -> dict[str, Any]:
        """A client span ``at_ms`` after its request's start (after the epoch without one)."""
        number = self._id()
        above = request or {"trace_hi": number, "trace_lo": 0, "span_id": None, "start_ns": EPOCH_NS}
        self.spans.append(
            {
                "trace_hi": above["trace_hi"],
                "trace_lo": above["trace_lo"],
                "span_id": number,
                "parent_id": above["span_id"],
                "service": above.get("service", self.service),
                "tenant": above.get("tenant"),
                "kind": "client",
                "status": "unset",
                "start_ns": above["start_ns"] + round(at_ms * MS),
                "duration_ns": round(took_ms * MS),
                **row,
            }
        )
        return self.spans[-1]

    def db(
        self, request: dict[str, Any] | None, at_ms: float, took_ms: float, statement: str, **row: Any
    ) -> dict[str, Any]:
        """A database call."""
        word = statement.split(maxsplit=1)[0]
        sent = {"name": word, "db_system": "postgresql", "db_operation": word, "db_statement": statement}
        return self.span(request, at_ms, took_ms, **{**sent, **row})

    def model(
        self,
        request: dict[str, Any] | None,
        at_ms: float,
        took_ms: float,
        *,
        model: str = "gpt-5-mini",
        tokens: tuple[int, int, int] = (0, 0, 0),
        cost: float | None = None,
        operation: str = "chat",
        **row: Any,
    ) -> dict[str, Any]:
        """A model or embedding call; ``tokens`` are input, output and cached."""
        called = {
            "name": f"{operation} {model}",
            "ai_operation": operation,
            "ai_provider": "openai",
            "ai_request_model": model,
            "ai_response_model": model,
            "ai_input_tokens": tokens[0],
            "ai_output_tokens": tokens[1],
            "ai_cache_read_tokens": tokens[2],
            "cost_usd": cost,
        }
        return self.span(request, at_ms, took_ms, **{**called, **row})

    def write(self, path: Path, segments: int = 1) -> Path:
        """Write the store; the rows go round robin into ``segments`` files a table."""
        for name, schema, rows in (("spans", SPANS, self.spans), ("requests", REQUESTS, self.requests)):
            (path / name).mkdir(parents=True, exist_ok=True)
            for number in range(segments):
                part = rows[number::segments]
                if part:
                    write_segment(path / name / f"{number:06d}.parquet", schema, part)
        return path

    def write_log(self, path: Path, cuts: int = 7) -> Path:
        """Write the store as the collector does: named by the log's range, spans in the order they end."""
        for name, schema, rows in (("requests", REQUESTS, self.requests), ("spans", SPANS, self.spans)):
            (path / name).mkdir(parents=True, exist_ok=True)
            ends = sorted(row["start_ns"] + row["duration_ns"] for row in self.spans)
            edges = [ends[len(ends) * cut // cuts] for cut in range(1, cuts)]
            for number in range(cuts):
                part = [
                    row for row in rows
                    if bisect.bisect_right(edges, row["start_ns"] + row["duration_ns"]) == number
                ]  # fmt: skip
                if part:
                    write_segment(
                        path / name / segment_name("0badcafe-traces", number + 1, number + 1), schema, part
                    )
        return path


def write_segment(path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    """One Parquet file of these rows; absent columns are null."""
    full = [{name: row.get(name) for name in schema.names} for row in rows]
    pq.write_table(pa.Table.from_pylist(full, schema=schema), path)


HOTELS = ("alpenhof", "seeblick", "stadtmitte", "waldruh", "zur-post")
ROUTES: tuple[tuple[str, str, float, float, int], ...] = (
    # method, route, weight, typical ms beside calls, database calls
    ("POST", "/hotels/{hotel}/chat", 22, 6, 4),
    ("POST", "/hotels/{hotel}/chat/stream", 9, 6, 4),
    ("GET", "/hotels/{hotel}/faq/search", 12, 3, 1),
    ("GET", "/hotels/{hotel}/rooms", 11, 3, 12),
    ("GET", "/hotels/{hotel}/rooms/{room}", 8, 2, 2),
    ("GET", "/hotels/{hotel}/availability", 9, 4, 3),
    ("GET", "/hotels/{hotel}/reservations", 5, 4, 21),
    ("POST", "/hotels/{hotel}/reservations", 3, 6, 4),
    ("GET", "/hotels/{hotel}/reservations/{reservation}", 3, 3, 2),
    ("DELETE", "/hotels/{hotel}/reservations/{reservation}", 1, 3, 2),
    ("GET", "/hotels/{hotel}", 8, 1, 1),
    ("GET", "/hotels/{hotel}/policies", 5, 2, 1),
    ("GET", "/hotels/{hotel}/booking/external", 2, 3, 1),
    ("GET", "/admin/hotels/{hotel}/stats", 1, 8, 6),
    ("POST", "/admin/hotels/{hotel}/reindex", 0.3, 9, 3),
    ("GET", "/admin/flags", 0.5, 1, 0),
    ("GET", "/health", 6, 0.4, 0),
)


def many_routes(count: int) -> tuple[tuple[str, str, float, float, int], ...]:
    """A service of the size of the plan's: ``count`` routes, some with long names."""
    areas = (
        "guests",
        "billing",
        "housekeeping",
        "integrations/motopress",
        "compliance",
        "marketing",
        "staff",
    )
    tails = (
        "",
        "/{id}",
        "/{id}/history",
        "/search",
        "/{id}/attachments/{attachment}/preview-as-rendered-document",
    )
    extra = []
    for number in range(count - len(ROUTES)):
        area, tail = areas[number % len(areas)], tails[number % len(tails)]
        method = ("GET", "POST", "PATCH", "DELETE")[number % 4]
        extra.append(
            (
                method,
                f"/api/v{number // 35 + 1}/hotels/{{hotel}}/{area}{tail}",
                1.0,
                2 + number % 9,
                number % 7,
            )
        )
    return ROUTES + tuple(extra)


def hotel(seed: int = 7, requests: int = 2000, seconds: float = 75, routes: int = len(ROUTES)) -> Builder:
    """A store like the demo's: chats that cost money, an N+1 in the reservations, slow bookings, 404s."""
    dice = random.Random(seed)
    table = many_routes(routes)
    weights = [row[2] for row in table]
    build = Builder("hotel-chat")
    for _ in range(requests):
        at = dice.uniform(0, seconds * 1000 * 0.97)
        tenant = dice.choices(HOTELS, weights=(5, 3, 2, 1, 0.5))[0]
        if dice.random() < 0.01:
            build.request(None, at, dice.lognormvariate(0, 0.4), http_status=404)
            continue
        method, route, _, base, calls = dice.choices(table, weights)[0]
        chat, stream = "/chat" in route, route.endswith("/stream")
        account: dict[str, Any] = {"db_calls": calls, "model_calls": int(chat)}
        plan: list[tuple[float, float, Any]] = []  # when, how long, statement or model call
        clock = base * dice.lognormvariate(0, 0.5) / 2
        embeds = 1 if chat or route.endswith("/faq/search") else 0
        if embeds:
            hit = dice.random() < 0.43
            account |= {"cache_lookups": 1, "cache_hits": int(hit), "embedding_calls": int(not hit)}
            account |= {
                "embedding_inputs": int(not hit),
                "embedding_duplicates": int(not hit and len(build.requests) % 3 == 0),
            }
            if not hit:
                took = dice.lognormvariate(3.9, 0.3)
                words = dice.randint(6, 24)
                what = ("embeddings", "text-embedding-3-small", (words, 0, 0), words * 0.02e-6)
                plan.append((clock, took, what))
                clock += took
        for number in range(calls):
            took = dice.lognormvariate(1.0 if chat or number else 0.3, 0.6)
            if route.endswith("/stats") and number == 0 and dice.random() < 0.3:
                took = dice.uniform(2050, 2900)
            repeated = calls > 8 and number
            table_name = route.rsplit("/", 1)[-1].strip("{}") or "hotels"
            statement = (
                f"SELECT * FROM {'guests' if 'reserv' in route else 'room_photos'} WHERE id = %s"
                if repeated
                else f"SELECT col_{number} FROM {table_name} WHERE hotel_id = %s"
            )
            plan.append((clock, took, statement))
            clock += took + 0.2
        if chat:
            took = dice.lognormvariate(6.7, 0.35)
            cached = dice.choice((0, 1024))
            tokens = (dice.randint(1400, 2600), dice.randint(60, 260), cached)
            rate = dice.choice((("gpt-5-mini", 0.25e-6, 2e-6), ("claude-haiku-4-5", 1e-6, 5e-6)))
            money = (tokens[0] - 0.9 * cached) * rate[1] + tokens[1] * rate[2]
            plan.append((clock, took, ("chat", rate[0], tokens, money)))
            account["first_byte_s"] = (clock + took * (0.2 if stream else 1)) / 1000
            account["streamed"] = stream
            clock += took
        if "external" in route:
            took = dice.lognormvariate(7.4, 0.4)
            plan.append((clock, took, None))
            clock += took
        failed = dice.random() < 0.008
        took = clock + base * dice.lognormvariate(0, 0.5) / 2
        account["first_byte_s"] = account.get("first_byte_s", took * 0.98 / 1000)
        row = build.request(
            route, at, took, http_method=method, tenant=tenant if "{hotel}" in route else None,
            http_status=500 if failed else 200, error=failed, **account,
        )  # fmt: skip
        costs = [0.0]
        for begin, length, what in plan:
            if what is None:
                build.span(row, begin, length, name="GET", http_method="GET", http_status=200)
                continue
            if isinstance(what, str):
                row["db_duration_s"] += build.db(row, begin, length, what)["duration_ns"] / 1e9
                continue
            operation, model, tokens, money = what
            build.model(row, begin, length, model=model, tokens=tokens, cost=money, operation=operation)
            costs.append(money)
            row["input_tokens"] += tokens[0]
            row["output_tokens"] += tokens[1]
            row["cached_tokens"] += tokens[2]
        row["cost_usd"] = math.fsum(costs)
        row["model_attempts"] = row["model_calls"] + row["embedding_calls"] + (dice.random() < 0.02)
    return build
