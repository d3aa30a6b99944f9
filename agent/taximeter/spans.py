"""Spans that cost a third of the SDK's to make, for every instrumentor.

What costs in the SDK's span is what most spans never use: two bounded lists with a lock each, a
copy at the end, a sampler's result object, and six calls for each attribute. Here events and links
are made when one is added, attributes of the four plain types go straight into a dictionary (any
other goes the SDK's way), and the processors get the span itself at its end: an ended span cannot
be changed. It is a subclass of the SDK's, so processors and hooks of others see what they know.
Attributes wait as two dictionaries (:mod:`taximeter.spanattributes`) unless somebody looks.

The SDK's own tracers stay where its internal metrics are wanted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import getrandbits
from time import time_ns
from typing import Any, Final, cast

from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace.propagation import _SPAN_KEY as SPAN_KEY
from opentelemetry.util import types

from taximeter import current, guard
from taximeter.spanattributes import A_STRING, A_TEXT, NOTHING, PLAIN, Fixed, frozen

UNSET: Final = api.Status(api.StatusCode.UNSET)
_SAMPLED: Final = api.TraceFlags(api.TraceFlags.SAMPLED)
_RANDOM: Final = api.TraceFlags(api.TraceFlags.SAMPLED | api.TraceFlags.RANDOM_TRACE_ID)
NO_STATE: Final = api.TraceState()

#: How the scopes begin that count their own model calls, and the scopes that make none.
_COUNTED: Final = (
    "taximeter",
    *("opentelemetry.instrumentation.genai.", "opentelemetry.instrumentation.google_genai"),
    "opentelemetry.util.genai",
)
_WITHOUT: Final = frozenset(
    "opentelemetry.instrumentation." + name
    for name in (
        "asgi",
        "fastapi",
        "starlette",
        "wsgi",
        "flask",
        "django",
        "httpx",
        "psycopg",
        "psycopg2",
        "asyncpg",
    )
)


class Span(sdk._Span):
    """One span; made by :class:`Tracer` alone.

    What most spans never ask for is made when it is asked for: a lock, events, links, the SDK's own
    attributes. Until then attributes are what is :class:`Fixed` and a dictionary of the rest.
    """

    _status = UNSET
    _fixed = NOTHING
    _attributes: Any
    _start_time: int | None
    _end_time: int | None = None
    _trace_config = _record_end_metrics = None

    _tracer: Tracer
    _context: api.SpanContext
    _more: dict[str, types.AnyValue]

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not there. Two threads that ask at once get the same.
        make = _MADE.get(name)
        if make is None:
            raise AttributeError(name)
        return self.__dict__.setdefault(name, make(self))

    @property
    def events(self) -> Sequence[sdk.Event]:
        return tuple(self._events) if "_events" in self.__dict__ else ()

    @property
    def links(self) -> Sequence[api.Link]:
        return tuple(self._links) if "_links" in self.__dict__ else ()

    def _readable_span(self) -> sdk.ReadableSpan:
        return self

    def set_attributes(self, attributes: Mapping[str, types.AnyValue]) -> None:
        if self._end_time is not None:
            super().set_attributes(attributes)  # which says so
            return
        try:
            limits, more = self._tracer._span_limits, self._more
            longest, most = limits.max_span_attribute_length, limits.max_span_attributes
            values: Iterable[Any] = attributes.values()
            kept: Any = attributes
            if not PLAIN.issuperset(map(type, values)):
                kept = frozen(attributes, longest)
            if (  # nothing that the SDK would not keep as it is; no loop of Python's
                "_attributes" in self.__dict__
                or kept is None
                or "" in attributes
                or not A_STRING.issuperset(map(type, attributes))
                or (longest is not None and max(map(len, filter(A_TEXT, values)), default=0) > longest)
                or (most is not None and len(self._fixed) + len(more) + len(attributes) > most)
            ):
                self._attributes._set_items(attributes)
            else:
                more.update(kept)
        except Exception as error:
            guard.caught("spans.attributes", error)

    def set_attribute(self, key: str, value: types.AnyValue) -> None:
        self.set_attributes({key: value})

    def end(self, end_time: int | None = None) -> None:
        if self._end_time is not None:
            super().end(end_time)  # likewise
            return
        try:
            self._end_time = time_ns() if end_time is None else end_time
            if "_attributes" in self.__dict__:
                self._attributes._immutable = True
            processor = self._tracer.span_processor
            if type(processor) is Processors:
                for ending in processor.endings[self._tracer.foreign]:
                    ending(self)
            else:
                processor._on_ending(self)
                processor.on_end(self)
        except Exception as error:
            guard.caught("spans.end", error)


def _attributes(span: Span) -> BoundedAttributes:
    """The SDK's attributes, which from now on are all of them."""
    limits = span._tracer._span_limits
    made = BoundedAttributes(
        limits.max_span_attributes, immutable=False, max_value_len=limits.max_span_attribute_length
    )
    made._dict = span._more  # the same, so that what another thread is just setting is not lost
    for key, value in span._fixed.items():
        made._dict.setdefault(key, value)
    made._immutable = span._end_time is not None
    return made


