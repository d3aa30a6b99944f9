"""The provider's own books: one JSON line per HTTP attempt, and running totals.

Promises: a line is flushed before the client can have seen the end of the response; money is
exact (``Decimal``, written as a string). Totals and file hold the same period: ``reset`` empties
both, so that seeding and warm-up are in neither.

A call is what is asked, however often. It begins with the first attempt that *arrives*, which is a
retry where the attempts before it found no connection: so of attempts with the same body in the
same request, one is a retry only if one before it has arrived.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from .rates import Usage, cost

NO_USAGE = Usage()


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    attempts: int = 0
    failed: int = 0
    aborted: int = 0
    model_calls: int = 0
    embedding_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cost: Decimal = field(default_factory=Decimal)

    def as_dict(self) -> dict[str, Any]:
        sums = {name: getattr(self, name) for name in self.__slots__ if name != "cost"}
        return sums | {"cost_usd": format(self.cost, "f")}


@dataclass(frozen=True, slots=True)
class Entry:
    """One HTTP attempt as it goes into the books."""

    api: str
    operation: str  # chat, responses, messages, embeddings
    model: str  # the name the rate is published under; "" when the request named none
    stream: bool
    retry_count: int
    status: int
    request: str = ""  # ``request`` in the W3C baggage: the id that the load generator gave it
    usage: Usage = NO_USAGE
    aborted: bool = False
    call: bool = True  # whether a call begins with it


class Ledger:
    """Appends to ``path``, and keeps totals of what was written since the last ``reset``."""

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._clock_ns = clock_ns
        self.in_flight = 0
        self._totals = _Sums()
        self._by_model: dict[str, _Sums] = {}
        self._calls: dict[tuple[str, bytes], list[int]] = {}  # the last retry of each that arrived

    def begins_call(self, request: str, body: bytes, retry_count: int) -> bool:
        """Whether the attempt that has just arrived is the first of its call that did."""
        calls = self._calls.setdefault((request, hashlib.sha256(body).digest()), [])
        earlier = [last for last in calls if last < retry_count]
        if earlier:
            calls.remove(max(earlier))
        calls.append(retry_count)
        return not earlier

    def record(self, entry: Entry) -> None:
        usage = entry.usage
        money = cost(entry.model, usage) if usage.input or usage.output else Decimal(0)
        line = {
            "ts_ns": self._clock_ns(),
            "request": entry.request,
            "api": entry.api,
            "operation": entry.operation,
            "model": entry.model,
            "stream": entry.stream,
            "retry_count": entry.retry_count,
            "call": entry.call,
            "status": entry.status,
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "cache_write_1h_tokens": usage.cache_write_1h,
            "cost_usd": format(money, "f"),
            "aborted": entry.aborted,
        }
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()
        for sums in (self._totals, self._by_model.setdefault(entry.model, _Sums())):
            embedding = entry.operation == "embeddings"
            sums.calls += entry.call
            sums.attempts += 1
            sums.failed += entry.status >= 400
            sums.aborted += entry.aborted
            sums.model_calls += entry.call and not embedding
            sums.embedding_calls += entry.call and embedding
            sums.input_tokens += usage.input
            sums.output_tokens += usage.output
            sums.cached_tokens += usage.cache_read
            sums.cache_write_tokens += usage.cache_write
            sums.cost += money

    def totals(self) -> dict[str, Any]:
        """Sums since the last reset; ``in_flight`` attempts are in none of them yet."""
        return self._totals.as_dict() | {
            "in_flight": self.in_flight,
            "by_model": {name: sums.as_dict() for name, sums in sorted(self._by_model.items())},
        }

    def reset(self) -> None:
        """Start a new counting period: totals at zero and an empty file."""
        self._file.truncate(0)
        self._totals = _Sums()
        self._by_model = {}
        self._calls.clear()

    def close(self) -> None:
        self._file.close()
