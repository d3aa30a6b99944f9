"""Sends one request, reads its answer to the last byte, and tells what the guest saw of it."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from .plan import Request


@dataclass(slots=True)
class Seen:
    """One line of the guests' log. Durations and ``first_byte_ns`` count from just before sending."""

    request: str  # the id sent as W3C baggage member ``request``
    trace_id: str  # 32 hex digits; "" when no traceparent was sent
    method: str
    route: str  # template; "" when no route should match
    path: str
    hotel: str
    start_ns: int  # Unix time
    duration_ns: int = 0  # to the last byte
    first_byte_ns: int | None = None  # of the body; None without one
    status: int = 0  # 0: the connection failed before an answer
    error: bool = False  # 5xx, or the connection failed at any point
    failure: str = ""  # what the connection failed with: the type of httpx's error
    streamed: bool = False  # server-sent events
    bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Sender:
    """A connection pool of all guests. ``trace`` says whether a traceparent is sent."""

    def __init__(self, url: str, guests: int, trace: bool) -> None:
        self._trace = trace
        self._client = httpx.AsyncClient(
            base_url=url,
            trust_env=False,
            timeout=httpx.Timeout(120.0, connect=10.0),
            # Idle connections are dropped long before the service would close them, so that none
            # is ever reused at the moment it dies.
            limits=httpx.Limits(
                max_connections=guests + 10, max_keepalive_connections=guests + 10, keepalive_expiry=20.0
            ),
        )

    async def send(self, request: Request, request_id: str) -> Seen:
        """Never raises for what the network does: a failed connection is something a guest sees."""
        headers = {"baggage": f"request={request_id}"}
        trace_id = ""
        if self._trace:
            trace_id = secrets.token_hex(16)
            headers["traceparent"] = f"00-{trace_id}-{secrets.token_hex(8)}-01"
        seen = Seen(
            request_id, trace_id, request.method, request.route, request.path, request.hotel, time.time_ns()
        )
        start = time.perf_counter_ns()
        try:
            async with self._client.stream(
                request.method, request.path, json=request.body, headers=headers
            ) as answer:
                seen.status = answer.status_code
                seen.streamed = answer.headers.get("content-type", "").startswith("text/event-stream")
                async for chunk in answer.aiter_raw():
                    if seen.first_byte_ns is None:
                        seen.first_byte_ns = time.perf_counter_ns() - start
                    seen.bytes += len(chunk)
                seen.duration_ns = time.perf_counter_ns() - start
            seen.error = seen.status >= 500
        except httpx.HTTPError as error:
            seen.failure = type(error).__name__
            seen.duration_ns = time.perf_counter_ns() - start
            seen.error = True
        return seen

    async def close(self) -> None:
        await self._client.aclose()
