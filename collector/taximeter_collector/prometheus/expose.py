"""The two text formats: OpenMetrics 1.0 with exemplars, and plain Prometheus text without.

A series that is to begin at 0 is shown twice, once: 0 at the moment it was born, then its
value now, both with their times. So the first scrape has the exact value, and ``increase()``
sees the whole rise. Only a Prometheus gets to see that (``births``): a person with curl before
it would take the 0 away. Of two Prometheus servers that scrape, the first gets it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal

from taximeter_collector.own_metrics import escape_label
from taximeter_collector.prometheus.series import Exemplar, Family, Labels, Series
from taximeter_collector.prometheus.state import State

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def render(
    state: State, now_ns: int, *, open_metrics: bool, births: bool = False, timestamps: bool = False
) -> str:
    """Everything, in one text. With ``births``, marks them as shown."""
    lines: list[str] = []
    for family, group in state:
        lines += _head(family, open_metrics)
        for series in group.values():
            stamp = _stamp(series.time_ns, open_metrics) if timestamps and series.time_ns else ""
            if series.born_ns and births:
                now_ns = max(now_ns, series.born_ns + 1_000_000)
                zero = f"{family.name}{_braces(series.labels)} 0 {_stamp(series.born_ns, open_metrics)}"
                lines.append(zero)
                stamp = _stamp(now_ns, open_metrics)
                series.born_ns = 0
                state.changes.series.add((family.name, series.labels))
            lines += _samples(family, series, f" {stamp}" if stamp else "", open_metrics)
    if open_metrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _head(family: Family, open_metrics: bool) -> list[str]:
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    name, kind = family.name, family.kind
    if open_metrics:
        text = text.replace('"', '\\"')
        if kind == "counter":
            name, kind = (name[: -len("_total")], kind) if name.endswith("_total") else (name, "unknown")
        elif kind == "info":
            name = name[: -len("_info")]
    elif kind == "info":
        kind = "gauge"
    return [f"# TYPE {name} {kind}", f"# HELP {name} {text}"]


def _samples(family: Family, series: Series, stamp: str, open_metrics: bool) -> Iterator[str]:
    name, labels = family.name, series.labels
    if family.kind == "histogram":
        yield from _buckets(name, series, stamp, open_metrics)
    elif family.kind == "summary":
        for quantile, value in series.quantiles:
            edge = ("quantile", _edge(quantile, open_metrics))
            yield f"{name}{_braces((*labels, edge))} {number(value)}{stamp}"
    if family.kind in ("histogram", "summary"):
        yield f"{name}_count{_braces(labels)} {series.count}{stamp}"
        yield f"{name}_sum{_braces(labels)} {number(series.value)}{stamp}"
        return
    tail = ""
    if open_metrics and family.kind == "counter" and name.endswith("_total"):
        tail = _exemplar(series.exemplars.get(0))
    yield f"{name}{_braces(labels + series.extra)} {number(series.value)}{stamp}{tail}"


def _buckets(name: str, series: Series, stamp: str, open_metrics: bool) -> Iterator[str]:
    total = 0
    for index, count in enumerate(series.buckets):
        total += count
        bound = _edge(series.bounds[index], open_metrics) if index < len(series.bounds) else "+Inf"
        tail = _exemplar(series.exemplars.get(index)) if open_metrics else ""
        yield f"{name}_bucket{_braces((*series.labels, ('le', bound)))} {total}{stamp}{tail}"


def _exemplar(exemplar: Exemplar | None) -> str:
    if exemplar is None:
        return ""
    seconds = f"{exemplar.time_ns / 1e9:.3f}"
    return f" # {_braces(exemplar.labels) or '{}'} {number(exemplar.value)} {seconds}"


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{k}="{escape_label(v)}"' for k, v in labels) + "}" if labels else ""


def _edge(value: float, open_metrics: bool) -> str:
    """A bound as label, spelled as Go spells it: a series of another spelling would be another series.

    OpenMetrics wants ``2.0`` where plain text has ``2``; both have ``1e+06``.
    """
    text = number(float(value))
    if value and math.isfinite(value) and not 1e-4 <= abs(value) < 1e6:
        digits, _, power = f"{Decimal(text).normalize():e}".partition("e")
        return f"{digits}e{int(power):+03d}"
    return text if open_metrics or not text.endswith(".0") else text[:-2]


def number(value: float) -> str:
    """Exact to the last bit: what is read back is what was measured."""
    if value != value:  # noqa: PLR0124  (NaN alone differs from itself)
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _stamp(time_ns: int, open_metrics: bool) -> str:
    milliseconds = time_ns // 1_000_000
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}" if open_metrics else str(milliseconds)
