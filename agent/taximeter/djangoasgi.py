"""Django under ASGI: the same account as under WSGI.

Django's official instrumentor is a middleware of Django's own, so that nothing of
OpenTelemetry sees the ASGI messages. The account is opened around Django's handler; the
span, told of by the instrumentor's request hook, is ended where the account is: just before
the last byte of the body is handed to the server.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from opentelemetry import trace

from taximeter import guard, tenancy, wsgi
from taximeter.exchange import EXCHANGE, Exchange, Receive, Scope, Send
from taximeter.lookups import Lookups


def install() -> None:
    """Open an account around Django's handlers."""
    from django.core.handlers.asgi import ASGIHandler  # noqa: PLC0415  (only where Django is)

    wsgi.install_django()
    if getattr(ASGIHandler, "_taximeter", False):
        return
    call = ASGIHandler.__call__

    async def called(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _opened(scope)
        if exchange is None:
            await call(self, scope, receive, send)
        else:
            await exchange.watch(partial(call, self), receive, send)

    ASGIHandler.__call__ = called
    ASGIHandler._taximeter = True


def hook(span: trace.Span, request: Any) -> None:
    """The instrumentor's request hook: a span has begun; the route is known only once the view is found."""
    try:
        scope = getattr(request, "scope", None)
        if scope is None:
            wsgi.django_hook(span, request)
        elif isinstance(exchange := scope.get(EXCHANGE), DjangoExchange):
            exchange.adopt(span, request)
    except Exception as error:
        guard.caught("djangoasgi.hook", error)


def _opened(scope: Scope) -> DjangoExchange | None:
    """An account for what ``scope`` begins; ``None`` for what is none, or has one already."""
    if scope["type"] != "http" or EXCHANGE in scope:
        return None
    try:
        exchange = DjangoExchange(scope, trace.INVALID_SPAN)
        scope[EXCHANGE] = exchange
        return exchange
    except Exception as error:
        guard.caught("djangoasgi.open", error)
        return None


class DjangoExchange(Exchange):
    """An exchange whose span begins later than it, and would end before it."""

    _end: Any

    def adopt(self, span: trace.Span, request: Any) -> None:
        """Take over the ending of ``span``."""
        self.account.locate = lambda: getattr(request.resolver_match, "route", None)
        if tenancy.allowed():
            tenancy.from_baggage(self.account)
        if self.span is trace.INVALID_SPAN and span.is_recording():
            self.account.remember = Lookups
            self.span, self._end = span, span.end
            setattr(span, "end", wsgi.later)  # noqa: B010

    def end(self, span: trace.Span) -> None:
        setattr(span, "end", self._end)  # noqa: B010
        super().end(span)
        setattr(span, "end", wsgi.later)  # noqa: B010  # a middleware further out may end it again
