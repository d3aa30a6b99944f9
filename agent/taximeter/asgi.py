"""The server span and metrics of an HTTP request, in a third of the official middleware's time.

It runs inside the official instrumentor: same constructor, same scope of spans and metrics, same
names and attributes of the stable conventions. What it leaves out is what costs there: a span for
each message, two context switches, attributes set twice, header lists decoded for each look-up,
and every route matched before the application matches them again. The route is taken from what the
application chose, by the instrumentor's own rule, and remembered; so it is on the span from the
first byte of the response on, and a sampler does not see it.

Used where nothing is asked of the official middleware that this one lacks (hooks, captured
headers, spans for messages, the old conventions): see :func:`suits`. WebSockets stay with the
official one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.propagators import get_global_response_propagator
from opentelemetry.sdk.trace import Span
from opentelemetry.trace import SpanKind, Status, StatusCode

from taximeter import account as accounts
from taximeter import asgisaid, current, guard, noted, redact, semconv, serverspan, settings, spans
from taximeter.exchange import EXCHANGE, App, Exchange, Message, Receive, Scope, Send

_MAX_ROUTES: Final = 4096
_STANDARD: Final = frozenset({b"traceparent", b"tracestate", b"baggage"})
_STANDARD_NAMES: Final = frozenset(name.decode() for name in _STANDARD)
_ERROR: Final = Status(StatusCode.ERROR)


def suits(middleware: Any) -> bool:
    """Whether the official middleware that was just built can be replaced by :class:`Light`."""
    from opentelemetry.instrumentation._semconv import _StabilityMode  # noqa: PLC0415

    return bool(
        not settings.official("asgi")
        and middleware._sem_conv_opt_in_mode is _StabilityMode.HTTP
        and middleware.exclude_receive_span
        and middleware.exclude_send_span
        and not middleware.server_request_hook
        and not middleware.client_request_hook
        and not middleware.client_response_hook
        and not middleware.http_capture_headers_server_request
        and not middleware.http_capture_headers_server_response
        and get_global_response_propagator() is None  # type: ignore[no-untyped-call]
    )


class Light:
    """Stands for one official middleware, ``outer``, whose parts it uses."""

    def __init__(self, outer: Any) -> None:
        self.app: App = outer.app
        excluded = outer.excluded_urls
        self._excluded = excluded if getattr(excluded, "_excluded_urls", excluded) else None
        self._propagator, self._standard = propagate.get_global_textmap(), False
        self._details = outer.default_span_details
        self._tracer = outer.tracer
        self._duration = outer.duration_histogram_new
        self._active = outer.active_requests_counter
        self._body_size = outer.server_request_body_size_histogram
        self._clients = "clients" in redact.captured()[0]
        self._queries = "urls" in redact.captured()[0]
        self._routes: dict[tuple[Any, ...], tuple[Any, str | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = None
        try:
            if current.http_watched():
                exchange = self._begin(scope)
        except Exception as error:
            guard.caught("request.begin", error)
        if exchange is None:
            await self.app(scope, receive, send)
            return

        async def metered(message: Message) -> None:
            exchange.sending(message)
            await send(message)

        try:
            await self.app(scope, receive, metered)
        except BaseException as error:
            exchange.failed(error)
            raise
        finally:
            exchange.settle()

    def _begin(self, scope: Scope) -> LightExchange | None:
        if self._excluded is not None and self._excluded.url_disabled(asgisaid.url(scope)):
            return None
        raw = scope.get("method", "")
        method = asgisaid.method(raw)
        scheme, version = scope.get("scheme", ""), scope.get("http_version", "")
        server = scope.get("server") or ("", None)
        fixed = asgisaid.fixed(method, scheme, version, (server[0], server[1]))
        attributes: dict[str, Any] = {}
        if path := scope.get("path"):
            attributes[semconv.URL_PATH] = path
        propagated, size = False, None
        for header, value in scope.get("headers", ()):
            if header in _STANDARD:
                propagated = True
            elif header == b"user-agent":
                agent, synthetic = asgisaid.agent(value)
                if synthetic is not None:
                    attributes["user_agent.synthetic.type"] = synthetic
                if self._clients and agent:
                    attributes["user_agent.original"] = agent
            elif header == b"content-length" and value.isdigit():
                size = int(value)
        if self._clients and (client := scope.get("client")):
            attributes["client.address"], attributes["client.port"] = client
        if self._queries and (query := scope.get("query_string")):
            attributes["url.query"] = query.decode("utf-8", "replace")
        parent = current.context()
        kind = SpanKind.INTERNAL
        if current.span(parent) is trace.INVALID_SPAN:
            kind = SpanKind.SERVER
            parent = self._parent(scope, parent, propagated)
        name = "HTTP" if method == "_OTHER" else method
        later = asgisaid.unseen(self._tracer)
        span = self._tracer.start_span(name, parent, kind, fixed if later else {**fixed, **attributes})
        within = trace.set_span_in_context(span, parent)
        exchange = LightExchange(self, scope, span, name, within)
        if later:
            exchange.attributes = attributes
        exchange.labels = method, scheme, version
        exchange.size = size
        active = exchange.active = asgisaid.active(method, scheme)
        self._active.add(1, active)
        scope[EXCHANGE] = exchange
        exchange.tokens = (
            contexts.attach(within),
            accounts.current.set(exchange.account),
        )
        return exchange

    def _parent(self, scope: Scope, parent: contexts.Context, propagated: bool) -> contexts.Context:
        """The caller's context. Nothing is asked of the propagators where they would find nothing."""
        propagator = propagate.get_global_textmap()
        if propagator is not self._propagator or not self._standard:
            self._propagator, self._standard = propagator, propagator.fields <= _STANDARD_NAMES
        return (
            propagator.extract(scope, parent, asgisaid.HEADERS)
            if propagated or not self._standard
            else parent
        )

    def route(self, exchange: LightExchange) -> str | None:
        """The template of what the application chose, as the instrumentor would have named it."""
        scope = exchange.scope
        chosen = scope.get("route")
        if chosen is None:
            return self._match(exchange)
        inner = scope.get("fastapi")
        included = inner.get("effective_route_context") if isinstance(inner, dict) else None
        key = id(chosen), id(included), id(scope.get("endpoint")), scope.get("root_path")
        known = self._routes.get(key)
        if known is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            # The objects are kept beside the answer: an id is theirs only while they live.
            known = (chosen, included, scope.get("endpoint")), self._match(exchange)
            self._routes[key] = known
        return known[1]

    def _match(self, exchange: LightExchange) -> str | None:
        scope = dict(exchange.scope)
        scope["app"], scope["root_path"] = exchange.app, exchange.root_path
        for left in ("route", "endpoint", "path_params", "router", "fastapi"):
            scope.pop(left, None)
        found: str | None = self._details(scope)[1].get(semconv.HTTP_ROUTE)
        return found

    def measure(self, exchange: LightExchange) -> None:
        """Record the request's metrics, once; its span is current."""
        account = exchange.account
        labels = asgisaid.outcome(exchange.labels, account.route, exchange.status, exchange.error)
        assert account.ended is not None
        self._duration.record(account.ended, labels)
        self._active.add(-1, exchange.active)
        if exchange.size is not None:
            self._body_size.record(exchange.size, labels)


