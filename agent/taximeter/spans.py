"""Spans that cost a third of the SDK's to make, for every instrumentor.

What costs in the SDK's span is what most spans never use: two bounded lists with a lock each, a
copy at the end, a sampler's result object, and six calls for each attribute. Here events and links
are made when one is added, attributes of the four plain types go straight into a dictionary (any
other goes the SDK's way), and the processors get the span itself at its end: an ended span cannot
be changed. It is a subclass of the SDK's, so processors and hooks of others see what they know.

The SDK's own tracers stay where its internal metrics are wanted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.util import types

from taximeter import current, guard

_PLAIN: Final = frozenset({str, int, float, bool})
UNSET: Final = api.Status(api.StatusCode.UNSET)
_SAMPLED: Final = api.TraceFlags(api.TraceFlags.SAMPLED)
_RANDOM: Final = api.TraceFlags(api.TraceFlags.SAMPLED | api.TraceFlags.RANDOM_TRACE_ID)
_NO_STATE: Final = api.TraceState()


class Attributes(BoundedAttributes):
    """The SDK's bounded attributes, with a short way in for plain values."""

    def __init__(self, maxlen: int | None, max_value_len: int | None) -> None:
        self._dict: dict[str, types.AnyValue] = {}
        self.maxlen = maxlen
        self.dropped = 0
        self.max_value_len = max_value_len
        self._lock = threading.Lock()
        self._immutable = False

    def __setitem__(self, key: str, value: types.AnyValue) -> None:
        kind = type(value)
        mine = self._dict
        if (
            kind not in _PLAIN
            or self._immutable
            or not key
            or (self.maxlen is not None and len(mine) >= self.maxlen)
            or (kind is str and self.max_value_len is not None and len(value) > self.max_value_len)  # type: ignore[arg-type]
        ):
            super().__setitem__(key, value)
        else:
            mine[key] = value

    def _set_items(self, attributes: Mapping[str, types.AnyValue]) -> None:
        try:
            mine, longest = self._dict, self.max_value_len
            if self._immutable or (self.maxlen is not None and len(mine) + len(attributes) > self.maxlen):
                for key, value in attributes.items():
                    self[key] = value
                return
            for key, value in attributes.items():
                kind = type(value)
                if (
                    kind not in _PLAIN
                    or not key
                    or (kind is str and longest is not None and len(value) > longest)  # type: ignore[arg-type]
                ):
                    self[key] = value
                else:
                    mine[key] = value
        except Exception as error:
            guard.caught("spans.attributes", error)