_MADE: Final[dict[str, Callable[[Span], Any]]] = {
    "_attributes": _attributes,
    "_lock": lambda span: threading.Lock(),
    "_events": lambda span: BoundedList(span._limits.max_events),
    "_links": lambda span: BoundedList(span._limits.max_links),
    "_limits": lambda span: span._tracer._span_limits,
    "_resource": lambda span: span._tracer.resource,
    "_sampler": lambda span: span._tracer.sampler,
    "_span_processor": lambda span: span._tracer.span_processor,
    "_instrumentation_info": lambda span: span._tracer.instrumentation_info,
    "_instrumentation_scope": lambda span: span._tracer._instrumentation_scope,
    "_record_exception": lambda span: True,
    "_set_status_on_exception": lambda span: True,
}


class Processors(sdk.SynchronousMultiSpanProcessor):
    """The SDK's chain, with what it will call looked up beforehand: most processors do nothing at a start."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        #: By whether a tracer is foreign.
        self.starting: tuple[list[Callable[..., None]], ...] = [], []
        self.endings: tuple[list[Callable[[Span], None]], ...] = [], []

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        for foreign in (False, True):
            asked = [one for one in self._span_processors if foreign or not isinstance(one, ForForeign)]
            self.starting[foreign][:] = [one.on_start for one in asked if type(one).on_start not in _NOTHING]
            endings = [one._on_ending for one in asked if type(one)._on_ending not in _NOTHING]
            self.endings[foreign][:] = [*endings, *(one.on_end for one in asked)]


class ForForeign(sdk.SpanProcessor):
    """A processor that looks at spans of foreign tracers alone."""


#: Methods that do nothing.
_NOTHING: Final = (
    *(sdk.SpanProcessor.on_start, sdk.SpanProcessor._on_ending),
    *(BatchSpanProcessor.on_start, BatchSpanProcessor._on_ending),
)


def official(scope: str) -> bool:
    """Whether spans of ``scope`` are no model calls, or are counted by who makes them."""
    return scope in _WITHOUT or scope.startswith(_COUNTED)


class Tracer(sdk.Tracer):
    """Makes light spans."""

    foreign = True  # of nobody that Taximeter extends
    origin: tuple[Any, int] = None, 0  # its resource, and how waiting spans refer to that and the scope

    def start_span(  # noqa: PLR0917  (the SDK's signature)
        self,
        name: str,
        context: contexts.Context | None = None,
        kind: api.SpanKind = api.SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[api.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> api.Span:
        try:
            within: Any = (current.context() if context is None else context).get(SPAN_KEY)
            parent: api.SpanContext | None = within._context if type(within) is Span else None
            if (
                parent is not None
                and parent[3] & 1
                and self.sampler is sampling.DEFAULT_ON
                and self._tracer_config.is_enabled
                and type(self.id_generator) is RandomIdGenerator
            ):  # under a sampled span of ours, and always on: nothing to decide
                made = tuple.__new__(
                    api.SpanContext, (parent[0], getrandbits(64) or 1, False, parent[3], parent[4], True)
                )
            else:
                made, parent, recording, attributes = self._decide(
                    within, name, context, kind, attributes, links
                )
                if not recording:
                    return api.NonRecordingSpan(context=made)
            span: Span = object.__new__(Span)  # two calls less than Span(...)
            span._tracer, span._name, span._context, span._parent, span._kind = self, name, made, parent, kind
            span._start_time = time_ns() if start_time is None else start_time
            span._more = {}
            if type(attributes) is Fixed and attributes.fits(self._span_limits):
                span._fixed = attributes
            elif attributes:
                span.set_attributes(attributes)
            if links or not (record_exception and set_status_on_exception):
                _unusual(span, links, record_exception, set_status_on_exception)
            processor = self.span_processor
            if type(processor) is not Processors:
                processor.on_start(span, parent_context=context)
            elif starting := processor.starting[self.foreign]:
                for one in starting:
                    one(span, parent_context=context)
            return span
        except Exception as error:
            guard.caught("spans.start", error)
            return super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )

    def _decide(  # noqa: PLR0917  (likewise)
        self,
        within: api.Span | None,
        name: str,
        context: contexts.Context | None,
        kind: api.SpanKind,
        attributes: types.Attributes,
        links: Sequence[api.Link] | None,
    ) -> tuple[api.SpanContext, api.SpanContext | None, bool, types.Attributes]:
        """The context of a span, its parent's, whether it is recorded, and its attributes."""
        # By position: a property is a call. Trace, span, remote, flags, state, valid.
        parent: api.SpanContext | None = None if within is None else within.get_span_context()
        if not self._tracer_config.is_enabled:
            return parent or api.INVALID_SPAN_CONTEXT, None, False, None
        ids = self.id_generator
        if parent is None or not parent[5]:
            parent, trace_id = None, ids.generate_trace_id()
            random = ids.is_trace_id_random()
        else:
            trace_id = parent[0]
            random = bool(parent[3] & api.TraceFlags.RANDOM_TRACE_ID)
        if self.sampler is sampling.DEFAULT_ON and (parent is None or parent[3] & 1):
            recording, flags = True, _RANDOM if random else _SAMPLED
            state = NO_STATE if parent is None else parent[4] or NO_STATE
        else:
            chosen = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            recording = chosen.decision.is_recording()  # type: ignore[no-untyped-call]
            sampled = chosen.decision.is_sampled()  # type: ignore[no-untyped-call]
            flags = api.TraceFlags(sampled | random * api.TraceFlags.RANDOM_TRACE_ID)
            state, attributes = chosen.trace_state or NO_STATE, chosen.attributes
        # As SpanContext() makes it, less its look at whether the numbers are in range.
        made = tuple.__new__(api.SpanContext, (trace_id, ids.generate_span_id(), False, flags, state, True))
        return made, parent, recording, attributes


def _unusual(
    span: Span, links: Sequence[api.Link] | None, record_exception: bool, set_status_on_exception: bool
) -> None:
    if links:
        span._links = span._new_links(links)
    span._record_exception = record_exception
    span._set_status_on_exception = set_status_on_exception


class TracerProvider(sdk.TracerProvider):
    """The SDK's provider, with light tracers."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"active_span_processor": Processors(), **given})

    _light = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() != "true"

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> api.Tracer:
        tracer = super().get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        if self._light and type(tracer) is sdk.Tracer:
            tracer.__class__ = Tracer  # the same state, and the provider's table keeps it
            cast(Tracer, tracer).foreign = not official(instrumenting_module_name)
        return tracer
