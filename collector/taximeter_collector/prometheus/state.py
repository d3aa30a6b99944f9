"""All series of one Prometheus exporter, and the rules by which OTLP points change them.

* A cumulative point replaces the series' value if its time is newer: a replay changes nothing.
* A delta point is added; the caller sees to it that a request is applied once.
* The first kind of a name wins: a family can have one type only. Points of another kind are dropped
  and reported through ``on_drop``; never in silence. Exponential histograms become classic ones.
* A new money series (``*_usd_total``) is marked to show a 0 first, because ``increase()`` misses a
  series' first value. Only if it began after this state did: a series that merely returns, or
  that an older collector has shown, would seem to be reset.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from taximeter_collector.prometheus import exponential
from taximeter_collector.prometheus.names import label_name, metric_name
from taximeter_collector.prometheus.series import Exemplar, Family, Labels, Series
from taximeter_collector.values import as_text, plain

Key = tuple[str, Labels]  # family name, labels

_CUMULATIVE = 2  # AggregationTemporality; delta is 1
_DELTA = 1
_NO_RECORDED_VALUE = 1  # DataPointFlags
_REMEMBER_ENDED_NS = 24 * 3600 * 10**9
_CLOCK_TOLERANCE_NS = 30 * 10**9
_LATELY_NS = 300 * 10**9
_VALID_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_TARGET = Family("target_info", "info", "Target metadata")


@dataclass(frozen=True)
class Options:
    """The exporter's configuration, as far as it shapes series."""

    namespace: str = ""
    const_labels: Labels = ()
    suffixes: bool = True
    scope_labels: bool = True
    resource_labels: bool = False
    expiration_ns: int = 300 * 10**9
    start_at_zero: bool = True


@dataclass(frozen=True)
class Lead:
    """The most that a lately received point was ahead of the collector's clock, and whose it was.

    Its points are taken as a little ahead at most; its spans keep their time, which must be seen.
    """

    ns: int = 0
    job: str = ""
    received_ns: int = 0

    def seconds(self, now_ns: int) -> float:
        return self.ns / 1e9 if now_ns - self.received_ns < _LATELY_NS else 0.0


@dataclass
class Changes:
    """What the next checkpoint must write."""

    families: set[str] = field(default_factory=set)
    series: set[Key] = field(default_factory=set)
    ended: dict[Key, int] = field(default_factory=dict)
    gone: dict[Key, Series] = field(default_factory=dict)  # not for the checkpoint: as they were at the end


