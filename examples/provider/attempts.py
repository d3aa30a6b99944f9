"""One HTTP attempt from its first byte to its line in the ledger: the same for every API.

An API describes itself by an ``Endpoint`` (how to parse, answer and phrase an error); this module
does the rest in a fixed order: key, body, validation, injected fault, answer, latency, ledger.
Promise: each attempt gets exactly one ledger line, before the client can have read the end, also
when the client goes away in the middle of a stream (then with the tokens produced so far).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from .ledger import Entry, Ledger
from .models import BY_NAME, Model
from .rates import Usage
from .tokens import PrefixCache
from .weather import Weather

MAX_BODY_BYTES = 16 * 1024 * 1024

Body = dict[str, Any]


class ApiError(Exception):
    """A request that the provider refuses; ``param`` is the offending field, when there is one."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


@dataclass(slots=True)
class Provider:
    """What all attempts share."""

    ledger: Ledger
    weather: Weather
    prefixes: PrefixCache = field(default_factory=PrefixCache)


@dataclass(frozen=True, slots=True)
class Answer:
    """A priced answer. ``events`` yields (bytes, output tokens produced so far) for a stream."""

    usage: Usage
    body: Body
    events: Callable[[], Iterator[tuple[bytes, int]]] | None = None


class Endpoint(Protocol):
    """One operation of one API."""

    api: str
    operation: str

    def authorised(self, request: Request) -> bool: ...

    def validate(self, body: Body, model: Model) -> None:
        """Raises ``ApiError`` 400 for a malformed body."""

    def answer(self, body: Body, model: Model, prefixes: PrefixCache) -> Answer:
        """Answer a valid body. Raises ``ApiError`` when the prompt is longer than the model takes."""

    def error(self, problem: ApiError) -> Body: ...


@dataclass(slots=True)
class _Attempt:
    """The ledger line in the making; ``close`` writes it once."""

    ledger: Ledger
    entry: Entry
    closed: bool = False
    streaming: bool = False  # the line is written by the stream, after ``serve`` has returned

    def close(self, **changes: Any) -> None:
        if not self.closed:
            self.closed = True
            self.ledger.in_flight -= 1
            self.ledger.record(replace(self.entry, **changes))


async def serve(endpoint: Endpoint, provider: Provider, request: Request) -> Response:
    """Run one attempt of ``endpoint`` and return the HTTP response for it."""
    provider.ledger.in_flight += 1
    retry = request.headers.get("x-stainless-retry-count", "0")
    retry_count = int(retry) if retry.isdigit() else 0
    guest = baggage_member(request.headers.get("baggage", ""), "request")
    attempt = _Attempt(
        provider.ledger, Entry(endpoint.api, endpoint.operation, "", False, retry_count, 0, guest)
    )
    try:
        return await _answer(endpoint, provider, request, attempt)
    except ApiError as problem:
        attempt.close(status=problem.status)
        return JSONResponse(endpoint.error(problem), problem.status)
    finally:
        if not attempt.streaming:
            attempt.close(status=500)  # only when something above raised what it should not


async def _answer(endpoint: Endpoint, provider: Provider, request: Request, attempt: _Attempt) -> Response:
    if not endpoint.authorised(request):
        raise ApiError(401, "No API key provided.", code="invalid_api_key")
    body = await read_body(request)
    text = json.dumps(body, sort_keys=True).encode()  # a retry repeats it
    begins = provider.ledger.begins_call(attempt.entry.request, text, attempt.entry.retry_count)
    attempt.entry = replace(attempt.entry, call=begins)
    model = _model(endpoint, body)
    stream = body.get("stream") is True
    attempt.entry = replace(attempt.entry, model=model.name, stream=stream)
    endpoint.validate(body, model)
    entry = attempt.entry
    weather = provider.weather.over(entry.request, entry.operation, entry.retry_count)
    fault = weather.fault(entry.retry_count)
    if fault is not None:
        problem = ApiError(
            fault.status,
            "Rate limit reached, please retry." if fault.status == 429 else "The server had an error.",
            code="rate_limit_exceeded" if fault.status == 429 else None,
        )
        attempt.close(status=fault.status)
        headers = {"retry-after-ms": str(fault.retry_after_ms)}
        return JSONResponse(endpoint.error(problem), fault.status, headers)
    answer = endpoint.answer(body, model, provider.prefixes)
    first_s, token_s = weather.first_token_s(model), weather.per_token_s(model)
    if not stream or answer.events is None:
        await asyncio.sleep(first_s + token_s * answer.usage.output)
        attempt.close(status=200, usage=answer.usage)
        return JSONResponse(answer.body)
    attempt.streaming = True
    return _MeteredStream(attempt, answer.usage, answer.events(), first_s, token_s)


class _MeteredStream(StreamingResponse):
    """Server-sent events at the model's pace; closes the attempt however the stream ends."""

    def __init__(
        self,
        attempt: _Attempt,
        usage: Usage,
        events: Iterator[tuple[bytes, int]],
        first_s: float,
        token_s: float,
    ) -> None:
        super().__init__(self._paced(events, first_s, token_s), media_type="text/event-stream")
        self._attempt = attempt
        self._usage = usage
        self._produced = 0

    async def _paced(
        self, events: Iterator[tuple[bytes, int]], first_s: float, token_s: float
    ) -> AsyncIterator[bytes]:
        await asyncio.sleep(first_s)
        pending: bytes | None = None
        for event, produced in events:
            if pending is not None:
                yield pending
            if produced > self._produced:
                await asyncio.sleep(token_s * (produced - self._produced))
                self._produced = produced
            pending = event
        # In the books before the last event is sent: who has read the end finds it there.
        self._attempt.close(status=200, usage=self._usage)
        if pending is not None:
            yield pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._attempt.close(status=200, usage=replace(self._usage, output=self._produced), aborted=True)


def baggage_member(header: str, name: str) -> str:
    """The value of ``name`` in a W3C ``baggage`` header, without its properties; "" when absent."""
    for member in header.split(","):
        key, _, value = member.partition("=")
        if key.strip() == name:
            return unquote(value.partition(";")[0].strip())[:64]
    return ""


async def read_body(request: Request) -> Body:
    """The JSON object in the request's body. Raises ``ApiError`` 400 or 413."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise ApiError(413, f"Request body is larger than {MAX_BODY_BYTES} bytes.")
    try:
        body = json.loads(bytes(data))
    except ValueError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    return body


def _model(endpoint: Endpoint, body: Body) -> Model:
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise ApiError(400, "you must provide a model parameter", param="model")
    model = BY_NAME.get(name)
    if model is None or model.api != endpoint.api:
        raise ApiError(404, f"The model `{name}` does not exist.", param="model", code="model_not_found")
    if model.embedding != (endpoint.operation == "embeddings"):
        raise ApiError(400, f"The model `{name}` does not serve {endpoint.operation}.", param="model")
    return model


def sse(data: Body, event: str | None = None) -> bytes:
    """One server-sent event."""
    text = json.dumps(data, separators=(",", ":"))
    return (f"event: {event}\ndata: {text}\n\n" if event else f"data: {text}\n\n").encode()


def positive_int(body: Body, name: str) -> int | None:
    """An optional positive integer field. Raises ``ApiError`` 400 for anything else."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ApiError(400, f"Invalid '{name}': expected a positive integer, got {value!r}.", param=name)
    return value
