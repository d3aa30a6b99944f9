"""HTTP requests: gives each one an account, and ends its span at the last byte.

The official ASGI middleware stays the one source of server spans and metrics; FastAPI's own
telemetry keeps silent where it finds that middleware. This module sits on both sides of it:

* inside, :class:`AccountMiddleware` opens the account, stamps the first and the last body
  byte just *before* they are handed to the server, and ends the server span there, so that
  the server's duration never exceeds the client's and background tasks are not in it;
* the middleware's duration histogram is replaced by one that records that same duration;
* a mounted, separately instrumented app is passed through: it would count the request twice.

Requests by route are thus ``http.server.request.duration``'s count. A websocket has an account for
as long as it is open: what it causes reaches the metrics at once, and its span when it closes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.trace import Span
from opentelemetry.util.types import Attributes

from taximeter import account as accounts
from taximeter import guard, meters, semconv, shutdown, tenancy
from taximeter.lookups import Lookups

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ACCOUNT: Final = "taximeter.account"
_ROUTE: Final = "taximeter.route"

#: The account of the request that just finished in this task, for the duration histogram.
_finished: ContextVar[accounts.Account | None] = ContextVar("taximeter_finished", default=None)


def install() -> None:
    """Extend the official ASGI middleware; call before any application is built."""
    from opentelemetry.instrumentation import asgi  # noqa: PLC0415  (only where ASGI is served)

    cls: Any = asgi.OpenTelemetryMiddleware
    if getattr(cls, "_taximeter", False):
        return
    build, call = cls.__init__, cls.__call__

    def init(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        build(self, app, *args, **kwargs)
        try:
            self.app = AccountMiddleware(self.app)
            if self.duration_histogram_new is not None:
                self.duration_histogram_new = _Duration(self.duration_histogram_new)
            self.default_span_details = _remembering(self.default_span_details)
        except Exception as error:
            guard.caught("request.install", error)

    async def called(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, shutdown.flushing(send))
        elif scope["type"] == "http" and _ACCOUNT in scope:
            _extend_route(self, scope)
            await self.app(scope, receive, send)
        else:
            await call(self, scope, receive, send)

    cls.__init__ = init
    cls.__call__ = called
    cls._taximeter = True


class AccountMiddleware:
    """Runs inside the official middleware, where the server span is current."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and _ACCOUNT not in scope:
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http" or _ACCOUNT in scope:
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope)
        scope[_ACCOUNT] = exchange.account
        token = accounts.current.set(exchange.account)

        async def metered(message: Message) -> None:
            exchange.sending(message)
            await send(message)

        try:
            await self.app(scope, receive, metered)
        finally:
            accounts.current.reset(token)
            exchange.settle()

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        account = scope[_ACCOUNT] = accounts.Account()
        account.route = scope.get(_ROUTE)
        if (instruments := meters.get()) is not None:
            account.late = instruments.record
        span = trace.get_current_span()
        token = accounts.current.set(account)
        try:
            await self.app(scope, receive, send)
        finally:
            accounts.current.reset(token)
            try:
                if span.is_recording():
                    span.set_attributes(meters.span_attributes(account))
            except Exception as error:
                guard.caught("request.socket", error)