class State:
    """Not thread-safe: one thread at a time applies and reads."""

    def __init__(
        self, options: Options, on_drop: Callable[[str, str], None], created_ns: int | None = None
    ) -> None:
        self.options = options
        self.created_ns = time.time_ns() if created_ns is None else created_ns
        self.families: dict[str, Family] = {}
        self.series: dict[str, dict[Labels, Series]] = {}
        self.ended: dict[Key, int] = {}  # expired series and when, so that their return is no birth
        self.changes = Changes()
        self.lead = Lead()
        self._on_drop = on_drop

    def restore(self, family: Family, labels: Labels, series: Series) -> None:
        """Put back what a checkpoint holds."""
        self.families[family.name] = family
        self.series.setdefault(family.name, {})[labels] = series

    def apply(self, request: Any, received_ns: int) -> None:
        """Take one ExportMetricsServiceRequest."""
        for resource in request.resource_metrics:
            attributes = {pair.key: as_text(plain(pair.value)) for pair in resource.resource.attributes}
            identity = _identity(attributes)
            base = dict(self.options.const_labels)
            if self.options.resource_labels:
                base |= _sanitised(attributes)
            self._target_info(attributes, identity, received_ns)
            for scope in resource.scope_metrics:
                labels = dict(base)
                if self.options.scope_labels:
                    labels["otel_scope_name"] = scope.scope.name
                    labels["otel_scope_version"] = scope.scope.version
                    if scope.schema_url:
                        labels["otel_scope_schema_url"] = scope.schema_url
                labels |= identity
                for metric in scope.metrics:
                    self._metric(metric, labels, received_ns)

    def expire(self, now_ns: int) -> None:
        """Forget series not received for the configured time."""
        limit = now_ns - self.options.expiration_ns
        for name, group in self.series.items():
            for labels in [labels for labels, series in group.items() if series.received_ns < limit]:
                self._end((name, labels), now_ns)
        for key in [key for key, at in self.ended.items() if at < now_ns - _REMEMBER_ENDED_NS]:
            del self.ended[key]
            self.changes.ended[key] = 0

    def _end(self, key: Key, now_ns: int) -> None:
        series = self.series.get(key[0], {}).pop(key[1], None)
        if series is not None:
            self.changes.gone[key] = series
            self.changes.series.add(key)
            if self.families[key[0]].kind == "counter":
                self.ended[key] = self.changes.ended[key] = now_ns

    def _target_info(self, attributes: dict[str, str], identity: dict[str, str], received_ns: int) -> None:
        described = {
            k: v
            for k, v in attributes.items()
            if k not in ("service.name", "service.namespace", "service.instance.id")
        }
        if not identity or not described:
            return
        self._family(_TARGET.name, _TARGET.kind, _TARGET.help)
        labels = _ordered(identity)
        series = self._get((_TARGET.name, labels))
        series.received_ns, series.value = received_ns, 1
        series.extra = _ordered(_sanitised(described) | dict(self.options.const_labels))

    def _metric(self, metric: Any, base: dict[str, str], received_ns: int) -> None:
        form = metric.WhichOneof("data")
        if not form:
            return
        data = getattr(metric, form)
        adds_up = form in ("sum", "histogram", "exponential_histogram")
        delta = adds_up and data.aggregation_temporality == _DELTA
        if adds_up and data.aggregation_temporality not in (_DELTA, _CUMULATIVE):
            self._on_drop(metric.name, "unspecified_temporality")
            return
        monotonic = form == "sum" and data.is_monotonic
        kind = ("counter" if monotonic else "gauge") if form == "sum" else form.removeprefix("exponential_")
        options = self.options
        name = metric_name(
            metric.name,
            metric.unit,
            monotonic=monotonic,
            gauge=form == "gauge",
            namespace=options.namespace,
            suffixes=options.suffixes,
        )
        if not _VALID_NAME.fullmatch(name):
            self._on_drop(metric.name, "invalid_name")
            return
        family = self._family(name, kind, metric.description)
        if family.kind != kind:
            self._on_drop(metric.name, "type_conflict")
            return
        for point in data.data_points:
            self._point(family, point, base, received_ns, delta)

    def _family(self, name: str, kind: str, text: str) -> Family:
        family = self.families.get(name)
        if family is None:
            family = self.families[name] = Family(name, kind, text)
            self.changes.families.add(name)
        return family

    def _get(self, key: Key) -> Series:
        group = self.series.setdefault(key[0], {})
        series = group.get(key[1])
        if series is None:
            series = group[key[1]] = Series(key[1])
        self.changes.series.add(key)
        return series

    def _point(self, family: Family, point: Any, base: dict[str, str], received_ns: int, delta: bool) -> None:
        attributes = {pair.key: as_text(plain(pair.value)) for pair in point.attributes}
        labels = _ordered(_sanitised(attributes) | base)
        key = (family.name, labels)
        grid = exponential.grid(point) if hasattr(point, "zero_count") else None
        if family.kind == "histogram" and grid is None and not _whole(point):
            self._on_drop(family.name, "bucket_counts")
            return
        if point.flags & _NO_RECORDED_VALUE:
            self._end(key, received_ns)
            return
        old = self.series.get(family.name, {}).get(labels)
        # A sender's clock may be wrong: one point from next year must not outrank all that follow.
        time_ns = min(point.time_unix_nano, received_ns + _CLOCK_TOLERANCE_NS)
        if old is not None and not delta and time_ns <= old.time_ns:
            old.received_ns = max(old.received_ns, received_ns)
            return
        ahead_ns = point.time_unix_nano - received_ns
        if ahead_ns > self.lead.ns or received_ns - self.lead.received_ns >= _LATELY_NS:
            self.lead = Lead(max(0, ahead_ns), base.get("job", ""), received_ns)
        series = self._get(key)
        if self._is_birth(family, key, point) if old is None else self._is_rebirth(family, old, point, delta):
            series.born_ns = received_ns
        series.received_ns = max(series.received_ns, received_ns)
        series.time_ns = max(series.time_ns, time_ns)
        series.start_ns = max(series.start_ns, point.start_time_unix_nano)
        if grid is not None:
            _exponential(series, point, grid, delta)
        elif family.kind == "histogram":
            _histogram(series, point, delta)
        elif family.kind == "summary":
            series.value, series.count = point.sum, point.count
            series.quantiles = [(q.quantile, q.value) for q in point.quantile_values]
        else:
            value = getattr(point, point.WhichOneof("value") or "as_double")
            series.value = series.value + value if delta else value
        if family.kind in ("counter", "histogram"):
            for exemplar in point.exemplars:
                _exemplar(series, exemplar)

    def _is_birth(self, family: Family, key: Key, point: Any) -> bool:
        return (
            self.options.start_at_zero
            and family.kind == "counter"
            and family.name.endswith("_usd_total")
            and point.start_time_unix_nano >= self.created_ns
            and key not in self.ended
        )

    def _is_rebirth(self, family: Family, old: Series, point: Any, delta: bool) -> bool:
        """Whether a process that began again under the same instance id has counted on past the old value.

        Its reset cannot be seen in the values: one failure before and one after are 1 and 1. Only of the
        agent's own counters, whose start times are known to be right.
        """
        return (
            self.options.start_at_zero
            and family.kind == "counter"
            and not delta
            and family.name.startswith("taximeter_")
            and point.start_time_unix_nano > old.start_ns > 0
            and getattr(point, point.WhichOneof("value") or "as_double") >= old.value
        )

    def __iter__(self) -> Iterator[tuple[Family, dict[Labels, Series]]]:
        for name in sorted(self.series):
            if self.series[name]:
                yield self.families[name], self.series[name]


