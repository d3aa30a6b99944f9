"""Traces out of a Tempo: a TraceQL search for those of the window, then each trace whole, as OTLP.

Tempo's search returns the first N traces it meets, with no second page; so a span of time that
brings as many as were asked for is halved, until each part is complete. Where there are more traces than a
report should fetch one by one, a uniform sample is taken (by trace id) and said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from taximeter_analysis.readers.place import Place
from taximeter_analysis.readers.web import Web
from taximeter_analysis.store import StoreError
from taximeter_analysis.window import Filters

DEFAULT_WINDOW_S = 24 * 3600.0
MOST_TRACES = 10_000  # a few minutes of fetching
_PAGE = 500
_WORKERS = 8
_PROTOBUF = "application/protobuf"
_ASKED = "kind = server || span.gen_ai.operation.name != nil || span.db.system.name != nil"


class Tempo:
    """One Tempo, one window. ``notes`` fills while `requests` is read."""

    def __init__(
        self,
        where: Place,
        filters: Filters,
        now: float,
        progress: Callable[[str], None],
        most: int = MOST_TRACES,
    ) -> None:
        self.notes: list[str] = []
        self._where, self._progress, self._most = where, progress, most
        self._service = filters.service
        self._since = (
            filters.since if filters.since is not None else (filters.until or now) - DEFAULT_WINDOW_S
        )
        self._until = filters.until if filters.until is not None else now
        if filters.since is None:
            self.notes.append(f"no --since was given: the last {DEFAULT_WINDOW_S / 3600:.0f} h were read")

    def requests(self) -> Iterator[bytes]:
        """Every trace of the window as a serialised ExportTraceServiceRequest.

        Raises:
            StoreError: Tempo cannot be reached, or does not answer as one.
        """
        with Web(self._where) as web:
            wanted = self._search(web)
            chosen = sorted(wanted, key=lambda trace: trace[-16:])[: self._most]
            if len(wanted) > len(chosen):
                self.notes.append(
                    f"a uniform sample of {len(chosen)} of {len(wanted)} traces was read: counts and money "
                    "are of these; narrow the window for exact ones"
                )
            lost = 0
            with ThreadPoolExecutor(_WORKERS) as pool:
                for number, trace in enumerate(pool.map(lambda name: _trace(web, name), sorted(chosen)), 1):
                    if number % 50 == 0:
                        self._progress(f"{number} of {len(chosen)} traces")
                    if trace is None:
                        lost += 1
                    else:
                        yield trace
            if lost:
                self.notes.append(f"{lost} trace(s) that the search found could not be fetched whole")
            self._cross_check(web, len(wanted))

    def _query(self) -> str:
        service = f"resource.service.name = {quoted(self._service)} && " if self._service is not None else ""
        return f"{{ {service}({_ASKED}) }}"

    def _search(self, web: Web) -> set[str]:
        """The ids of all traces of the window."""
        found: set[str] = set()
        full = 0
        # Seconds, and Tempo reads spans late and early: a second more on either side.
        parts = [(math.floor(self._since) - 1, math.ceil(self._until) + 1)]
        while parts:
            start, end = parts.pop()
            answer = web.json("/api/search", q=self._query(), start=start, end=end, limit=_PAGE, spss=1)
            traces = answer.get("traces") or []
            if len(traces) >= _PAGE and end - start > 1:
                middle = (start + end) // 2
                parts += [(start, middle), (middle, end)]
                continue
            full += len(traces) >= _PAGE
            found |= {item["traceID"].rjust(32, "0") for item in traces}
            self._progress(f"{len(found)} traces found")
        if full:
            self.notes.append(
                f"{full} second(s) hold {_PAGE} traces or more, and Tempo's search gives no more of one: "
                "some are missing"
            )
        return found

    def _cross_check(self, web: Web, traces: int) -> None:
        """Tempo's own count of server spans, where its TraceQL metrics are switched on."""
        service = f"resource.service.name = {quoted(self._service)} && " if self._service is not None else ""
        query = f"{{ {service}kind = server }} | count_over_time()"
        start, end = math.floor(self._since), math.ceil(self._until)
        try:
            answer = web.json("/api/metrics/query", q=query, start=start, end=end)
            counted = sum(float(series.get("value") or 0) for series in answer.get("series") or [])
        except (StoreError, ValueError, AttributeError):
            return  # not switched on, or an older one: the report does not need it
        if counted:
            self.notes.append(
                f"by its own TraceQL metrics Tempo counts {counted:.0f} server span(s) in this window; "
                f"{traces} trace(s) were found by search"
            )


def quoted(text: str) -> str:
    """A TraceQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _trace(web: Web, trace: str) -> bytes | None:
    """A trace as OTLP; None when Tempo has not, or has only a part of it."""
    body = web.get(f"/api/v2/traces/{trace}", accept=_PROTOBUF)
    if body is not None:
        fields = _fields(body)
        # TraceByIDResponse: 1 is the trace, a TracesData; 3 the status: absent or 0 when it is whole.
        return fields.get(1) if not fields.get(3) else None
    return web.get(f"/api/traces/{trace}", accept=_PROTOBUF)  # before 2.7; the body is TracesData itself


def _fields(body: bytes) -> dict[int, bytes]:
    """The top-level fields of a protobuf message: lengths as bytes, a number as its one byte or more."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            size, at = _varint(body, at)
        elif kind == 0:
            value, at = _varint(body, at)
            found[number] = value.to_bytes(8).lstrip(b"\0")
            continue
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise StoreError("Tempo answered a trace that is no protobuf; is the address right?")
        found[number] = body[at : at + size]
        at += size
    return found


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
