"""One request and its response, as seen message by message.

Stamps the first and the last body byte just *before* they are handed to the server, and ends the
server span there, so that the server's duration never exceeds the client's and background tasks
are not in it. Used by both ways of watching ASGI (:mod:`taximeter.request`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context

from taximeter import account as accounts
from taximeter import guard, meters, serverspan, tenancy
from taximeter.lookups import Lookups

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: In a scope: the exchange that it belongs to.
EXCHANGE: Final = "taximeter.exchange"
_now = time.perf_counter_ns


class Exchange:
    """The account of one request, its span, and how far its response has come."""

    # What most responses never set is read from here.
    _expected: int | None = None  # bytes of body the client waits for
    _sent = 0
    _bodies = 0
    _trailers = False

    def __init__(self, scope: Scope, span: trace.Span, context: Context | None = None) -> None:
        self.scope = scope
        self.span = span
        self.started = _now()
        self.account = accounts.Account()
        if span.is_recording():
            self.account.remember = Lookups
        if tenancy.allowed():
            tenancy.from_baggage(self.account, context)

    async def watch(self, app: App, receive: Receive, send: Send) -> None:
        """Run ``app`` with this account current, seeing what it sends; settle when it returns or raises."""

        async def metered(message: Message) -> None:
            self.sending(message)
            await send(message)

        token = accounts.current.set(self.account)
        try:
            await app(self.scope, receive, metered)
        finally:
            accounts.current.reset(token)
            self.settle()

    def sending(self, message: Message) -> None:
        """Called just before ``message`` is handed to the server."""
        try:
            kind = message["type"]
            if kind == "http.response.body":
                self._body(message)
            elif kind == "http.response.start":
                self.start(message)
            elif kind == "http.response.trailers" and not message.get("more_trailers", False):
                self.close()
            elif kind == "http.response.pathsend":
                self._stamp_first()
                self.close()
        except Exception as error:
            guard.caught("request.send", error)

    def start(self, message: Message) -> None:
        """The status and headers are known."""
        if message.get("trailers", False):
            self._trailers = True
        if self.scope.get("method") == "HEAD" or message["status"] in (204, 304):
            self._expected = 0
        else:
            for name, value in message.get("headers", ()):
                if name.lower() == b"content-length":
                    self._expected = int(value)
                    break
        if self._expected == 0:
            self._stamp_end()  # the client has all it waits for with the headers

    def find_route(self) -> None:
        """Learn the route, where it is not known from the start."""

    def _body(self, message: Message) -> None:
        more = message.get("more_body", False)
        body = message.get("body", b"")
        if body:
            if self.account.first_byte is None:
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
            self.account.first_byte = (_now() - self.started) / 1e9

    def _stamp_end(self) -> None:
        if self.account.ended is None:
            self.account.ended = (_now() - self.started) / 1e9

    def close(self) -> None:
        """Write the account on the server span and end it, once."""
        account = self.account
        if account.closed:
            return
        account.closed = True
        if account.ended is None:
            self._stamp_end()
        span = self.span
        if span.is_recording():
            self.finish(span)

    def finish(self, span: trace.Span) -> None:
        """Write what there is to say on ``span``, and end it."""
        span.set_attributes(serverspan.attributes(self.account))
        self.end(span)

    def end(self, span: trace.Span) -> None:
        """End ``span`` by the monotonic clock, which is the one a client measures with too."""
        assert self.account.ended is not None
        start = getattr(span, "start_time", None)
        span.end(None if start is None else start + int(self.account.ended * 1e9))

    def settle(self) -> None:
        """The application has returned (or raised): add the account to the metrics."""
        try:
            if not self.account.closed:
                self.close()
            if (instruments := meters.get()) is not None:
                instruments.settle(self.account)
        except Exception as error:
            guard.caught("request.settle", error)
