"""Series as remote write has them: one sample a line of the exposition, with its own labels.

Version 1 of the protocol, which every receiver speaks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from taximeter_collector.prometheus.series import Exemplar, Family, Labels, Series
from taximeter_collector.schema import DOUBLE, INT64, MANY, MESSAGE, ONE, STRING, messages

_made = messages(
    "taximeter.remote_write",
    {
        "Label": {"name": (1, STRING, ONE, ""), "value": (2, STRING, ONE, "")},
        "Sample": {"value": (1, DOUBLE, ONE, ""), "timestamp": (2, INT64, ONE, "")},
        "Exemplar": {
            "labels": (1, MESSAGE, MANY, "Label"),
            "value": (2, DOUBLE, ONE, ""),
            "timestamp": (3, INT64, ONE, ""),
        },
        "TimeSeries": {
            "labels": (1, MESSAGE, MANY, "Label"),
            "samples": (2, MESSAGE, MANY, "Sample"),
            "exemplars": (3, MESSAGE, MANY, "Exemplar"),
        },
        "WriteRequest": {"timeseries": (1, MESSAGE, MANY, "TimeSeries")},
    },
)
WriteRequest = _made["WriteRequest"]

#: The one NaN that says: this series has ended.
STALE: float = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


@dataclass(slots=True)
class Line:
    """The samples of one series that wait to be sent, oldest first: (milliseconds, value)."""

    labels: Labels  # sorted, with the name
    samples: list[tuple[int, float]] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)

    @property
    def size(self) -> int:
        """About its bytes on the wire."""
        text = sum(len(name) + len(value) + 6 for name, value in self.labels)
        return text + 18 * len(self.samples) + 110 * len(self.exemplars)


def lines(
    family: Family, series: Series, external: Labels = ()
) -> Iterator[tuple[Labels, float, Exemplar | None]]:
    """What one series is made of: labels, value, and the exemplar that belongs there."""
    name, labels = family.name, series.labels
    exemplars = series.exemplars
    if family.kind == "histogram":
        total = 0
        for at, count in enumerate(series.buckets):
            total += count
            edge = _edge(series.bounds[at]) if at < len(series.bounds) else "+Inf"
            yield named(f"{name}_bucket", (*labels, ("le", edge)), external), total, exemplars.get(at)
    elif family.kind == "summary":
        for quantile, value in series.quantiles:
            yield named(name, (*labels, ("quantile", _edge(quantile))), external), value, None
    if family.kind in ("histogram", "summary"):
        yield named(f"{name}_count", labels, external), series.count, None
        yield named(f"{name}_sum", labels, external), series.value, None
        return
    yield named(name, labels + series.extra, external), series.value, exemplars.get(0)


def named(name: str, labels: Labels, external: Labels = ()) -> Labels:
    """The labels as the receiver wants them; a series' own win over external ones."""
    return tuple(sorted({**dict(external), **dict(labels), "__name__": name}.items()))


def encode(found: Iterable[Line]) -> bytes:
    """A serialised WriteRequest."""
    request = WriteRequest()
    for line in found:
        series = request.timeseries.add()
        for name, value in line.labels:
            series.labels.add(name=name, value=value)
        for milliseconds, number in line.samples:
            series.samples.add(value=number, timestamp=milliseconds)
        for exemplar in line.exemplars:
            added = series.exemplars.add(value=exemplar.value, timestamp=exemplar.time_ns // 1_000_000)
            for name, value in exemplar.labels:
                added.labels.add(name=name, value=value)
    encoded: bytes = request.SerializeToString()
    return encoded


def _edge(value: float) -> str:
    text = repr(float(value))
    return text.removesuffix(".0") if "e" not in text else f"{value:.17f}".rstrip("0").rstrip(".")
