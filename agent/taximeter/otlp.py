"""Spans as OTLP bytes, written directly.

The SDK builds a tree of protobuf objects for each span, 44 us of them with the interpreter's lock
held, and throws it away. Here the bytes are put together, and what repeats from span to span - an
attribute with its value, a scope, a resource - is encoded once and kept, bounded. The result is
what protobuf would serialise (a test compares them); anything unusual goes through protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._internal import _encode_key_value
from opentelemetry.exporter.otlp.proto.common._internal.trace_encoder import _SPAN_KIND_MAP
from opentelemetry.exporter.otlp.proto.common._internal.trace_encoder import _encode_links as encode_links
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import StatusCode

from taximeter import guard

_MAX_KEPT: Final = 1024
#: A key with more values than these is an id or a hash: its next value is not one of them.
_MAX_VALUES: Final = 64
#: Longer texts are not likely to repeat, and would make the table large.
_MAX_KEPT_TEXT: Final = 256
_FIXED64: Final = struct.Struct("<Q").pack
_DOUBLE: Final = struct.Struct("<d").pack
_FIXED32: Final = struct.Struct("<I").pack
_LOCAL, _REMOTE = 0x100, 0x300  # SpanFlags: whether the parent is known to be remote, and is

_pairs: dict[tuple[str, str | int], bytes] = {}  # by key and value: field 9 of a span, an attribute
_values: dict[str, int] = {}  # how many of each key are kept
_REPEATING: Final = frozenset({str, int})
_keys: dict[str, bytes] = {}


def varint(number: int) -> bytes:
    """Base-128, as protobuf writes lengths and unsigned integers."""
    if number < 0x80:
        return _BYTES[number]
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_BYTES: Final = [bytes((number,)) for number in range(0x80)]


def field(tag: bytes, data: bytes) -> bytes:
    """A length-delimited field."""
    return tag + varint(len(data)) + data


def _value(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        return field(b"\x0a", value.encode("utf-8", "replace"))
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int and -(1 << 63) <= value < 1 << 63:
        return b"\x18" + varint(value & 0xFFFFFFFFFFFFFFFF)
    if kind is float:
        return b"\x21" + _DOUBLE(value)
    raise TypeError(kind)


def _pair(key: str, value: Any) -> bytes:
    """One KeyValue."""
    try:
        encoded = _value(value)
    except TypeError:  # a sequence, a mapping, bytes, None
        try:
            return bytes(_encode_key_value(key, value).SerializeToString())
        except Exception as error:  # a number of 70 bits: it costs itself, not its span
            guard.caught("otlp.attribute", error)
            return b""
    name = _keys.get(key)
    if name is None:
        name = field(b"\x0a", key.encode("utf-8", "replace"))
        if len(_keys) < _MAX_KEPT:
            _keys[key] = name
    return name + field(b"\x12", encoded)


def attributes(tag: bytes, given: Mapping[str, Any] | None) -> bytes:
    """``given`` as repeated KeyValue."""
    if not given:
        return b""
    return b"".join([field(tag, pair) for key, value in given.items() if (pair := _pair(key, value))])


def span_attributes(given: Mapping[str, Any]) -> bytes:
    """The attributes of a span."""
    if not _REPEATING.issuperset(map(type, given.values())):
        return b"".join([_attribute(key, value) for key, value in given.items()])
    parts: list[Any] = list(map(_pairs.get, given.items()))
    if None in parts:
        for at, (item, known) in enumerate(zip(given.items(), parts, strict=True)):
            if known is None:
                parts[at] = _attribute(*item)
    return b"".join(parts)


def _attribute(key: str, value: Any) -> bytes:
    """One attribute of a span; it is kept if it may be the same again."""
    pair = _pair(key, value)
    if not pair:
        return b""
    known = field(b"\x4a", pair)
    kind = type(value)
    if kind is int or (kind is str and len(value) <= _MAX_KEPT_TEXT):  # a bool would pass for an integer
        values = _values.get(key, 0)
        if values < _MAX_VALUES and (values or len(_values) < _MAX_KEPT):
            _values[key] = values + 1
            _pairs[key, value] = known
    return known


def plain(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The dictionary inside the SDK's attributes, which are slow to walk."""
    return given._dict if isinstance(given, BoundedAttributes) else given or {}


def _event(event: Event) -> bytes:
    data = [b"\x09", _FIXED64(event.timestamp), field(b"\x12", event.name.encode("utf-8", "replace"))]
    data.append(attributes(b"\x1a", event.attributes))
    if event.dropped_attributes:
        data.append(b"\x20" + varint(event.dropped_attributes))
    return b"".join(data)