class Span(sdk._Span):
    """One span; made by :class:`Tracer` alone."""

    def __new__(cls, *_: Any, **__: Any) -> Span:
        return object.__new__(cls)

    def __init__(  # noqa: PLR0917  (called once a span, by position: keywords cost)
        self,
        tracer: Tracer,
        name: str,
        context: api.SpanContext,
        parent: api.SpanContext | None,
        kind: api.SpanKind,
        attributes: types.Attributes,
        links: Sequence[api.Link],
        record_exception: bool,
        set_status_on_exception: bool,
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._resource = tracer.resource
        self._instrumentation_info = tracer.instrumentation_info
        self._instrumentation_scope = tracer._instrumentation_scope
        self._sampler = tracer.sampler
        self._trace_config = None
        self._record_exception = record_exception
        self._set_status_on_exception = set_status_on_exception
        self._span_processor = tracer.span_processor
        self._limits = limits = tracer._span_limits
        self._lock = threading.Lock()
        self._status = UNSET
        self._start_time: int | None = None
        self._end_time: int | None = None
        self._record_end_metrics = None
        self._attributes: Attributes = Attributes(
            limits.max_span_attributes, limits.max_span_attribute_length
        )
        if attributes:
            self._attributes._set_items(attributes)
        if links:
            self._links = self._new_links(links)

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not there: lists are made when somebody adds.
        if name == "_events":
            self._events = BoundedList(self._limits.max_events)
            return self._events
        if name == "_links":
            self._links = BoundedList(self._limits.max_links)
            return self._links
        raise AttributeError(name)

    @property
    def events(self) -> Sequence[sdk.Event]:
        return tuple(self._events) if "_events" in self.__dict__ else ()

    @property
    def links(self) -> Sequence[api.Link]:
        return tuple(self._links) if "_links" in self.__dict__ else ()

    def _readable_span(self) -> sdk.ReadableSpan:
        return self

    def set_attributes(self, attributes: Mapping[str, types.AnyValue]) -> None:
        if self._end_time is None:
            self._attributes._set_items(attributes)
        else:
            super().set_attributes(attributes)  # which says so

    def end(self, end_time: int | None = None) -> None:
        if self._start_time is None or self._end_time is not None:
            super().end(end_time)  # likewise
            return
        try:
            self._end_time = time_ns() if end_time is None else end_time
            self._attributes._immutable = True
            processor = self._span_processor
            if type(processor) is Processors:
                for ending in processor.endings:
                    ending(self)
            else:
                processor._on_ending(self)
                processor.on_end(self)
        except Exception as error:
            guard.caught("spans.end", error)


class Processors(sdk.SynchronousMultiSpanProcessor):
    """The SDK's chain, with what it will call looked up beforehand: most processors do nothing at a start."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.starting: list[Callable[..., None]] = []
        self.endings: list[Callable[[Span], None]] = []

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        every = self._span_processors
        self.starting = [one.on_start for one in every if type(one).on_start not in _NOTHING]
        endings = [one._on_ending for one in every if type(one)._on_ending not in _NOTHING]
        self.endings = [*endings, *(one.on_end for one in every)]


#: Methods that do nothing.
_NOTHING: Final = (
    *(sdk.SpanProcessor.on_start, sdk.SpanProcessor._on_ending),
    *(BatchSpanProcessor.on_start, BatchSpanProcessor._on_ending),
)


class Tracer(sdk.Tracer):
    """Makes light spans."""

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
            return self._light(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        except Exception as error:
            guard.caught("spans.start", error)
            return super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )

    def _light(  # noqa: PLR0917  (likewise)
        self,
        name: str,
        context: contexts.Context | None,
        kind: api.SpanKind,
        attributes: types.Attributes,
        links: Sequence[api.Link] | None,
        start_time: int | None,
        record_exception: bool,
        set_status_on_exception: bool,
    ) -> api.Span:
        parent: api.SpanContext | None = current.span(context).get_span_context()
        if not self._tracer_config.is_enabled:
            return api.NonRecordingSpan(context=parent or api.INVALID_SPAN_CONTEXT)
        ids = self.id_generator
        # By position: a property is a call. Trace, span, remote, flags, state, valid.
        if parent is None or not parent[5]:
            parent, trace_id = None, ids.generate_trace_id()
            random = ids.is_trace_id_random()
        else:
            trace_id = parent[0]
            random = bool(parent[3] & api.TraceFlags.RANDOM_TRACE_ID)
        if self.sampler is sampling.DEFAULT_ON and (parent is None or parent[3] & 1):
            flags, recording = _SAMPLED, True  # parent-based and always on: nothing to decide
            state = _NO_STATE if parent is None else parent[4]
        else:
            chosen = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            recording = chosen.decision.is_recording()  # type: ignore[no-untyped-call]
            flags = api.TraceFlags(chosen.decision.is_sampled())  # type: ignore[no-untyped-call]
            state, attributes = chosen.trace_state or _NO_STATE, chosen.attributes
        if random:
            sampled = flags is _SAMPLED
            flags = _RANDOM if sampled else api.TraceFlags(flags | api.TraceFlags.RANDOM_TRACE_ID)
        # As SpanContext() makes it, less its look at whether the numbers are in range.
        made = tuple.__new__(api.SpanContext, (trace_id, ids.generate_span_id(), False, flags, state, True))
        if not recording:
            return api.NonRecordingSpan(context=made)
        span = Span(
            self, name, made, parent, kind, attributes, links or (), record_exception, set_status_on_exception
        )
        span._start_time = time_ns() if start_time is None else start_time
        processor = self.span_processor
        if type(processor) is Processors:
            for starting in processor.starting:
                starting(span, parent_context=context)
        else:
            processor.on_start(span, parent_context=context)
        return span


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
        return tracer
