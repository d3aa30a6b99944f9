"""A meter provider whose instruments are :mod:`taximeter.tally`'s, for every library.

It stands where the SDK's stood: official instrumentors get their counters and histograms from it
unknowingly, with bounds that are of use, a limit on series and zeros at birth. What it collects is
handed to the readers beside the SDK's own (observable instruments and gauges stay there).

The SDK's own instruments are used throughout where a reader wants what tallies do not make: deltas,
exponential histograms, or the SDK's internal metrics.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry import metrics as api
from opentelemetry import trace
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import export as points
from opentelemetry.sdk.metrics.view import (
    DefaultAggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from taximeter import bounds as upper_bounds
from taximeter import guard, noted, retry, settings, tally

#: The ASGI middleware remembers the last content-length it saw and records it for streamed responses
#: too, which have none: no number is better than a wrong one.
DROPPED: Final = frozenset({"http.server.response.body.size"})

_DEFAULT_BOUNDS: Final = tuple(
    map(float, (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000))
)
_PAUSE: Final = 5e-5
_INTERNAL: Final = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


def views() -> list[View]:
    """The same bounds for the SDK's own instruments."""
    bounded = [
        View(instrument_name=name, aggregation=ExplicitBucketHistogramAggregation(boundaries=found))
        for name, found in upper_bounds.BOUNDS.items()
    ]
    return [*bounded, *(View(instrument_name=name, aggregation=DropAggregation()) for name in DROPPED)]


class MeterProvider(sdk.MeterProvider):
    """The SDK's provider, handing out tallies."""

    def __init__(self, metric_readers: Sequence[points.MetricReader], **more: Any) -> None:
        super().__init__(metric_readers, views=views(), **more)
        self.light = all(map(_takes_tallies, metric_readers))
        self._sampler = _exemplars(os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER", "").strip().lower())
        self._limit = int(min(settings.number("TAXIMETER_SERIES_LIMIT"), 1e6))
        self._tallies: dict[InstrumentationScope, dict[str, tally.Tally]] = {}
        self._tallies_lock = threading.Lock()
        for number, reader in enumerate(metric_readers):
            reader._set_collect_callback(self._collector(number, reader._collect))  # type: ignore[arg-type]

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> api.Meter:
        meter = super().get_meter(name, version, schema_url, attributes)
        if self.light and isinstance(meter, sdk.Meter):
            return _Meter(meter, self)
        return meter

    def instrument(
        self, scope: InstrumentationScope, kind: type[tally.Tally], name: str, *arguments: Any
    ) -> Any:
        """The instrument of that name: the same one for everybody who asks within a scope."""
        with self._tallies_lock:
            known = self._tallies.setdefault(scope, {})
            found = known.get(name)
            if found is None or type(found) is not kind:
                found = known[name] = kind(name, *arguments, limit=self._limit, sampler=self._sampler)
            return found

    def renew(self) -> None:
        """Begin anew in a forked process, before its threads run: what the parent counted is the parent's."""
        self._tallies_lock = threading.Lock()
        noted.renew()
        for known in self._tallies.values():
            for instrument in known.values():
                instrument.reset()

    def _collector(self, number: int, collect: Callable[..., points.MetricsData | None]) -> Any:
        def both(reader: Any, timeout_millis: float = 10_000) -> points.MetricsData | None:
            data = collect(reader, timeout_millis=timeout_millis)
            try:
                return self._with_tallies(data, number)
            except Exception as error:
                guard.caught("metrics.collect", error)
                return data

        return both

    def _with_tallies(self, data: points.MetricsData | None, reader: int) -> points.MetricsData | None:
        final = retry.hurrying()
        with self._tallies_lock:
            everything = [(scope, list(known.values())) for scope, known in self._tallies.items()]
        found: dict[InstrumentationScope, list[points.Metric]] = {}  # an encoder may keep one part a scope
        for resource in data.resource_metrics if data else ():
            for part in resource.scope_metrics:
                found.setdefault(part.scope, []).extend(part.metrics)
        with noted.booked(final=final) as now:
            for scope, instruments in everything:
                collected = []
                for one in instruments:
                    collected.append(one.collect(reader, now, final=final))
                    if one.large and not final:
                        time.sleep(_PAUSE)  # an event loop waits for the interpreter
                if kept := [metric for metric in collected if metric is not None]:
                    found.setdefault(scope, []).extend(kept)
        if not found:
            return data
        about = self._sdk_config.resource
        scopes = [points.ScopeMetrics(scope, kept, scope.schema_url or "") for scope, kept in found.items()]
        return points.MetricsData([points.ResourceMetrics(about, scopes, about.schema_url)])


class _Meter(api.Meter):
    """Makes tallies of what can be one; the rest is the SDK's."""

    def __init__(self, inner: sdk.Meter, provider: MeterProvider) -> None:
        self._scope = inner._instrumentation_scope
        super().__init__(self._scope.name, self._scope.version, self._scope.schema_url)
        self._inner, self._provider = inner, provider

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        made: api.Counter = self._provider.instrument(
            self._scope, tally.TallyCounter, name, unit, description
        )
        return made

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        made: api.UpDownCounter = self._provider.instrument(
            self._scope, tally.TallyUpDownCounter, name, unit, description
        )
        return made

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        if name in DROPPED:
            return api.NoOpHistogram(name, unit, description)
        bounds = upper_bounds.BOUNDS.get(name) or explicit_bucket_boundaries_advisory or _DEFAULT_BOUNDS
        made: api.Histogram = self._provider.instrument(
            self._scope, tally.TallyHistogram, name, unit, description, bounds
        )
        return made

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Any:
        return self._inner.create_gauge(name, unit, description)

    def create_observable_counter(self, name: str, *arguments: Any, **more: Any) -> api.ObservableCounter:
        return self._inner.create_observable_counter(name, *arguments, **more)

    def create_observable_gauge(self, name: str, *arguments: Any, **more: Any) -> api.ObservableGauge:
        return self._inner.create_observable_gauge(name, *arguments, **more)

    def create_observable_up_down_counter(
        self, name: str, *arguments: Any, **more: Any
    ) -> api.ObservableUpDownCounter:
        return self._inner.create_observable_up_down_counter(name, *arguments, **more)


def _takes_tallies(reader: points.MetricReader) -> bool:
    kinds = [kind for kind in reader._instrument_class_temporality if "UpDown" not in kind.__name__]
    cumulative = all(
        reader._instrument_class_temporality[kind] is points.AggregationTemporality.CUMULATIVE
        for kind in kinds
    )
    plain = all(
        isinstance(chosen, DefaultAggregation | ExplicitBucketHistogramAggregation)
        for chosen in reader._instrument_class_aggregation.values()
    )
    return cumulative and plain and os.environ.get(_INTERNAL, "").strip().lower() != "true"


def _exemplars(choice: str) -> tally.Sampler:
    if choice == "always_off":
        return lambda context: None
    if choice == "always_on":
        return lambda context: trace.get_current_span(context).get_span_context()
    return tally.sampled
