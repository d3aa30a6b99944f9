"""HTTP tries of model calls: one that never got a connection is none.

An SDK repeats a call that fails, and each try that reaches the provider may cost. What counts is
therefore a try for which a connection was had: where the provider's port is closed, or no
connection comes within the time (an overloaded event loop is enough), nothing has been asked of
anybody. A call of which no try got through is counted neither as tries nor as a call: its span says
what failed. A try that was cut off later, or cancelled, counts: whether it arrived nobody knows here.

httpx is wrapped around its transports, requests around its adapter, aiohttp where a session sends a request;
so tries count where the official instrumentors are switched off, too.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import wrapt
from opentelemetry.context import Context, create_key

from taximeter import account as accounts
from taximeter import current, guard

#: In a context: the model call that it belongs to.
CALL: Final = create_key("taximeter.model_call")
#: The request (whatever has a ``url``) among the arguments of a call.
_Find = Callable[[tuple[Any, ...], dict[str, Any]], Any]
#: Whether an error means that there was no connection.
_Failed = Callable[[BaseException], bool]
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
    if getattr(library, "_taximeter_tries", False):
        return
    library._taximeter_tries = True  # type: ignore[attr-defined]
    unconnected = tuple(getattr(library, name) for name in _NO_CONNECTION)

    def failed(error: BaseException) -> bool:
        return isinstance(error, unconnected)

    wrapt.wrap_function_wrapper(library, "HTTPTransport.handle_request", _counting(failed))
    wrapt.wrap_function_wrapper(
        library, "AsyncHTTPTransport.handle_async_request", _counting_async(_request, failed)
    )


def install_requests() -> None:
    """Count the tries that go through requests."""
    import requests.adapters  # noqa: PLC0415  (only where it is)
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError  # noqa: PLC0415

    def failed(error: BaseException) -> bool:
        # requests says "ConnectionError" of both: no connection, and one that broke.
        cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
        return isinstance(getattr(cause, "reason", None), ConnectTimeoutError | NewConnectionError)

    wrapt.wrap_function_wrapper(requests.adapters, "HTTPAdapter.send", _counting(failed))


def install_aiohttp() -> None:
    """Count the tries that go through aiohttp's client."""
    import aiohttp  # noqa: PLC0415

    unconnected = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

    def request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        address = args[1] if len(args) > 1 else kwargs.get("str_or_url")
        return _Address(str(address))

    def failed(error: BaseException) -> bool:
        return isinstance(error, unconnected)

    wrapt.wrap_function_wrapper(aiohttp, "ClientSession._request", _counting_async(request, failed))


class _Address:
    __slots__ = ("url",)

    def __init__(self, url: str) -> None:
        self.url = url


def _request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("request")


def _counting(failed: _Failed) -> Callable[..., Any]:
    """Wraps what sends one request."""

    def send(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _of(_request, args, kwargs)
        if call is None:
            return wrapped(*args, **kwargs)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            ended(call, failed, error)
            raise
        ended(call)
        return response

    send.failed = failed  # type: ignore[attr-defined]  # by which httpcalls knows it
    return send


def _counting_async(request: _Find, failed: _Failed) -> Callable[..., Any]:
    """The same for a coroutine."""

    async def send(
        wrapped: Callable[..., Awaitable[Any]], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = _of(request, args, kwargs)
        if call is None:
            return await wrapped(*args, **kwargs)
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException as error:
            ended(call, failed, error)
            raise
        ended(call)
        return response

    send.failed = failed  # type: ignore[attr-defined]  # by which httpcalls knows it
    return send


def _of(request: _Find, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tried | None:
    """The call that is tried here, if any."""
    try:
        context = current.context()
        if CALL in context:
            return running(context, host(request(args, kwargs)))
    except Exception as error:
        guard.caught("tries.find", error)
    return None


def running(context: Context, address: str | None) -> Tried | None:
    """The call of ``context``, if a request to the host ``address`` is a try of it."""
    call = context.get(CALL)
    return call if isinstance(call, Tried) and (call.host is None or call.host == address) else None


def ended(call: Tried, failed: _Failed | None = None, error: BaseException | None = None) -> None:
    """A try has ended: it got through, or there was no connection."""
    try:
        if failed is not None and error is not None and failed(error):
            call.unconnected += 1
        else:
            call.attempts += 1
            call.account.attempt()
    except Exception as wrong:
        guard.caught("tries.count", wrong)


def host(request: Any) -> str | None:
    """Where a request goes."""
    if isinstance(request.url, str):  # requests, aiohttp
        return urlsplit(request.url).hostname
    host = getattr(request.url, "host", None)  # httpx
    return host if isinstance(host, str) else None
