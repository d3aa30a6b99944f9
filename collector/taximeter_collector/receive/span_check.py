"""Spans that are none: with ids of a wrong length, or of zeros only, or with an end before the start.

Every request is read once in full before it is acknowledged, so that what is stored is valid. For spans
this reading is made to tell more than yes: in a schema derived from the official one nothing repeats but
ids and times. Protobuf merges a field that comes again into the first, so all spans become one whose
``trace_id`` lists the ids of all, in order, and the parser builds no object for any attribute. It is
quicker than the official classes, refuses the same bytes (and a time that comes as a list, which is a field
unknown to those), and its columns are checked a column at a time: in all a tenth of what a look at each span
would cost.

What a column cannot tell is which span a value belongs to. Where the numbers of values and spans differ, or
any value is wrong, :func:`good_spans` looks at each span by itself. Unseen passes only a request in which one
span says a field twice and another leaves the same one out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taximeter_collector.process import raw
from taximeter_collector.process.raw import varint

_COLUMNS = ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano")
_BETWEEN = ("trace_state", "name", "kind")  # what would stand between the columns, serialised
#: Of each column of ids: the tag and the length that stand before a right one, and whether zeros are none.
_IDS = ((b"\x0a\x10", True), (b"\x12\x08", True), (b"\x22\x08", False))
_STARTS, _ENDS = b"\x3a", b"\x42"  # the tags of the columns of times, which are packed


def _merged() -> Any:
    """The request's class in the derived schema."""
    pool = descriptor_pool.DescriptorPool()
    kinds = descriptor_pb2.FieldDescriptorProto

    def add(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            add(needed)
        described = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(described)
        described.ClearField("service")
        for message in described.message_type:
            for field in message.field:
                # A list of numbers is packed: made single, it would be skipped and not read.
                if field.type in (kinds.TYPE_MESSAGE, kinds.TYPE_STRING, kinds.TYPE_BYTES):
                    field.label = kinds.LABEL_OPTIONAL
                if message.name == "Span" and field.name in _COLUMNS:
                    field.label = kinds.LABEL_REPEATED
        pool.Add(described)

    add(ExportTraceServiceRequest.DESCRIPTOR.file)
    name = ExportTraceServiceRequest.DESCRIPTOR.full_name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


_Merged: Any = _merged()


class Good(NamedTuple):
    """What is left of a request. ``wrong``: what was wrong with the first span that was left out."""

    payload: bytes
    spans: int
    wrong: str


def check(payload: bytes) -> tuple[int, bool]:
    """How many spans a serialised request has, and whether all are right. Raises ``DecodeError``."""
    columns = _Merged.FromString(payload).resource_spans.scope_spans.spans
    count = raw.count(payload)
    return count, not count or _right(columns, count)


def good_spans(payload: bytes) -> Good:
    """The request without its wrong spans."""
    groups, count, first = [], 0, ""
    for resource, scope, spans, heads in raw.heads(payload):
        reasons = [_wrong(head) for head in heads]
        good = [span for span, reason in zip(spans, reasons, strict=True) if not reason]
        groups.append(raw.RawSpans(resource, scope, good))
        count += len(good)
        first = first or next(filter(None, reasons), "")
    return Good(raw.join_groups(groups), count, first)


def _wrong(head: Any) -> str:
    """What is wrong with a span; empty if nothing is."""
    for name, found, size in (("trace_id", head.trace_id, 16), ("span_id", head.span_id, 8)):
        if len(found) != size:
            return f"{name} has {len(found)} bytes, not {size}"
        if not any(found):
            return f"{name} is all zeros"
    if len(head.parent_span_id) not in (0, 8):
        return f"parent_span_id has {len(head.parent_span_id)} bytes, not 8"
    if 0 < head.end < head.start:  # 0: it is not said
        return f"it ends ({head.end}) before it starts ({head.start})"
    return ""


def _right(columns: Any, count: int) -> bool:
    parents = len(columns.parent_span_id)
    always = (columns.trace_id, columns.span_id, columns.start_time_unix_nano, columns.end_time_unix_nano)
    if any(len(column) != count for column in always):
        return False
    for name in _BETWEEN:
        columns.ClearField(name)
    # Serialised, a column of right ids is a table whose rows have one length: looked at down its columns.
    table: bytes = columns.SerializeToString()
    at = 0
    for (before, some), rows in zip(_IDS, (count, count, parents), strict=True):
        width = 2 + before[1]
        end = at + rows * width
        if table[at:end:width] != before[:1] * rows or table[at + 1 : end : width] != before[1:] * rows:
            return False
        if some and table.find(before + bytes(before[1]), at, end) >= 0:  # zeros, or what looks like them
            return False
        at = end
    times = []
    for tag in (_STARTS, _ENDS):
        begin = at + len(tag) + len(varint(8 * count))
        if table[at:begin] != tag + varint(8 * count):
            return False
        at = begin + 8 * count
        times.append(int.from_bytes(table[begin:at], "little"))
    starts, ends = times
    return _in_order(starts, ends, count)


def _in_order(starts: int, ends: int, count: int) -> bool:
    """Whether no start is behind its end: all are subtracted at once, as one long number each.

    The highest bit of each end is set first, so that nothing is ever borrowed from a neighbour: it is still
    set afterwards where the end is not smaller. Times that have that bit already (2262 and later) are no.
    """
    top = int.from_bytes((b"\x00" * 7 + b"\x80") * count, "little")
    return not (starts | ends) & top and ((ends | top) - starts) & top == top
