"""HTTP tries of model calls: one that never got a connection is none.

An SDK repeats a call that fails, and each try that reaches the provider may cost. What counts is
therefore a try for which a connection was had: where the provider's port is closed, or no
connection comes within the time (an overloaded event loop is enough), nothing has been asked of
anybody. A call of which no try got through is counted neither as tries nor as a call: its span says
what failed. A try that was cut off later, or cancelled, counts: whether it arrived nobody knows here.

httpx is wrapped around its transports. Of requests and aiohttp the official instrumentors tell when
a try begins; there one without connection counts.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import wrapt
from opentelemetry.context import create_key, get_value
from opentelemetry.trace import Span

from taximeter import account as accounts
from taximeter import guard

#: In a context: the model call that it belongs to.
CALL: Final = create_key("taximeter.model_call")
_NO_CONNECTION: Final = ("ConnectError", "ConnectTimeout", "PoolTimeout")


class Tried:
    """What is known of one call's tries: whose it is, where it goes, how many got through or did not."""

    __slots__ = ("account", "attempts", "host", "unconnected")

    def __init__(self, account: accounts.Account, host: str | None) -> None:
        self.account = account
        self.host = host
        self.attempts = 0
        self.unconnected = 0

    @property
    def reached(self) -> bool:
        """False where it is certain that nobody was asked."""
        return self.attempts > 0 or self.unconnected == 0


def install_httpx(module: str) -> None:
    """Count the tries that go through ``httpx`` or ``httpx2``."""
    library = sys.modules[module]
    unconnected = tuple(getattr(library, name) for name in _NO_CONNECTION)

    def handle(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _of(args, kwargs)
        if call is None:
            return wrapped(*args, **kwargs)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            _ended(call, isinstance(error, unconnected))
            raise
        _ended(call)
        return response

    async def handle_async(
        wrapped: Callable[..., Awaitable[Any]], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = _of(args, kwargs)
        if call is None:
            return await wrapped(*args, **kwargs)
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException as error:
            _ended(call, isinstance(error, unconnected))
            raise
        _ended(call)
        return response

    wrapt.wrap_function_wrapper(library, "HTTPTransport.handle_request", handle)
    wrapt.wrap_function_wrapper(library, "AsyncHTTPTransport.handle_async_request", handle_async)


def count_attempt(_: Span, request: Any) -> None:
    """Request hook of the instrumentors of requests and aiohttp: a try begins."""
    try:
        call = _running(request)
        if call is not None:
            _ended(call)
    except Exception as error:
        guard.caught("tries.hook", error)


def _of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tried | None:
    try:
        return _running(args[0] if args else kwargs.get("request"))
    except Exception as error:
        guard.caught("tries.find", error)
        return None


def _running(request: Any) -> Tried | None:
    """The call that ``request`` is a try of."""
    call = get_value(CALL)
    if isinstance(call, Tried) and (call.host is None or _host(request) == call.host):
        return call
    return None


def _ended(call: Tried, unconnected: bool = False) -> None:
    try:
        if unconnected:
            call.unconnected += 1
        else:
            call.attempts += 1
            call.account.attempt()
    except Exception as error:
        guard.caught("tries.count", error)


def _host(request: Any) -> str | None:
    if isinstance(request.url, str):  # requests
        return urlsplit(request.url).hostname
    host = getattr(request.url, "host", None)  # httpx, aiohttp
    return host if isinstance(host, str) else None
