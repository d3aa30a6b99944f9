"""The span and metric of one HTTP call through httpx (or httpx2), in a third of the official time.

Model SDKs talk through httpx, so each model call pays for this too. It runs inside the official
instrumentor, under the same names: which attributes an address and an answer have is asked of the
official functions once and remembered. What it leaves out: headers listed one by one when none is
captured, every address parsed four times, and a context switch for a span that nothing is parented
under. A try of a model call is counted in the same step (see :mod:`taximeter.tries`).

``TAXIMETER_OFFICIAL=http`` brings the official one back, and so does what only it can do: captured
headers, hooks of others, the old conventions.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.baggage import _BAGGAGE_KEY
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation import _SPAN_KEY
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from taximeter import current, guard, noted, semconv, settings, tries
from taximeter.spanattributes import Fixed
from taximeter.spans import NO_STATE

_MAX_KEPT: Final = 1024
_MAX_FIXED: Final = 64  # addresses whose attributes spans share: those of an API are few
_now = time.perf_counter

Attributes = dict[str, Any]


def install(library: str = "") -> None:
    """Extend the official httpx instrumentors; call before that of ``library`` instruments."""
    if library:
        tries.install_httpx(library)  # before the instrumentor, so that both are done in one step
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
        call = _begin(known, wrapped, args, given, given.get("request_hook"), given.get("response_hook"))
        if call is None:
            return official(wrapped, instance, args, kwargs, **given)
        try:
            response = call.send(*args, **kwargs)
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
        call = _begin(known, wrapped, args, given, *hooks)
        if call is None:
            return await official(wrapped, instance, args, kwargs, **given)
        try:
            response = await call.send(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        call.end(response)
        return response

    return handled


def _begin(  # noqa: PLR0917  (each request: keywords cost)
    known: _Known,
    wrapped: Callable[..., Any],
    args: Any,
    given: Attributes,
    request_hook: Any,
    response_hook: Any,
) -> Call | None:
    """A request is about to leave; ``None`` where the official instrumentor is to see to it."""
    try:
        request, running = args[0], current.context()
        if (
            request_hook is not None
            or response_hook is not None
            or given["sem_conv_opt_in_mode"] is not _StabilityMode.HTTP
            or given["captured_request_headers"]
            or given["captured_response_headers"]
            or not isinstance(request, given["module"].Request)
            or not (current.QUIET.isdisjoint(running) or current.http_watched())
        ):
            return None
        if (excluded := given["excluded_urls"]) and excluded.url_disabled(str(request.url)):
            return None
        address = known.address(request, given["module"])
        target = address.target
        span = given["tracer"].start_span(target.name, running, SpanKind.CLIENT, address.attributes)
        own = span.get_span_context()
        if (
            own[4] is NO_STATE
            and _BAGGAGE_KEY not in running
            and ((propagator := propagate.get_global_textmap()) is known.usual or known.says_it(propagator))
        ):  # the usual propagators say no more than this
            request.headers["traceparent"] = f"00-{own[0]:032x}-{own[1]:016x}-{own[3]:02x}"
        else:
            propagate.inject(request.headers, trace.set_span_in_context(span, running))
        call = Call(target, span, Context({_SPAN_KEY: span}), given["duration_histogram_new"])
        call.send = wrapped
        failed = getattr(getattr(wrapped, "_self_wrapper", None), "failed", None)
        if failed is not None:  # it would count a try, which is done here
            call.send, call.unconnected = wrapped.__wrapped__, failed  # type: ignore[attr-defined]
            call.tried = tries.running(running, address.host)
        return call
    except Exception as error:
        guard.caught("httpcalls.begin", error)
        return None


class _Address(NamedTuple):
    """One method at one address."""

    target: _Target
    attributes: Attributes
    host: str | None


class _Known:
    """What the official functions say, remembered."""

    def __init__(self, official: Any) -> None:
        self._official = official
        self._targets: dict[tuple[Any, ...], _Target] = {}
        self._addresses: dict[tuple[str, Any], _Address] = {}
        self._fixed = 0
        self.usual: Any = None  # the propagators in force, where they are the usual ones

    def says_it(self, propagator: Any) -> bool:
        """Whether ``propagator`` says no more than whose span a request belongs to, and the baggage."""
        parts = getattr(propagator, "_propagators", ()) if type(propagator) is CompositePropagator else ()
        if [*map(type, parts)] != [TraceContextTextMapPropagator, W3CBaggagePropagator]:
            return False
        self.usual = propagator
        return True

    def address(self, request: Any, module: Any) -> _Address:
        """What is the same for every request to one address, save those with a query or a user."""
        # As httpx keeps it, parsed: its text and its parts take a dozen calls.
        key = request.method, getattr(request.url, "_uri_reference", None)
        found = self._addresses.get(key)
        if found is None:
            text = str(request.url)
            target = self.target(request, module)
            attributes: Attributes = {**target.attributes, "url.full": self.shown(text)}
            kept = key[1] is not None and "?" not in text and "@" not in text
            if kept and self._fixed < _MAX_FIXED:
                self._fixed += 1
                attributes = Fixed(attributes)
            found = _Address(target, attributes, tries.host(request))
            if kept:
                if len(self._addresses) >= _MAX_KEPT:
                    self._addresses.clear()
                self._addresses[key] = found
        return found

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
        self._answers: dict[tuple[int, Any], tuple[Attributes, Attributes]] = {}

    def answer(self, response: Any) -> tuple[Attributes, Attributes]:
        """The attributes and the labels that an answer adds."""
        status = response.status_code
        key = status, response.extensions.get("http_version")
        found = self._answers.get(key)
        if found is None:
            official, told = self._official, dict(self._labels)
            version = response.http_version.replace("HTTP/", "")
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
            found = self._answers[key] = attributes, noted.Labels(labels)
        return found


class Call:
    """One request that is on its way."""

    __slots__ = ("_context", "_duration", "_span", "_started", "_target", "send", "tried", "unconnected")
    send: Callable[..., Any]
    unconnected: Callable[[BaseException], bool] | None

    def __init__(self, target: _Target, span: trace.Span, context: Context, duration: Any) -> None:
        self._target, self._span, self._context, self._duration = target, span, context, duration
        self.tried: tries.Tried | None = None
        self.unconnected = None
        self._started = _now()

    def end(self, response: Any) -> None:
        """It was answered: the headers are here."""
        try:
            seconds, span = _now() - self._started, self._span
            if self.tried is not None:
                tries.ended(self.tried)
            attributes, labels = self._target.answer(response)
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
            if self.tried is not None:
                tries.ended(self.tried, self.unconnected, error)
            if isinstance(error, Exception) and span.is_recording():
                span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
            span.end()
        except Exception as failure:
            guard.caught("httpcalls.failed", failure)
