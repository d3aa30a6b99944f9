"""Counters and histograms that cost a microsecond, where the SDK's cost ten.

The SDK takes every measurement through a measurement object, a filter, a storage for each reader
and a view; a request pays that some twenty times. Here an instrument keeps its series itself: one
look-up, one lock, one addition. Sums are exact under threads. Each instrument has at most ``limit``
series; beyond it everything goes to one series labelled ``otel.metric.overflow``, so that totals
stay right. Points are cumulative, and made as the SDK's own data points when a reader collects
(see :mod:`taximeter.metering`).

A series of a *counter* is exported as 0 first and with its value from the next export on:
``increase()`` never sees the first value of a series, and a new model's first $500 would count
as nothing. The last export before the process ends does not wait.
"""

from __future__ import annotations

import threading
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

from taximeter import current, guard

OVERFLOW: Final[Mapping[str, bool]] = {"otel.metric.overflow": True}
_LARGE: Final = 32
_NONE: Final[tuple[()]] = ()
_INFINITY: Final = float("inf")

#: Value, time, span id and trace id of one measurement.
Sample = tuple[float, int, int, int]
Sampler = Callable[[Context | None], trace.SpanContext | None]


def sampled(context: Context | None) -> trace.SpanContext | None:
    """The span that a measurement belongs to, if that span is kept: an exemplar must lead somewhere."""
    found = current.span(context).get_span_context()
    return found if found[3] & 1 else None


class Series:
    """One set of labels of one instrument."""

    __slots__ = ("attributes", "buckets", "count", "exemplars", "high", "low", "shown", "started", "total")

    def __init__(self, attributes: Mapping[str, Any], buckets: int) -> None:
        self.attributes = attributes
        self.started = time_ns()
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
        self._sampler = sampler
        self._buckets = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything: a forked child starts from nothing, and with a lock that nobody holds."""
        self._lock = threading.Lock()
        self._series: dict[frozenset[tuple[str, Any]], Series] = {}
        self._found: dict[tuple[tuple[str, Any], ...], Series] = {}  # by items as they were given
        self._overflow: Series | None = None
        self._collected: dict[int, int] = {}  # by reader: when it last collected

    def _of(self, attributes: Attributes) -> Series:
        """The series of ``attributes``; call it only where ``_found`` has none."""
        given = attributes or {}
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        key = frozenset(plain.items())
        with self._lock:
            series = self._series.get(key)
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
                series = self._series[key] = Series(plain, self._buckets)
            if len(self._found) < 4 * self._limit:
                self._found[tuple(plain.items())] = series
        return series

    def _find(self, attributes: Attributes) -> Series:
        try:
            return self._found[tuple(attributes.items()) if attributes else _NONE]
        except (KeyError, TypeError):  # new, or a list among the values
            return self._of(attributes)

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
        """The whole instrument as of ``now``, for one reader; ``None`` where nothing was measured."""
        with self._lock:
            after = self._collected.get(reader, 0)
            self._collected[reader] = now
            data = self._data(reader, after, now, final)
        return None if data is None else points.Metric(self.name, self.description, self.unit, data)

    def _data(self, reader: int, after: int, now: int, final: bool) -> points.DataT | None:
        raise NotImplementedError


class TallyCounter(Tally, Counter):
    """A monotonic sum."""

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        if not 0 <= amount < _INFINITY:
            return  # a monotonic sum cannot take it, as in the SDK
        try:
            try:  # as in _find: a call less, some twenty times a request
                series = self._found[tuple(attributes.items()) if attributes else _NONE]
            except (KeyError, TypeError):
                series = self._of(attributes)
            span = self._sampler(context)
            with self._lock:
                series.total += amount
                if span is not None:
                    series.exemplars[0] = amount, time_ns(), span[1], span[0]
        except Exception as error:
            guard.caught("metrics.add", error)

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

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        try:
            series = self._find(attributes)
            with self._lock:
                series.total += amount
        except Exception as error:
            guard.caught("metrics.add", error)

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

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        if not 0 <= amount < _INFINITY:
            return
        try:
            try:
                series = self._found[tuple(attributes.items()) if attributes else _NONE]
            except (KeyError, TypeError):
                series = self._of(attributes)
            bucket = bisect_left(self.bounds, amount)
            span = self._sampler(context)
            with self._lock:
                series.count += 1
                series.total += amount
                series.buckets[bucket] += 1
                series.low = min(series.low, amount)
                series.high = max(series.high, amount)
                if span is not None:
                    series.exemplars[bucket] = amount, time_ns(), span[1], span[0]
        except Exception as error:
            guard.caught("metrics.record", error)

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
