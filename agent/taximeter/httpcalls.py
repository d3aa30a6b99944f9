"""The span and metric of one HTTP call through httpx (or httpx2), in a third of the official time.

Model SDKs talk through httpx, so each model call pays for this too. It runs inside the official
instrumentor, under the same names: which attributes an address and an answer have is asked of the
official functions once and remembered. What it leaves out: headers listed one by one when none is
captured, every address parsed four times, and a context switch for a span that nothing is parented
under.

``TAXIMETER_OFFICIAL=http`` brings the official one back, and so does what only it can do: captured
headers, hooks of others, the old conventions.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.trace import SpanKind, Status, StatusCode

from taximeter import current, guard, semconv, settings

_MAX_KEPT: Final = 1024
_now = time.perf_counter

Attributes = dict[str, Any]


def install() -> None:
    """Extend the official httpx instrumentors; call before they instrument."""
    from opentelemetry.instrumentation import httpx as official  # noqa: PLC0415  (where httpx is used)

    cls: Any = official._BaseHTTPXClientInstrumentor
    if getattr(cls, "_taximeter", False) or settings.official("http"):
        return
    known = _Known(official)
    cls._handle_request_wrapper = staticmethod(_sync(cls._handle_request_wrapper, known))
    cls._handle_async_request_wrapper = staticmethod(_async(cls._handle_async_request_wrapper, known))
    cls._taximeter = True


def _sync(official: Callable[..., Any], known: _Known) -> Callable[..., Any]:
    def handled(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any, **given: Any) -> Any:
        call = _begin(known, args, given, given.get("request_hook"), given.get("response_hook"))
        if call is None:
            return official(wrapped, instance, args, kwargs, **given)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        call.end(response)
        return response

    return handled


def _async(official: Callable[..., Awaitable[Any]], known: _Known) -> Callable[..., Awaitable[Any]]:
    async def handled(
        wrapped: Callable[..., Awaitable[Any]], instance: Any, args: Any, kwargs: Any, **given: Any
    ) -> Any:
        hooks = given.get("async_request_hook"), given.get("async_response_hook")
        call = _begin(known, args, given, *hooks)
        if call is None:
            return await official(wrapped, instance, args, kwargs, **given)
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        call.end(response)
        return response

    return handled


def _begin(known: _Known, args: Any, given: Attributes, request_hook: Any, response_hook: Any) -> Call | None:
    """A request is about to leave; ``None`` where the official instrumentor is to see to it."""
    try:
        if (
            request_hook is not None
            or response_hook is not None
            or given["sem_conv_opt_in_mode"] is not _StabilityMode.HTTP
            or given["captured_request_headers"]
            or given["captured_response_headers"]
            or not isinstance(args[0], given["module"].Request)
            or not current.http_watched()
        ):
            return None
        request = args[0]
        address = str(request.url)
        if (excluded := given["excluded_urls"]) and excluded.url_disabled(address):
            return None
        target = known.target(request, given["module"])
        attributes = {**target.attributes, "url.full": known.shown(address)}
        span = given["tracer"].start_span(target.name, None, SpanKind.CLIENT, attributes)
        context = trace.set_span_in_context(span)
        propagate.inject(request.headers, context)
        return Call(target, span, context, given["duration_histogram_new"])
    except Exception as error:
        guard.caught("httpcalls.begin", error)
        return None


class _Known:
    """What the official functions say, remembered."""

    def __init__(self, official: Any) -> None:
        self._official = official
        self._targets: dict[tuple[Any, ...], _Target] = {}

    def target(self, request: Any, module: Any) -> _Target:
        """What is the same for every request to one server."""
        url = request.url
        key = request.method, url.scheme, url.host, url.port
        found = self._targets.get(key)
        if found is None:
            if len(self._targets) >= _MAX_KEPT:
                self._targets.clear()
            found = self._targets[key] = self._ask(request, module)
        return found

    def _ask(self, request: Any, module: Any) -> _Target:
        official = self._official
        attributes: Attributes = {}
        labels: Attributes = {}
        official._apply_request_client_attributes_to_span(
            *(attributes, labels, request.url, request.method, _StabilityMode.HTTP, module, None, None, None)
        )
        attributes.pop("url.full", None)
        return _Target(official, official._get_default_span_name(request.method), attributes, labels)

    def shown(self, address: str) -> str:
        """``address`` without credentials and signatures: it is parsed only where it may hold one."""
        if "?" not in address and "@" not in address:
            return address
        return str(self._official.redact_url(address))


class _Target:
    """One method at one server."""

    def __init__(self, official: Any, name: str, attributes: Attributes, labels: Attributes) -> None:
        self._official = official
        self.name, self.attributes, self._labels = name, attributes, labels
        self._answers: dict[tuple[int, str], tuple[Attributes, Attributes]] = {}

    def answer(self, status: int, version: str) -> tuple[Attributes, Attributes]:
        """The attributes and the labels that an answer adds."""
        found = self._answers.get((status, version))
        if found is None:
            official, told = self._official, dict(self._labels)
            official._apply_response_client_attributes_to_metrics(
                trace.INVALID_SPAN, told, status, version, _StabilityMode.HTTP
            )
            labels = official._filter_semconv_duration_attrs(
                told,
                official._client_duration_attrs_old,
                official._client_duration_attrs_new,
                _StabilityMode.HTTP,
            )
            names = (semconv.HTTP_RESPONSE_STATUS_CODE, "network.protocol.version", semconv.ERROR_TYPE)
            attributes = {name: told[name] for name in names if name in told}
            if len(self._answers) >= _MAX_KEPT:
                self._answers.clear()
            found = self._answers[status, version] = attributes, labels
        return found


class Call:
    """One request that is on its way."""

    __slots__ = ("_context", "_duration", "_span", "_started", "_target")

    def __init__(self, target: _Target, span: trace.Span, context: Context, duration: Any) -> None:
        self._target, self._span, self._context, self._duration = target, span, context, duration
        self._started = _now()

    def end(self, response: Any) -> None:
        """It was answered: the headers are here."""
        try:
            seconds, span = _now() - self._started, self._span
            version = response.http_version.replace("HTTP/", "")
            attributes, labels = self._target.answer(response.status_code, version)
            span.set_attributes(attributes)
            if semconv.ERROR_TYPE in attributes:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
            self._duration.record(seconds, labels, self._context)
        except Exception as error:
            guard.caught("httpcalls.end", error)

    def failed(self, error: BaseException) -> None:
        """There is no answer."""
        try:
            span = self._span
            if isinstance(error, Exception) and span.is_recording():
                span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
            span.end()
        except Exception as failure:
            guard.caught("httpcalls.failed", failure)
