"""HTTP requests: gives each one an account, and ends its span at the last byte.

The official instrumentor stays the one source of server spans and metrics, and FastAPI's own
telemetry keeps silent where it finds its middleware. What that middleware does for a request is
done here in its place by :class:`taximeter.asgi.Light`, at a third of the cost and under the same
names. ``TAXIMETER_OFFICIAL=asgi`` brings the official one back, and so does whatever only
it can do (hooks, captured headers); then this module sits on both sides of it:

* inside, :class:`AccountMiddleware` opens the account and ends the server span at the last byte;
* its duration histogram is replaced by one that records that same duration.

A mounted, separately instrumented app is passed through: it would count the request twice.
Requests by route are thus ``http.server.request.duration``'s count. A websocket has an account for
as long as it is open: what it causes reaches the metrics at once, and its span when it closes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.util.types import Attributes

from taximeter import account as accounts
from taximeter import guard, meters, semconv, serverspan, shutdown
from taximeter.exchange import EXCHANGE, App, Exchange, Receive, Scope, Send

_ROUTE: Final = "taximeter.route"

#: The account of the request that just finished in this task, for the duration histogram.
_finished: ContextVar[accounts.Account | None] = ContextVar("taximeter_finished", default=None)


def install() -> None:
    """Extend the official ASGI middleware; call before any application is built."""
    from opentelemetry.instrumentation import asgi as official  # noqa: PLC0415  (only where ASGI is served)

    from taximeter import asgi  # noqa: PLC0415

    cls: Any = official.OpenTelemetryMiddleware
    if getattr(cls, "_taximeter", False):
        return
    build, call = cls.__init__, cls.__call__

    def init(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("exclude_spans") is None:  # a span for each message says nothing
            kwargs["exclude_spans"] = ["send", "receive"]
        build(self, app, *args, **kwargs)
        self._taximeter_light = None
        try:
            if asgi.suits(self):
                self._taximeter_light = asgi.Light(self)  # websockets stay with the official one
            self.app = AccountMiddleware(self.app)
            if self.duration_histogram_new is not None:
                self.duration_histogram_new = _Duration(self.duration_histogram_new)
            self.default_span_details = _remembering(self.default_span_details)
        except Exception as error:
            guard.caught("request.install", error)

    async def called(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            if EXCHANGE in scope:
                _extend_route(self, scope)
                await self.app(scope, receive, send)
            elif self._taximeter_light is not None:
                await self._taximeter_light(scope, receive, send)
            else:
                await call(self, scope, receive, send)
        elif kind == "lifespan":
            await self.app(scope, receive, shutdown.flushing(send))
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
        if scope["type"] == "websocket" and EXCHANGE not in scope:
            await self._socket(scope, receive, send)
            return
        exchange = None if scope["type"] != "http" or EXCHANGE in scope else _opened(scope)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        try:
            await exchange.watch(self.app, receive, send)
        finally:
            scope.pop(EXCHANGE, None)
            _finished.set(exchange.account)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _opened(scope)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        account = exchange.account
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
                    span.set_attributes(serverspan.attributes(account))
            except Exception as error:
                guard.caught("request.socket", error)


def _opened(scope: Scope) -> OfficialExchange | None:
    """An account for what ``scope`` begins; ``None`` where that fails: then there is none."""
    try:
        exchange = OfficialExchange(scope, trace.get_current_span())
        exchange.account.route = scope.get(_ROUTE)
        scope[EXCHANGE] = exchange
        return exchange
    except Exception as error:
        guard.caught("request.open", error)
        return None


class OfficialExchange(Exchange):
    """An exchange inside the official middleware, which ends the span once more."""

    def end(self, span: trace.Span) -> None:
        super().end(span)
        setattr(span, "end", _already_ended)  # noqa: B010


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
        exchange: Exchange = scope[EXCHANGE]
        exchange.find_route()
        account, span = exchange.account, exchange.span
        outer = account.route or ""
        _, attributes = middleware.default_span_details(scope)
        inner = attributes.get(semconv.HTTP_ROUTE)
        if inner is None:
            return
        account.route = outer.rstrip("/") + inner
        if span.is_recording():
            span.set_attribute(semconv.HTTP_ROUTE, account.route)
            span.update_name(f"{scope.get('method', 'HTTP')} {account.route}")
    except Exception as error:
        guard.caught("request.mount", error)


def _already_ended(end_time: int | None = None) -> None:
    """The span was ended at the last byte; the middleware's own call comes after it."""