class _Exchange:
    """One request and its response, as seen message by message."""

    __slots__ = ("_bodies", "_expected", "_sent", "_trailers", "account", "scope", "span", "started")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.span = trace.get_current_span()
        self.started = time.perf_counter_ns()
        self.account = accounts.Account()
        self.account.route = scope.get(_ROUTE)
        if self.span.is_recording():
            self.account.lookups = Lookups()
        if tenancy.allowed():
            tenancy.from_baggage(self.account)
        self._expected: int | None = None  # bytes of body the client waits for
        self._sent = 0
        self._bodies = 0
        self._trailers = False

    def sending(self, message: Message) -> None:
        """Called just before ``message`` is handed to the server."""
        try:
            kind = message["type"]
            if kind == "http.response.body":
                self._body(message)
            elif kind == "http.response.start":
                self._start(message)
            elif kind == "http.response.trailers" and not message.get("more_trailers", False):
                self.close()
            elif kind == "http.response.pathsend":
                self._stamp_first()
                self.close()
        except Exception as error:
            guard.caught("request.send", error)

    def _start(self, message: Message) -> None:
        self._trailers = bool(message.get("trailers", False))
        if self.scope.get("method") == "HEAD" or message["status"] in (204, 304):
            self._expected = 0
        else:
            for name, value in message.get("headers", ()):
                if name.lower() == b"content-length":
                    self._expected = int(value)
                    break
        if self._expected == 0:
            self._stamp_end()  # the client has all it waits for with the headers

    def _body(self, message: Message) -> None:
        more = message.get("more_body", False)
        body = message.get("body", b"")
        if body:
            self._stamp_first()
            self._sent += len(body)
        if more:
            self._bodies += 1
            self.account.streamed = self._bodies > 1
        if self._expected is not None and self._sent >= self._expected:
            self._stamp_end()
        if not more and not self._trailers:
            self.close()

    def _stamp_first(self) -> None:
        if self.account.first_byte is None:
            self.account.first_byte = (time.perf_counter_ns() - self.started) / 1e9

    def _stamp_end(self) -> None:
        if self.account.ended is None:
            self.account.ended = (time.perf_counter_ns() - self.started) / 1e9

    def close(self) -> None:
        """Write the account on the server span and end it, once."""
        account = self.account
        if account.closed:
            return
        account.closed = True
        self._stamp_end()
        span = self.span
        if isinstance(span, Span) and span.is_recording():
            span.set_attributes(meters.span_attributes(account))
            assert account.ended is not None
            start = span.start_time
            # By the monotonic clock, which is the one a client measures with too.
            span.end(None if start is None else start + int(account.ended * 1e9))
            span.end = _already_ended  # type: ignore[method-assign]  # the middleware ends it once more

    def settle(self) -> None:
        """The application has returned (or raised): add the account to the metrics."""
        try:
            self.close()
            self.scope.pop(_ACCOUNT, None)
            _finished.set(self.account)
            if (instruments := meters.get()) is not None:
                instruments.settle(self.account)
        except Exception as error:
            guard.caught("request.settle", error)


class _Duration:
    """Stands for the duration histogram: records the account's duration instead of the caller's.

    The middleware measures until the application returns, background tasks included.
    """

    def __init__(self, inner: Histogram) -> None:
        self.inner = inner

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        account = _finished.get()
        if account is not None:
            _finished.set(None)
            amount = amount if account.ended is None else account.ended
            if account.route is not None:
                attributes = {**(attributes or {}), semconv.HTTP_ROUTE: account.route}
        self.inner.record(amount, attributes, context)


def _remembering(details: Callable[[Scope], tuple[str, dict[str, Any]]]) -> Callable[[Scope], Any]:
    """Leave the route that the instrumentor found in the scope: an unsampled span has no attributes."""

    def remember(scope: Scope) -> tuple[str, dict[str, Any]]:
        found = details(scope)
        scope[_ROUTE] = found[1].get(semconv.HTTP_ROUTE)
        return found

    return remember


def _extend_route(middleware: Any, scope: Scope) -> None:
    """A mounted app knows the rest of the template: ``/api`` becomes ``/api/hotels/{hotel}``."""
    try:
        account: accounts.Account = scope[_ACCOUNT]
        outer = account.route or ""
        _, attributes = middleware.default_span_details(scope)
        inner = attributes.get(semconv.HTTP_ROUTE)
        if inner is None:
            return
        account.route = outer.rstrip("/") + inner
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute(semconv.HTTP_ROUTE, account.route)
            span.update_name(f"{scope.get('method', 'HTTP')} {account.route}")
    except Exception as error:
        guard.caught("request.mount", error)


def _already_ended(end_time: int | None = None) -> None:
    """The span was ended at the last byte; the middleware's own call comes after it."""
