"""A span as it waits for its export: one flat tuple of texts and numbers.

Three things were measured, on a service of 20 requests a second with ten spans each:

* a span encoded as it ends costs 100 to 200 us, in a row with others 15: in between the service has
  pushed the encoder out of the processor's caches;
* spans that wait as objects, a dozen each, outlive the garbage collector's young generations and
  bring on whole collections: 100 ms in a service with a model SDK;
* a tuple that holds nothing but texts and numbers is let go by the collector where it first meets it.

So what will be said of a span is put into such a tuple as it ends, and encoded in a row by the exporting
thread. What does not fit (events, links, an error, values that are mappings) is encoded at once.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from taximeter import otlp, redact, spanattributes, spans

#: A tuple among the values is one of these: the API lets no other in.
_SIMPLE: Final = frozenset({str, int, float, bool, tuple})
_MAX_ORIGINS: Final = 1024
_HEAD: Final = 10
_SERVER: Final = 2  # SPAN_KIND_SERVER

#: Number of resource and scope, of what is fixed, name, trace, span, parent (0: none), whether it is remote,
#: kind, start, end; then all other keys and all their values.
Waiting = tuple[Any, ...]

#: By number, from 1: a tuple with an object in it is not let go.
_origins: list[tuple[Resource, InstrumentationScope | None]] = []
_numbering = threading.RLock()  # a finalizer may come in between
#: All that an ordinary span has of its own; else it has events, links, a status, odd attributes.
_ORDINARY: Final = frozenset(
    (
        *("_tracer", "_name", "_context", "_parent", "_kind", "_start_time", "_end_time", "_more", "_fixed"),
        *("_lock", "_record_exception", "_set_status_on_exception"),
    )
)


def keep(span: ReadableSpan) -> Waiting | None:
    """All that is to be said of ``span``, which has ended; ``None`` where it does not fit."""
    if type(span) is not spans.Span:
        return None
    if span._context[4] is not spans.NO_STATE and span._context[4]:  # whether it is empty is a call
        return None
    fixed, more = span._fixed, span._more
    if not _ORDINARY.issuperset(span.__dict__):
        odd = _odd(span)
        if odd is None:
            return None
        fixed, more = spanattributes.NOTHING, odd
    elif fixed and not (fixed.number and more.keys().isdisjoint(fixed)):
        fixed, more = spanattributes.NOTHING, {**fixed, **more}
    more = more.copy()  # in one step: another thread may be about to set one more
    tracer, context, parent = span._tracer, span._context, span._parent
    resource, origin = tracer.origin
    if resource is not tracer.resource and (origin := _number(tracer)) == 0:
        return None
    return (
        origin,
        fixed.number,
        span._name,
        context[0],
        context[1],
        0 if parent is None else parent[1],
        parent is not None and parent[2],
        span._kind._value_ + 1,
        span._start_time,
        span._end_time,
        *more,
        *more.values(),
    )


def _number(tracer: spans.Tracer) -> int:
    """A number for the tracer's resource and scope; 0: one too many."""
    with _numbering:
        if len(_origins) >= _MAX_ORIGINS:
            return 0
        _origins.append((tracer.resource, tracer._instrumentation_scope))
        tracer.origin = tracer.resource, len(_origins)
        return len(_origins)


def renew() -> None:
    """Begin anew in a forked process, where another thread may have held the lock."""
    global _numbering  # noqa: PLW0603
    _numbering = threading.RLock()


def _odd(span: spans.Span) -> dict[str, Any] | None:
    """All attributes of a span in whose place there are the SDK's, or what another processor put there."""
    mine = span.__dict__
    if "_events" in mine or "_links" in mine or "_status" in mine or "_attributes" not in mine:
        return None
    given = span._attributes
    if isinstance(given, BoundedAttributes):
        if given.dropped:
            return None
        given = given._dict.copy()
    return given if _SIMPLE.issuperset(map(type, given.values())) else None


def encode(kept: Waiting, redactor: redact.Redactor) -> otlp.Encoded:
    """What may leave of it, as bytes."""
    middle = (len(kept) + _HEAD) // 2
    more: Any = dict(zip(kept[_HEAD:middle], kept[middle:], strict=True))
    origin, number, name, trace_id, span_id, parent_id, remote, kind, start, end = kept[:_HEAD]
    clean = redactor.attributes(more, server=kind == _SERVER)
    if not number:
        attributes = otlp.span_attributes(clean)
    elif clean is more:
        attributes = _fixed(spanattributes.FIXED[number], redactor) + otlp.span_attributes(more)
    else:  # what may be said of one attribute depends on others
        clean = redactor.attributes({**spanattributes.FIXED[number], **more}, server=kind == _SERVER)
        attributes = otlp.span_attributes(clean)
    resource, scope = _origins[origin - 1]
    return (
        resource,
        scope,
        otlp.message(trace_id, span_id, parent_id, remote, name, kind, start, end, attributes),
    )


def _fixed(given: spanattributes.Fixed, redactor: redact.Redactor) -> bytes:
    if given.encoded is None:
        given.encoded = otlp.span_attributes(redactor.attributes(given))
    return given.encoded
