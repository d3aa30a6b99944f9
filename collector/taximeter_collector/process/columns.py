"""The spans of a request a column at a time: for what has to look at every span and may cost next to nothing.

Python pays for each span it touches, so what can be is asked of all of a request's spans at once. Their ids
and times are read by a schema in which nothing repeats but these: protobuf merges a field that comes again
into the first, so all spans become one, whose ``trace_id`` lists the ids of all in order. Where a column has
not one value for each span, or on demand, each span's head is read by itself (:attr:`Columns.heads`).

As at the door (:mod:`~taximeter_collector.receive.span_check`), a request in which one span says a field
twice and another leaves it out is not noticed: its spans may change places among themselves.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, compress
from operator import ne
from typing import Any, NamedTuple

from taximeter_collector.process import raw
from taximeter_collector.schema import BYTES, FIXED64, MANY, MESSAGE, ONE, Schema, messages

_SCHEMA: Schema = {
    "Spans": {
        "trace_id": (1, BYTES, MANY, ""),
        "trace_state": (3, BYTES, MANY, ""),
        "start": (7, FIXED64, MANY, ""),
        "end": (8, FIXED64, MANY, ""),
        "status": (15, BYTES, MANY, ""),
    },
    "Scopes": {"spans": (2, MESSAGE, ONE, "Spans")},
    "Resources": {"scopes": (2, MESSAGE, ONE, "Scopes")},
    "Merged": {"resources": (1, MESSAGE, ONE, "Resources")},
}
_Merged: Any = messages("taximeter.columns", _SCHEMA)["Merged"]
_CODE, _FLAGS = 0x18, 6  # the tag of a status's code; the size of a span's flags


class Scope(NamedTuple):
    """Where the spans of one scope are among the request's."""

    resource: Any  # its Resource message
    scope: Any  # its Scope message
    begin: int
    end: int


class Columns:
    """A request's spans. Raises ``DecodeError`` where it is none."""

    def __init__(self, payload: bytes, *, careful: bool = False) -> None:
        self.spans: list[bytes] = []
        self.scopes: list[Scope] = []
        for resource in raw.Traces.FromString(payload).resources:
            for scope in resource.scopes:
                begin = len(self.spans)
                self.spans += scope.spans
                self.scopes.append(Scope(resource, scope, begin, len(self.spans)))
        merged = _Merged.FromString(payload).resources.scopes.spans
        self.trace_ids: list[bytes] = list(merged.trace_id)
        self.starts: list[int] = list(merged.start)
        self.ends: list[int] = list(merged.end)
        self._statuses: list[bytes] = list(merged.status)
        self.heads: list[Any] | None = None  # where a column did not tell: of each span
        told = len(self.trace_ids), len(self.starts), len(self.ends)
        if careful or merged.trace_state or told != (len(self),) * 3:
            self.heads = [raw.Head.FromString(span) for span in self.spans]
            self.trace_ids = [head.trace_id for head in self.heads]
            self.starts = [head.start for head in self.heads]
            self.ends = [head.end for head in self.heads]

    def __len__(self) -> int:
        return len(self.spans)

    def runs(self) -> list[int]:
        """Where a run of neighbours of one trace and scope begins, and the end of the last."""
        if not self.spans:
            return []
        ids = self.trace_ids
        begins = compress(range(1, len(self)), map(ne, ids, ids[1:]))
        if len(self.scopes) == 1:
            return [0, *begins, len(self)]
        return sorted(
            {len(self), *begins, *(scope.begin for scope in self.scopes if scope.begin < scope.end)}
        )

    @cached_property
    def coded(self) -> list[tuple[int, int]]:
        """The spans whose status has a code, and the codes."""
        if len(self._statuses) == len(self):
            return _coded(range(len(self)), self._statuses)
        known = sum(bool(raw.status_code(status)) for status in self._statuses)
        if not known:
            return []
        with contextlib.suppress(IndexError):  # a span too short for any
            # Every serialiser writes the status last, or before the flags, and in it the code.
            for at in (-2, -2 - _FLAGS):
                found = self._coded([i for i, span in enumerate(self.spans) if span[at] == _CODE])
                if len(found) == known:
                    return found
        return self._coded(range(len(self)))

    def _coded(self, indexes: Sequence[int]) -> list[tuple[int, int]]:
        return _coded(indexes, [raw.Head.FromString(self.spans[index]).status for index in indexes])

    def holding(self, some: bytes) -> Iterator[int]:
        """The spans that hold these bytes, and perhaps one that only begins with the last of them.

        One search through all costs half of one in each span.
        """
        joined, ends = self._joined
        search = re.compile(re.escape(some)).search  # compiled once: re remembers
        found = search(joined)
        while found:
            index = bisect_right(ends, found.start())
            if index >= len(ends):
                return
            yield index
            found = search(joined, ends[index])

    @cached_property
    def _joined(self) -> tuple[bytes, list[int]]:
        return b"".join(self.spans), list(accumulate(map(len, self.spans)))


def _coded(indexes: Sequence[int], statuses: list[bytes]) -> list[tuple[int, int]]:
    codes = zip(indexes, map(raw.status_code, statuses), strict=True)
    return [(index, code) for index, code in codes if code]
