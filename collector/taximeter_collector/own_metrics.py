"""The collector's metrics about itself, under the official collector's names where it has one.

One table says every metric, its type and help; using a name outside it is an error. The
exposition is plain Prometheus text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

Labels = tuple[tuple[str, str], ...]

METRICS: dict[str, tuple[str, str]] = {
    **{
        f"otelcol_{part}_{verb}_{noun}": ("counter", f"{noun.replace('_', ' ')} {text}")
        for noun in ("spans", "metric_points", "log_records")
        for part, verb, text in (
            ("receiver", "accepted", "accepted: stored in the log, duplicates included"),
            ("receiver", "refused", "refused, by no fault of the sender: it should retry"),
            ("exporter", "sent", "taken by the exporter's destination"),
            ("exporter", "send_failed", "not taken: written to the dead letters"),
        )
    },
    "otelcol_exporter_queue_size": ("gauge", "acknowledged requests the exporter has not delivered"),
    "otelcol_processor_tail_sampling_global_count_traces_sampled": (
        "counter",
        "traces decided, by the policy that decided",
    ),
    "otelcol_processor_tail_sampling_sampling_traces_on_memory": ("gauge", "traces not yet decided"),
    "otelcol_process_uptime": ("counter", "seconds since the start"),
    "otelcol_process_memory_rss": ("gauge", "resident memory in bytes"),
    "otelcol_process_cpu_seconds": ("counter", "CPU time, user and system"),
    "taximeter_collector_duplicate_requests": ("counter", "requests seen before: acknowledged, not stored"),
    "taximeter_collector_malformed_requests": ("counter", "requests refused for good, by reason"),
    "taximeter_collector_rejected_spans": (
        "counter",
        "spans refused for good: wrong ids, or an end before the start",
    ),
    "taximeter_collector_refused_connections": ("counter", "connections closed unserved, by reason"),
    "taximeter_collector_refused_requests": ("counter", "requests refused with a wish to retry, by reason"),
    "taximeter_collector_dead_letters": ("counter", "requests written to a dead-letter file"),
    "taximeter_collector_export_retries": ("counter", "failed attempts that will be repeated"),
    "taximeter_collector_partial_success_rejected": ("counter", "items a destination says it rejected"),
    "taximeter_collector_log_bytes": ("gauge", "payload in the log not yet passed by all cursors"),
    "taximeter_collector_log_damaged_requests": (
        "counter",
        "requests of the log that disk or hand damaged: quarantined, not delivered",
    ),
    "taximeter_collector_log_damaged_items": ("counter", "spans, points or log records in them"),
    "taximeter_collector_log_limit_bytes": ("gauge", "where the log begins to refuse"),
    "taximeter_collector_duplicate_spans": ("counter", "spans the span store had already"),
    "taximeter_collector_clock_lead_seconds": (
        "gauge",
        "how far the most advanced sender's clock was ahead in the last five minutes",
    ),
    "taximeter_collector_store_merged_segments": (
        "counter",
        "span store segments that became part of larger ones",
    ),
    "taximeter_collector_store_expired_segments": ("counter", "span store segments given up by retention"),
    "taximeter_collector_store_upkeep_failures": ("counter", "compactions or retentions that failed"),
    "taximeter_collector_dropped_points": ("counter", "metric points not shown, by reason"),
}


class OwnMetrics:
    """Counters held here; gauges read when scraped."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float]] = {}
        self._readers: list[Callable[[], Iterable[tuple[str, dict[str, str], float]]]] = []

    def add(self, name: str, amount: float = 1, labels: Mapping[str, str] | None = None, **more: str) -> None:
        """Add to a counter; the first use with an amount of 0 makes it visible."""
        assert METRICS[name][0] == "counter", name
        series = self._values.setdefault(name, {})
        key = tuple(sorted({**(labels or {}), **more}.items()))
        series[key] = series.get(key, 0) + amount

    def read_from(self, reader: Callable[[], Iterable[tuple[str, dict[str, str], float]]]) -> None:
        """Call ``reader`` at every scrape for (name, labels, value)."""
        self._readers.append(reader)

    def counters(self) -> Iterable[tuple[str, dict[str, str], float]]:
        """Every counter now: name, labels, value."""
        for name, series in self._values.items():
            for labels, value in series.items():
                yield name, dict(labels), value

    def gauges(self) -> Iterable[tuple[str, dict[str, str], float]]:
        """What is read at a scrape."""
        for reader in self._readers:
            yield from reader()

    def render(self) -> str:
        values = {name: dict(series) for name, series in self._values.items()}
        for name, labels, value in self.gauges():
            series = values.setdefault(name, {})
            key = tuple(sorted(labels.items()))
            series[key] = series.get(key, 0) + value
        lines = []
        for name, (kind, text) in METRICS.items():
            if name in values:
                lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
                for labels_key, value in sorted(values[name].items()):
                    inner = ",".join(f'{k}="{escape_label(v)}"' for k, v in labels_key)
                    lines.append(f"{name}{{{inner}}} {value:.17g}" if inner else f"{name} {value:.17g}")
        return "\n".join(lines) + "\n"


def escape_label(value: str) -> str:
    """A label value as both Prometheus text formats want it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
