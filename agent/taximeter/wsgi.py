"""WSGI requests (Flask, Django): the same account as ASGI ones.

The official instrumentors stay the source of the server span and of
``http.server.request.duration``. They end the span when the view has returned, while a streamed
body is still being made: its queries and model calls would belong to nothing. So the account is
opened around the whole application, and the span, told of by the instrumentor's request hook,
is ended where the account is: just before the last part of the body is handed to the server.

A mounted application is passed through: it would count the request twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import Span

from taximeter import account as accounts
from taximeter import guard, meters, serverspan

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Route = Callable[[], str | None]

_EXCHANGE: Final = "taximeter.exchange"


def install_flask() -> None:
    """Open an account around every Flask application."""
    import flask  # noqa: PLC0415  (only where the framework is installed)

    _wrap(flask.Flask)


def install_django() -> None:
    """Open an account around Django's WSGI handler."""
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415

    _wrap(WSGIHandler)


def flask_hook(span: trace.Span, environ: Environ) -> None:
    """The Flask instrumentor's request hook: a span has begun for this request."""
    try:
        import flask  # noqa: PLC0415

        rule = flask.request.url_rule
        _adopt(environ, span, lambda: None if rule is None else str(rule.rule))
    except Exception as error:
        guard.caught("wsgi.flask", error)


def django_hook(span: trace.Span, request: Any) -> None:
    """The Django instrumentor's request hook; the route is known only once the view is found."""
    try:
        _adopt(request.META, span, lambda: getattr(request.resolver_match, "route", None))
    except Exception as error:
        guard.caught("wsgi.django", error)


def _adopt(environ: Environ, span: trace.Span, route: Route) -> None:
    exchange = environ.get(_EXCHANGE)
    if isinstance(exchange, _Exchange) and exchange.span is None:
        exchange.adopt(span, route)


def _wrap(cls: Any) -> None:
    if getattr(cls, "_taximeter", False):
        return
    call = cls.__call__

    def called(self: Any, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if _EXCHANGE in environ:
            return call(self, environ, start_response)  # type: ignore[no-any-return]
        exchange = _Exchange()
        environ[_EXCHANGE] = exchange

        def starting(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
            exchange.starting(environ, status, headers)
            return start_response(status, headers, *args)

        try:
            body = call(self, environ, starting)
        except BaseException:
            exchange.settle()
            raise
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
            exchange.settle()  # the server sends the file itself, past any iterator
            return body  # type: ignore[return-value]
        return _Body(body, exchange)

    cls.__call__ = called
    cls._taximeter = True


class _Exchange:
    """One request and its response."""

    def __init__(self) -> None:
        self.started = time.perf_counter_ns()
        self.account = accounts.Account()
        self.span: trace.Span | None = None
        self._parts = 0
        self._left: int | None = None  # bytes of body that the client waits for
        self._end: Callable[..., None] | None = None
        self._route: Route | None = None
        self._settled = False
        self._outer = accounts.current.get()
        accounts.current.set(self.account)

    def adopt(self, span: trace.Span, route: Route) -> None:
        """Take over the ending of ``span``."""
        self.span, self._route = span, route
        if isinstance(span, Span) and span.is_recording():
            self._end = span.end
            span.end = later  # type: ignore[method-assign]

    def starting(self, environ: Environ, status: str, headers: list[tuple[str, str]]) -> None:
        """The status and headers are known."""
        try:
            if environ.get("REQUEST_METHOD") == "HEAD" or status[:3] in {"204", "304"}:
                self._left = 0
            else:
                lengths = [value for name, value in headers if name.lower() == "content-length"]
                self._left = int(lengths[0]) if lengths else None
        except Exception as error:
            guard.caught("wsgi.starting", error)

    def sending(self, part: bytes) -> None:
        """A part of the body is about to be handed to the server."""
        try:
            if part:
                self._parts += 1
                if self.account.first_byte is None:
                    self.account.first_byte = (time.perf_counter_ns() - self.started) / 1e9
                self.account.streamed = self._parts > 1
            if self._left is not None:
                self._left -= len(part)
                if self._left <= 0:
                    self.close()
        except Exception as error:
            guard.caught("wsgi.body", error)

    def close(self) -> None:
        """Write the account on the server span and end it, once."""
        account = self.account
        if account.closed:
            return
        account.closed = True
        account.ended = (time.perf_counter_ns() - self.started) / 1e9
        if self._route is not None:
            account.route = self._route()
        if self._end is not None and isinstance(self.span, Span):
            self.span.set_attributes(serverspan.attributes(account))
            start = self.span.start_time
            self._end(None if start is None else start + int(account.ended * 1e9))

    def settle(self) -> None:
        """The request is over: add the account to the metrics."""
        if self._settled:
            return
        self._settled = True
        accounts.current.set(self._outer)
        try:
            self.close()
            if (instruments := meters.get()) is not None:
                instruments.settle(self.account)
        except Exception as error:
            guard.caught("wsgi.settle", error)


class _Body:
    """The application's body, iterated by the server."""

    def __init__(self, body: Iterable[bytes], exchange: _Exchange) -> None:
        self._body = body
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            self._exchange.sending(part)
            yield part

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def close(self) -> None:
        """Called by the server when the response is done or given up."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._exchange.settle()


def later(end_time: int | None = None) -> None:
    """The instrumentor ends the span when the view has returned; the exchange ends it with the body."""
