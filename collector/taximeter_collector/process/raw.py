"""Traces without their attributes decoded: a private schema in which a span is just bytes.

An ``ExportTraceServiceRequest`` is a repeated field, and so is everything down to the span. Declared
as ``repeated bytes``, spans can be grouped by trace, kept or dropped, and given one more attribute
(encoded and appended), while the parser never builds an object for any attribute.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, groupby
from typing import Any, NamedTuple

from taximeter_collector.schema import BYTES, ENUM, FIXED64, MANY, MESSAGE, ONE, STRING, Schema, messages

#: message -> field -> (number, type, label, message type); the numbers are OTLP's.
_SCHEMA: Schema = {
    "Status": {"code": (3, ENUM, ONE, "")},
    "Head": {  # the fields of a Span that every decision needs; the rest is skipped
        "trace_id": (1, BYTES, ONE, ""),
        "span_id": (2, BYTES, ONE, ""),
        "trace_state": (3, STRING, ONE, ""),
        "parent_span_id": (4, BYTES, ONE, ""),
        "start": (7, FIXED64, ONE, ""),
        "end": (8, FIXED64, ONE, ""),
        "status": (15, BYTES, ONE, ""),
    },
    "Scope": {
        "scope": (1, BYTES, ONE, ""),
        "spans": (2, BYTES, MANY, ""),
        "schema_url": (3, STRING, ONE, ""),
    },
    "Resource": {
        "resource": (1, BYTES, ONE, ""),
        "scopes": (2, MESSAGE, MANY, "Scope"),
        "schema_url": (3, STRING, ONE, ""),
    },
    "Traces": {"resources": (1, MESSAGE, MANY, "Resource")},
    "HeadScope": {"spans": (2, MESSAGE, MANY, "Head")},
    "HeadResource": {"scopes": (2, MESSAGE, MANY, "HeadScope")},
    "Heads": {"resources": (1, MESSAGE, MANY, "HeadResource")},
}


_CLASSES = messages("taximeter.raw", _SCHEMA)
Traces: Any = _CLASSES["Traces"]
Head: Any = _CLASSES["Head"]
_Heads: Any = _CLASSES["Heads"]
_Status: Any = _CLASSES["Status"]


#: How a span begins whose trace id is its first field and 16 bytes long, as every SDK writes it.
TRACE_ID_FIRST = b"\x0a\x10"


class RawSpan(NamedTuple):
    """One span as it came, and where it stood."""

    resource: Any  # its Resource message
    scope: Any  # its Scope message
    span: bytes

    @property
    def trace_id(self) -> bytes:
        return trace_id(self.span)


class RawSpans(NamedTuple):
    """Neighbouring spans of one resource and scope."""

    resource: Any
    scope: Any
    spans: list[bytes]
    mark: bytes = b""  # encoded attributes, to be appended to each


def trace_id(span: bytes) -> bytes:
    """The trace id of an encoded span; empty where it has none."""
    if span[:2] == TRACE_ID_FIRST:
        return span[2:18]
    found: bytes = Head.FromString(span).trace_id
    return found


def trace_ids(spans: Iterable[bytes]) -> list[bytes]:
    """The trace id of each span."""
    return [span[2:18] if span[:2] == TRACE_ID_FIRST else trace_id(span) for span in spans]


def heads(payload: bytes) -> Iterator[tuple[Any, Any, list[bytes], list[Any]]]:
    """By resource and scope, their messages, the spans, and the head of each. Raises ``DecodeError``.

    Two parses of the whole cost a tenth of one parse for each span.
    """
    for resource, heads in zip(Traces.FromString(payload).resources, _Heads.FromString(payload).resources):  # noqa: B905
        for scope, with_heads in zip(resource.scopes, heads.scopes):  # noqa: B905  (the same bytes)
            yield resource, scope, list(scope.spans), list(with_heads.spans)


def status_code(status: bytes) -> int:
    """The code of an encoded status (:attr:`Head.status`)."""
    if not status:
        return 0
    if len(status) == 2 and status[0] == 0x18:  # nothing but the code
        return status[1]
    code: int = _Status.FromString(status).code
    return code


def count(payload: bytes) -> int:
    """How many spans a serialised request has. Raises ``DecodeError``."""
    return sum(
        len(scope.spans) for resource in Traces.FromString(payload).resources for scope in resource.scopes
    )


def scopes(payload: bytes) -> Iterator[tuple[Any, Any, list[bytes]]]:
    """A serialised request by resource and scope: their messages and the spans. Raises ``DecodeError``."""
    for resource in Traces.FromString(payload).resources:
        for scope in resource.scopes:
            yield resource, scope, list(scope.spans)


def parts(payload: bytes, ranges: Iterable[tuple[int, int]]) -> Iterator[RawSpans]:
    """For each (begin, end) these spans, counted through the request; each lies in one scope."""
    found = [(r, scope) for r in Traces.FromString(payload).resources for scope in r.scopes]
    firsts = list(accumulate((len(scope.spans) for _, scope in found), initial=0))
    for begin, end in ranges:
        at = bisect_right(firsts, begin) - 1
        resource, scope = found[at]
        yield RawSpans(resource, scope, scope.spans[begin - firsts[at] : end - firsts[at]])


def spans(payload: bytes) -> Iterator[RawSpan]:
    """Every span of a serialised request, in order. Raises ``DecodeError``."""
    for resource, scope, found in scopes(payload):
        for span in found:
            yield RawSpan(resource, scope, span)


def join(parts: Iterable[RawSpan]) -> bytes:
    """A serialised request of these spans; neighbours of one resource and scope share them."""
    return join_groups(grouped(parts))


def grouped(parts: Iterable[RawSpan]) -> list[RawSpans]:
    """The same spans, neighbours of one scope together."""
    groups: list[RawSpans] = []
    for part in parts:
        if not groups or groups[-1].scope is not part.scope:
            groups.append(RawSpans(part.resource, part.scope, []))
        groups[-1].spans.append(part.span)
    return groups


def apart(groups: Iterable[RawSpans]) -> list[RawSpan]:
    """The same spans, one by one."""
    return [
        RawSpan(group.resource, group.scope, span + group.mark) for group in groups for span in group.spans
    ]


def join_groups(groups: Iterable[RawSpans]) -> bytes:
    """A serialised request of these spans, in their order.

    Put together by hand: the library would copy each span three times.
    """
    held = list(groups)  # which keeps the messages, and so their identities
    request: list[bytes] = []
    for _, of_resource in groupby(held, lambda group: id(group.resource)):
        scopes: list[bytes] = []
        for _, of_scope in groupby(of_resource, lambda group: id(group.scope)):
            alike = list(of_scope)
            last = alike[0]
            pieces = [_about("Scope", scope=last.scope.scope, schema_url=last.scope.schema_url)]
            for group in alike:
                mark, longer = group.mark, len(group.mark)
                for span in group.spans:
                    size = len(span) + longer
                    pieces += (_HEADS[size] if size < len(_HEADS) else _head(size), span, mark)
            scopes += (_head(sum(map(len, pieces))), *pieces)
        about = _about("Resource", resource=last.resource.resource, schema_url=last.resource.schema_url)
        request += (b"\x0a" + varint(len(about) + sum(map(len, scopes))), about, *scopes)
    return b"".join(request)


def _about(kind: str, **fields: Any) -> bytes:
    encoded: bytes = _CLASSES[kind](**fields).SerializeToString()
    return encoded


def text_attribute(key: str, value: str) -> bytes:
    """One more attribute of a span, encoded: append it to the span's bytes."""
    encoded = value.encode()
    return _attribute(key, b"\x0a" + varint(len(encoded)) + encoded)


def number_attribute(key: str, value: float) -> bytes:
    """The same for a double."""
    return _attribute(key, b"\x21" + struct.pack("<d", value))


def boolean_attribute(key: str, value: bool) -> bytes:
    """The same for a truth value."""
    return _attribute(key, b"\x10" + bytes([value]))


def _attribute(key: str, value: bytes) -> bytes:
    name = key.encode()
    pair = b"\x0a" + varint(len(name)) + name + b"\x12" + varint(len(value)) + value
    return b"\x4a" + varint(len(pair)) + pair  # field 9 of Span: attributes


def varint(number: int) -> bytes:
    """A number as protobuf writes lengths."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _head(size: int) -> bytes:
    """What stands before a span, or a scope, of so many bytes: both are field 2."""
    return b"\x12" + varint(size)


_HEADS = [_head(size) for size in range(2048)]