def _identity(attributes: dict[str, str]) -> dict[str, str]:
    """``job`` and ``instance``, as officially."""
    labels = {}
    name, space = attributes.get("service.name", ""), attributes.get("service.namespace", "")
    if name:
        labels["job"] = f"{space}/{name}" if space else name
    if attributes.get("service.instance.id"):
        labels["instance"] = attributes["service.instance.id"]
    return labels


def _sanitised(attributes: dict[str, str]) -> dict[str, str]:
    """Valid label names; values whose names become equal are joined by ``;``, in the names' order."""
    result: dict[str, str] = {}
    for name in sorted(attributes):
        clean = label_name(name)
        result[clean] = f"{result[clean]};{attributes[name]}" if clean in result else attributes[name]
    return result


def _ordered(labels: dict[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def _whole(point: Any) -> bool:
    """One count more than bounds, or no buckets at all; and the bounds in order."""
    if hasattr(point, "zero_count"):  # exponential, and not understood
        return False
    bounds, buckets = point.explicit_bounds, point.bucket_counts
    return (not buckets and not bounds) or (
        len(buckets) == len(bounds) + 1 and list(bounds) == sorted(set(bounds))
    )


def _histogram(series: Series, point: Any, delta: bool) -> None:
    bounds, buckets = list(point.explicit_bounds), list(point.bucket_counts)
    if not buckets:  # count and sum only
        bounds, buckets = [], [point.count]
    if series.bounds != bounds:
        series.exemplars.clear()
    if delta and series.bounds == bounds and series.buckets:
        buckets = [a + b for a, b in zip(series.buckets, buckets, strict=True)]
    if delta:
        series.count += point.count
        series.value += point.sum
        if sum(buckets) != series.count:  # the bounds changed: older counts keep their place in the last
            buckets[-1] += series.count - sum(buckets)
    else:
        series.count, series.value = point.count, point.sum
    series.bounds, series.buckets, series.scale = bounds, buckets, None


def _exponential(series: Series, point: Any, grid: exponential.Grid, delta: bool) -> None:
    if series.scale is not None:
        shown = exponential.Grid(series.scale, series.offset, series.buckets)
        grid = shown.joined(grid, adding=delta)
    series.count = series.count * delta + point.count
    series.value = series.value * delta + point.sum
    grid.counts[-1] += series.count - sum(grid.counts)  # older counts on other bounds keep their place there
    bounds = grid.bounds
    if series.bounds != bounds:
        series.exemplars.clear()
    series.bounds, series.buckets = bounds, grid.counts
    series.scale, series.offset = grid.scale, grid.offset


def _exemplar(series: Series, exemplar: Any) -> None:
    value = getattr(exemplar, exemplar.WhichOneof("value") or "as_double")
    bucket = bisect_left(series.bounds, value)
    known = series.exemplars.get(bucket)
    if known is not None and known.time_ns > exemplar.time_unix_nano:
        return
    labels: Labels = ()
    if exemplar.trace_id:  # hex: 32 and 16 characters, well under the 128 that OpenMetrics allows
        labels = (("span_id", exemplar.span_id.hex()), ("trace_id", exemplar.trace_id.hex()))
    series.exemplars[bucket] = Exemplar(value, exemplar.time_unix_nano, labels)