class LightExchange(Exchange):
    """An exchange that makes and ends its own server span."""

    # What most requests never set is read from here.
    status: int | None = None
    error: str | None = None
    routed = False
    size: int | None = None  # of the request's body, as announced
    tokens: tuple[Any, Any] | None = None

    attributes: Mapping[str, Any] = {}  # to be said at the end

    active: noted.Labels
    labels: tuple[str, str, str]

    def __init__(
        self, server: Light, scope: Scope, span: trace.Span, method: str, context: contexts.Context
    ) -> None:
        super().__init__(scope, span, context)
        self.server, self.method = server, method
        self.app, self.root_path = scope.get("app"), scope.get("root_path", "")
        self.account.locate = self.chosen

    def start(self, message: Message) -> None:
        self.status = int(message["status"])
        if self.status >= 500:
            self.error = str(self.status)
        self.find_route()
        super().start(message)

    def chosen(self) -> str | None:
        """The route, if the application has chosen one: what it does now is done by that route."""
        try:
            return None if self.scope.get("route") is None else self.server.route(self)
        except Exception as error:
            guard.caught("request.route", error)
            return None

    def find_route(self) -> None:
        """Ask once: what the application chose, unless a mounted one has said it already."""
        if not self.routed:
            self.routed = True
            if self.account.route is None:
                self.account.route = self.server.route(self)

    def failed(self, error: BaseException) -> None:
        """The application raised."""
        try:
            if not isinstance(error, Exception):
                return
            self.error = self.error or redact.type_name(error)
            if self.status is None:
                self.status = 500  # what whoever is further out (Starlette alone, the server) will answer
            span = self.span
            if (
                isinstance(span, Span)
                and span.is_recording()
                and span.status.status_code is not StatusCode.ERROR
            ):
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        except Exception as failure:
            guard.caught("request.failed", failure)

    def finish(self, span: trace.Span) -> None:
        if not self.routed:
            self.find_route()
        attributes = serverspan.attributes(self.account)
        if self.attributes:  # what the handler has said of these holds
            said = span._more if type(span) is spans.Span else getattr(span, "attributes", None) or {}
            attributes.update({name: value for name, value in self.attributes.items() if name not in said})
        if self.status is not None:
            attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = self.status
        if (route := self.account.route) is not None:
            attributes[semconv.HTTP_ROUTE] = route
            if type(span) is spans.Span:
                span._name = f"{self.method} {route}"  # without a lock
            else:
                span.update_name(f"{self.method} {route}")
        if self.error is not None:
            attributes[semconv.ERROR_TYPE] = self.error
            if isinstance(span, Span) and span.status.status_code is not StatusCode.ERROR:
                span.set_status(_ERROR)
        span.set_attributes(attributes)
        self.end(span)

    def settle(self) -> None:
        try:
            if not self.account.closed:
                self.close()
            if not self.routed:
                self.find_route()
            self.scope.pop(EXCHANGE, None)
            self.server.measure(self)
            super().settle()
        except Exception as error:
            guard.caught("request.settle", error)
        finally:
            self.account.locate = None  # which held this exchange in a circle
            if self.tokens is not None:
                contexts.detach(self.tokens[0])
                with suppress(ValueError):  # closed in another context, as a server may do that gives up
                    accounts.current.reset(self.tokens[1])
