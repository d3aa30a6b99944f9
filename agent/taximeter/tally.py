"""Counters and histograms that cost a microsecond, where the SDK's cost ten.

The SDK takes every measurement through a measurement object, a filter, a storage for each reader
and a view; a request pays that some thirty times. Here a measurement is noted, and booked in a row with
others (see :mod:`taximeter.noted`): an instrument keeps its series itself, so that is one look-up and one
addition. Sums are exact under threads. Each instrument has at most ``limit`` series; beyond it everything
goes to one series labelled ``otel.metric.overflow``, so that totals stay right. Points are cumulative, and
made as the SDK's own data points when a reader collects (see :mod:`taximeter.metering`).

A series of a *counter* is exported as 0 first and with its value from the next export on:
``increase()`` never sees the first value of a series, and a new model's first $500 would count
as nothing. The last export before the process ends does not wait.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from time import time_ns
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics import export as points
from opentelemetry.util.types import Attributes

from taximeter import current, guard, noted
from taximeter.current import SPAN_KEY
from taximeter.current import context as running_context
from taximeter.noted import FEW, Labels, key_of, note, waiting
from taximeter.spans import Span

OVERFLOW: Final[Mapping[str, bool]] = {"otel.metric.overflow": True}
_LARGE: Final = 32
_INFINITY: Final = float("inf")

#: Value, time, span id and trace id of one measurement.
Sample = tuple[float, int, int, int]
#: The span that a measurement belongs to, where an exemplar may name it.
Sampler = Callable[[Context | None], trace.SpanContext | None]


def sampled(context: Context | None) -> trace.SpanContext | None:
    """A span that is kept: an exemplar must lead somewhere."""
    found = current.span(context).get_span_context()
    return found if found[3] & 1 else None


class Series:
    """One set of labels of one instrument."""

    __slots__ = ("attributes", "buckets", "count", "exemplars", "high", "low", "shown", "started", "total")

    def __init__(self, attributes: Mapping[str, Any], buckets: int) -> None:
        self.attributes = attributes
        self.started = noted.since()
        self.total: float = 0
        self.count = 0
        self.buckets = [0] * buckets
        self.low = _INFINITY
        self.high = -_INFINITY
        self.exemplars: dict[int, Sample] = {}  # the last one of each bucket
        self.shown: set[int] = set()  # readers that have had the 0


class Tally:
    """What all instruments share: their series, bounded."""

    def __init__(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        limit: int = 2000,
        sampler: Sampler = sampled,
    ) -> None:
        self.name, self.unit, self.description = name, unit, description
        self._limit = limit
        self.sampler = sampler
        self._usual = sampler is sampled
        self._buckets = 0
        self._number = noted.number(self)
        self.reset()

    def reset(self) -> None:
        """Forget everything: a forked child starts from nothing."""
        self._series: dict[frozenset[tuple[str, Any]], Series] = {}
        self._found: dict[noted.Key, Series] = {}  # by labels as they were given
        self._overflow: Series | None = None
        self._collected: dict[int, int] = {}  # by reader: when it last collected

    def note(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """Take one measurement: all of it here, since a request comes by thirty times."""
        try:
            key = attributes.key if type(attributes) is Labels else key_of(attributes)
            running: Any = (running_context() if context is None else context).get(SPAN_KEY)
            if type(running) is Span and (named := running._context)[3] & 1 and self._usual:
                note((self._number, key, amount, named[1], named[0], time_ns()))  # as the sampler would say
            elif (found := self.sampler(context)) is None:
                note((self._number, key, amount, 0, 0, 0))
            else:
                note((self._number, key, amount, found[1], found[0], time_ns()))
            if len(waiting) >= FEW:
                noted.catch_up()
        except Exception as error:
            guard.caught("metrics.note", error)

    def book(self, key: noted.Key, amount: float, span: int, trace_id: int, time: int) -> None:
        """Add one measurement."""
        raise NotImplementedError

    def _of(self, key: noted.Key) -> Series:
        """The series of the labels ``key``; call it only where ``_found`` has none."""
        middle = len(key) // 2
        plain = dict(zip(key[:middle], key[middle:], strict=True))
        same = frozenset(plain.items())
        series = self._series.get(same)
        if series is None:
            if len(self._series) >= self._limit:
                if self._overflow is None:
                    self._overflow = Series(OVERFLOW, self._buckets)
                    guard.note(
                        "metrics.limit",
                        f"{self.name} has {self._limit} series; further ones are added up as "
                        "otel.metric.overflow. A label has too many values; see TAXIMETER_SERIES_LIMIT.",
                    )
                return self._overflow
            series = self._series[same] = Series(plain, self._buckets)
        if len(self._found) < 4 * self._limit:
            self._found[key] = series
        return series

    @property
    def large(self) -> bool:
        """Whether collecting it takes 0.1 ms or more."""
        return len(self._series) > _LARGE

    def _all(self) -> list[Series]:
        everything = list(self._series.values())
        return everything if self._overflow is None else [*everything, self._overflow]

    def _exemplars(self, series: Series, after: int) -> list[Exemplar]:
        return [
            Exemplar({}, value, time, span, trace_id)
            for value, time, span, trace_id in series.exemplars.values()
            if time > after
        ]

    def collect(self, reader: int, now: int, *, final: bool) -> points.Metric | None:
        """The whole instrument as of ``now``, for one reader; ``None`` where nothing was measured.

        Call it while everything is booked (:func:`taximeter.noted.booked`).
        """
        after = self._collected.get(reader, 0)
        self._collected[reader] = now
        data = self._data(reader, after, now, final)
        return None if data is None else points.Metric(self.name, self.description, self.unit, data)

    def _data(self, reader: int, after: int, now: int, final: bool) -> points.DataT | None:
        raise NotImplementedError


class TallyCounter(Tally, Counter):
    """A monotonic sum."""

    add = Tally.note

    def book(self, key: noted.Key, amount: float, span: int, trace_id: int, time: int) -> None:
        if not 0 <= amount < _INFINITY:
            return  # a monotonic sum cannot take it, as in the SDK
        series = self._found.get(key) or self._of(key)
        series.total += amount
        if time:
            series.exemplars[0] = amount, time, span, trace_id

    def _data(self, reader: int, after: int, now: int, final: bool) -> points.DataT | None:
        data = []
        for series in self._all():
            held = reader not in series.shown and not final
            series.shown.add(reader)
            exemplars = [] if held else self._exemplars(series, after)
            value = 0 * series.total if held else series.total
            data.append(points.NumberDataPoint(series.attributes, series.started, now, value, exemplars))
        if not data:
            return None
        return points.Sum(data, points.AggregationTemporality.CUMULATIVE, is_monotonic=True)


class TallyUpDownCounter(Tally, UpDownCounter):
    """A sum that goes both ways."""

    add = Tally.note

    def book(self, key: noted.Key, amount: float, span: int, trace_id: int, time: int) -> None:
        series = self._found.get(key) or self._of(key)
        series.total += amount

    def _data(self, reader: int, after: int, now: int, final: bool) -> points.DataT | None:
        data = [
            points.NumberDataPoint(series.attributes, series.started, now, series.total)
            for series in self._all()
        ]
        if not data:
            return None
        return points.Sum(data, points.AggregationTemporality.CUMULATIVE, is_monotonic=False)


class TallyHistogram(Tally, Histogram):
    """Observations in buckets; ``bounds`` are upper and inclusive."""

    def __init__(self, name: str, unit: str, description: str, bounds: Iterable[float], **more: Any) -> None:
        self.bounds = tuple(bounds)
        super().__init__(name, unit, description, **more)
        self._buckets = len(self.bounds) + 1

    record = Tally.note

    def book(self, key: noted.Key, amount: float, span: int, trace_id: int, time: int) -> None:
        if not 0 <= amount < _INFINITY:
            return
        series = self._found.get(key) or self._of(key)
        bucket = bisect_left(self.bounds, amount)
        series.count += 1
        series.total += amount
        series.buckets[bucket] += 1
        series.low = min(series.low, amount)
        series.high = max(series.high, amount)
        if time:
            series.exemplars[bucket] = amount, time, span, trace_id

    def _data(self, reader: int, after: int, now: int, final: bool) -> points.DataT | None:
        data = [
            points.HistogramDataPoint(
                series.attributes,
                series.started,
                now,
                series.count,
                series.total,
                tuple(series.buckets),
                self.bounds,
                series.low,
                series.high,
                self._exemplars(series, after),
            )
            for series in self._all()
            if series.count
        ]
        return points.Histogram(data, points.AggregationTemporality.CUMULATIVE) if data else None
