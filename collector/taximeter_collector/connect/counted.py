"""What a connector has counted: cumulative series by resource, and the OTLP requests that tell of them.

Cumulative, because such a request may be delivered twice, late or not at all without making a sum wrong.
Counts are kept as floats, since a span may stand for 2.5 others, and rounded when they are told: errors do
not add up. What a stranger chooses is bounded: resources (the one unused for longest is forgotten) and series
per resource (the rest is summed up in one series with ``otel.metric.overflow``).
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Attributes = tuple[tuple[str, str | int | bool | float], ...]
OVERFLOW: Attributes = (("otel.metric.overflow", True),)
_CUMULATIVE = 2


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric; without bounds it is a counter."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...] | None = None


class Exemplar(NamedTuple):
    """One measurement and the span that made it."""

    value: float
    time_ns: int
    trace_id: bytes
    span_id: bytes


class Key(NamedTuple):
    """One series. ``resource`` is the serialised Resource."""

    resource: bytes
    metric: str
    attributes: Attributes


@dataclass(slots=True)
class Cell:
    """The state of one series. ``total``: a counter's value, a histogram's sum."""

    start_ns: int
    total: float = 0.0
    count: float = 0.0
    buckets: list[float] = field(default_factory=list)
    told_ns: int = 0
    used_ns: int = 0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)  # since it was last told

    def encode(self) -> str:
        return json.dumps([self.start_ns, self.total, self.count, self.buckets, self.told_ns, self.used_ns])

    @classmethod
    def decode(cls, text: str) -> Cell:
        return cls(*json.loads(text))


class Counted:
    """All series of one connector. ``now_ns`` is when the spans were received."""

    def __init__(
        self, scope: str, instruments: Iterable[Instrument], *, series_limit: int, resource_limit: int
    ) -> None:
        self._scope = scope
        self._instruments = {instrument.name: instrument for instrument in instruments}
        self._series_limit, self._resource_limit = series_limit, resource_limit
        self._cells: OrderedDict[bytes, dict[tuple[str, Attributes], Cell]] = OrderedDict()
        self.changed: set[Key] = set()
        self.forgotten: set[bytes] = set()  # resources

    def restore(self, key: Key, cell: Cell) -> None:
        """Put back what an earlier run counted."""
        if key.metric in self._instruments:
            self._cells.setdefault(key.resource, {})[key.metric, key.attributes] = cell

    def add(
        self,
        resource: bytes,
        metric: str,
        attributes: Attributes,
        value: float,
        *,
        now_ns: int,
        weight: float = 1.0,
        exemplar: Exemplar | None = None,
    ) -> None:
        """Add to a counter, or observe one value in a histogram, for ``weight`` spans."""
        instrument = self._instruments[metric]
        key, cell = self._cell(resource, instrument, tuple(sorted(attributes)), now_ns)
        self.changed.add(key)
        cell.used_ns = now_ns
        cell.total += value * weight
        if instrument.bounds is not None:
            at = bisect_left(instrument.bounds, value)
            cell.count += weight
            cell.buckets[at] += weight
            if exemplar is not None:
                cell.exemplars[at] = exemplar

    def _cell(
        self, resource: bytes, instrument: Instrument, attributes: Attributes, now_ns: int
    ) -> tuple[Key, Cell]:
        group = self._cells.get(resource)
        if group is None:
            group = self._cells[resource] = {}
            while len(self._cells) > self._resource_limit:
                oldest, _ = self._cells.popitem(last=False)
                self.forgotten.add(oldest)
                self.changed = {key for key in self.changed if key.resource != oldest}
        self._cells.move_to_end(resource)
        place = (instrument.name, attributes)
        if place not in group and len(group) >= self._series_limit > 0:
            place = (instrument.name, OVERFLOW)
        cell = group.get(place)
        if cell is None:
            buckets = [0.0] * (len(instrument.bounds) + 1) if instrument.bounds is not None else []
            cell = group[place] = Cell(now_ns, buckets=buckets)
        return Key(resource, *place), cell

    def due(self, now_ns: int, again_ns: int, idle_ns: int) -> list[Key]:
        """What is to be told now: what changed, and what was last told ``again_ns`` ago, unless idle."""
        found = []
        for resource, group in self._cells.items():
            for place, cell in group.items():
                key = Key(resource, *place)
                old = cell.told_ns + again_ns <= now_ns and (not idle_ns or cell.used_ns + idle_ns > now_ns)
                if old or key in self.changed:
                    found.append(key)
        return found

    def request(self, keys: Iterable[Key], now_ns: int) -> ExportMetricsServiceRequest:
        """Their values as one OTLP request; takes their exemplars along."""
        request = ExportMetricsServiceRequest()
        metrics: dict[tuple[bytes, str], Any] = {}
        scopes: dict[bytes, Any] = {}
        for key in keys:
            scope = scopes.get(key.resource)
            if scope is None:
                resource = request.resource_metrics.add()
                resource.resource.MergeFromString(key.resource)
                scope = scopes[key.resource] = resource.scope_metrics.add()
                scope.scope.name = self._scope
            instrument = self._instruments[key.metric]
            metric = metrics.get((key.resource, key.metric))
            if metric is None:
                metric = metrics[key.resource, key.metric] = scope.metrics.add(
                    name=instrument.name, unit=instrument.unit, description=instrument.description
                )
            _point(metric, instrument, key.attributes, self.cell(key), now_ns)
        return request

    def cell(self, key: Key) -> Cell:
        return self._cells[key.resource][key.metric, key.attributes]

    def __iter__(self) -> Iterator[tuple[Key, Cell]]:
        for resource, group in self._cells.items():
            for place, cell in group.items():
                yield Key(resource, *place), cell


def _point(metric: Any, instrument: Instrument, attributes: Attributes, cell: Cell, now_ns: int) -> None:
    held = metric.sum if instrument.bounds is None else metric.histogram
    held.aggregation_temporality = _CUMULATIVE
    point = held.data_points.add(start_time_unix_nano=cell.start_ns, time_unix_nano=now_ns)
    point.attributes.extend(KeyValue(key=key, value=any_value(value)) for key, value in attributes)
    cell.told_ns = now_ns
    if instrument.bounds is None:
        held.is_monotonic = True
        point.as_double = cell.total
        return
    counts = [round(count) for count in cell.buckets]
    point.count, point.sum = sum(counts), cell.total
    point.explicit_bounds.extend(instrument.bounds)
    point.bucket_counts.extend(counts)
    for exemplar in cell.exemplars.values():
        point.exemplars.add(
            as_double=exemplar.value,
            time_unix_nano=exemplar.time_ns,
            trace_id=exemplar.trace_id,
            span_id=exemplar.span_id,
        )
    cell.exemplars = {}


def any_value(value: str | int | bool | float) -> AnyValue:
    """A plain value as OTLP has it."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value)