def span(one: ReadableSpan) -> bytes:
    """One Span message."""
    context, parent = one.get_span_context(), one.parent
    assert context is not None and one.start_time is not None and one.end_time is not None
    state = b""
    if context.trace_state:
        text = ",".join(f"{key}={value}" for key, value in context.trace_state.items())
        state = field(b"\x1a", text.encode("utf-8", "replace"))
    rest: list[bytes] = []
    if one.dropped_attributes:
        rest += b"\x50", varint(one.dropped_attributes)
    if events := one.events:
        rest += [field(b"\x5a", _event(event)) for event in events]
        if one.dropped_events:
            rest += b"\x60", varint(one.dropped_events)
    if links := one.links:
        rest += [field(b"\x6a", link.SerializeToString()) for link in encode_links(links) or ()]
        if one.dropped_links:
            rest += b"\x70", varint(one.dropped_links)
    status = b""
    if one.status.description:
        status = field(b"\x12", one.status.description.encode("utf-8", "replace"))
    if one.status.status_code is not StatusCode.UNSET:
        status += b"\x18" + varint(one.status.status_code.value)
    rest.append(field(b"\x7a", status))
    return message(
        context.trace_id,
        context.span_id,
        parent.span_id if parent is not None else 0,
        parent is not None and parent.is_remote,
        one.name,
        int(_SPAN_KIND_MAP[one.kind]),
        one.start_time,
        one.end_time,
        span_attributes(plain(one._attributes)),
        state,
        b"".join(rest),
    )


def message(  # noqa: PLR0917  (called once a span, by position)
    trace_id: int,
    span_id: int,
    parent_id: int,
    remote: bool,
    name: str,
    kind: int,
    start: int,
    end: int,
    attributes: bytes,
    state: bytes = b"",
    rest: bytes = b"\x7a\x00",
) -> bytes:
    """A Span message of its parts; ``rest`` is what comes after the attributes, to the status."""
    return b"".join(
        [
            b"\x0a\x10",
            trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            span_id.to_bytes(8, "big"),
            state,
            b"\x22\x08" + parent_id.to_bytes(8, "big") if parent_id else b"",
            field(b"\x2a", name.encode("utf-8", "replace")),
            b"\x30" + _BYTES[kind] + b"\x39",
            _FIXED64(start),
            b"\x41",
            _FIXED64(end),
            attributes,
            rest,
            b"\x85\x01",
            _FIXED32(_REMOTE if remote else _LOCAL),
        ]
    )


#: An encoded span: of which resource and scope, and its message.
Encoded = tuple[Resource, InstrumentationScope | None, bytes]


def encode(one: ReadableSpan) -> Encoded:
    """``one`` for :func:`request`."""
    return one.resource, one.instrumentation_scope, span(one)


def request(spans: Iterable[Encoded]) -> bytes:
    """An ExportTraceServiceRequest of encoded spans, by resource and scope."""
    grouped: dict[int, tuple[Resource, dict[int, tuple[InstrumentationScope | None, list[bytes]]]]] = {}
    for resource, scope, encoded in spans:
        _, scopes = grouped.setdefault(id(resource), (resource, {}))
        known = scopes.get(id(scope))
        if known is None:
            known = scopes[id(scope)] = scope, []
        known[1].append(field(b"\x12", encoded))
    parts = []
    for resource, scopes in grouped.values():
        head, tail = _about(resource, _resource)
        inner = [head, *(_scoped(scope, encoded) for scope, encoded in scopes.values()), tail]
        parts.append(field(b"\x0a", b"".join(inner)))
    return b"".join(parts)


def _scoped(scope: InstrumentationScope | None, spans: Sequence[bytes]) -> bytes:
    head, tail = _about(scope, _scope)
    return field(b"\x12", head + b"".join(spans) + tail)


_kept: dict[int, tuple[Any, tuple[bytes, bytes]]] = {}  # by identity, which the object kept beside it holds


def _about(one: Any, encode: Callable[[Any], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """What is written before and after the spans of a resource or a scope: always the same."""
    known = _kept.get(id(one))
    if known is None:
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        known = _kept[id(one)] = one, encode(one)
    return known[1]


def _resource(resource: Resource) -> tuple[bytes, bytes]:
    head = field(b"\x0a", attributes(b"\x0a", resource.attributes))
    return head, field(b"\x1a", resource.schema_url.encode()) if resource.schema_url else b""


def _scope(scope: InstrumentationScope | None) -> tuple[bytes, bytes]:
    about = b""
    if scope is not None:
        about = field(b"\x0a", scope.name.encode()) if scope.name else b""
        about += field(b"\x12", scope.version.encode()) if scope.version else b""
        about += attributes(b"\x1a", scope.attributes)
    tail = field(b"\x1a", scope.schema_url.encode()) if scope is not None and scope.schema_url else b""
    return field(b"\x0a", about), tail
