"""The ``prometheus`` exporter: applies the log's metrics to series, and shows them at ``/metrics``.

A batch is applied and checkpointed, with its cursor, before it counts as delivered. After a
restart the page answers 503 until everything acknowledged earlier is applied again: a value
once shown never shrinks, which Prometheus would take for a reset and count twice.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from taximeter_collector.export.base import Exporter, Origin, Retry
from taximeter_collector.listen import HttpServer, Receive, Scope, Send, bind, respond
from taximeter_collector.log import Batch
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.prometheus.checkpoint import Checkpoint
from taximeter_collector.prometheus.expose import OPEN_METRICS, PLAIN, render
from taximeter_collector.prometheus.state import Options, State

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class PrometheusExporter(Exporter):
    """One scrape endpoint. ``pipelines``: the ids that must have caught up before it answers."""

    linger_s = 0.2  # several services' exports share one checkpoint

    def __init__(
        self, name: str, values: dict[str, Any], state_path: Path, pipelines: Collection[str], own: OwnMetrics
    ) -> None:
        super().__init__(name)
        self._values = values
        self._own = own
        self._waiting_for = set(pipelines)
        self._dropped: set[tuple[str, str]] = set()
        self._checkpoint = Checkpoint(state_path, time.time_ns())
        options = Options(
            namespace=values["namespace"],
            const_labels=tuple(sorted(values["const_labels"].items())),
            suffixes=values["add_metric_suffixes"],
            scope_labels=not values["without_scope_info"],
            resource_labels=values["resource_to_telemetry_conversion"]["enabled"],
            expiration_ns=int(values["metric_expiration"] * 1e9),
            start_at_zero=values["start_at_zero"],
        )
        self._state = State(options, self._on_drop, self._checkpoint.created_ns)
        self._applied = self._checkpoint.load(self._state)
        own.read_from(self._clock)
        # One thread: whoever has it has the state to himself.
        self._executor = ThreadPoolExecutor(1, f"prometheus-{name}")
        self._server: HttpServer | None = None

    async def start(self) -> None:
        listener = bind(self._values["endpoint"], f"exporters.{self.name}.endpoint")
        self._server = HttpServer(self._app, listener)
        await self._server.start()

    def position(self, origin: Origin, committed: int) -> int:
        return max(committed, self._applied.get((origin.log_id, origin.pipeline), 0))

    def caught_up(self, origin: Origin) -> None:
        self._waiting_for.discard(origin.pipeline)

    async def export(self, origin: Origin, batch: Batch) -> int:
        try:
            await self._alone(self._apply, origin, batch)
        except (sqlite3.Error, OSError) as error:
            raise Retry(f"the checkpoint cannot be written: {error}") from error
        return 0

    def _apply(self, origin: Origin, batch: Batch) -> None:
        key = (origin.log_id, origin.pipeline)
        for row in batch.rows:
            if row.seq > self._applied.get(key, 0):  # not again when only the checkpoint failed
                self._applied[key] = row.seq
                self._state.apply(origin.signal.request.FromString(row.payload), row.received_ns)
        self._checkpoint.save(self._state, *key, batch.last)
        self._applied[key] = batch.last

    def _on_drop(self, metric: str, reason: str) -> None:
        self._own.add("taximeter_collector_dropped_points", exporter=self.name, reason=reason)
        if (metric, reason) not in self._dropped and len(self._dropped) < 1000:
            self._dropped.add((metric, reason))
            _logger.warning("exporter %s does not show metric %s: %s", self.name, metric, reason)

    async def _alone(self, work: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] != "/metrics":
            await respond(send, 404, b"not found; see /metrics\n", "text/plain")
        elif scope["method"] not in ("GET", "HEAD"):
            await respond(send, 405, b"only GET\n", "text/plain", {"allow": "GET, HEAD"})
        elif self._waiting_for:
            text = b"catching up with the log after a restart\n"
            await respond(send, 503, text, "text/plain", {"retry-after": "1"})
        else:
            headers = dict(scope["headers"])
            accept = headers.get(b"accept", b"").decode("latin-1")
            is_prometheus = b"x-prometheus-scrape-timeout-seconds" in headers
            open_metrics = self._values["enable_open_metrics"] and "application/openmetrics-text" in accept
            body = await self._alone(self._render, open_metrics, is_prometheus)
            await respond(send, 200, body.encode(), OPEN_METRICS if open_metrics else PLAIN)

    def _render(self, open_metrics: bool, births: bool) -> str:
        now = time.time_ns()
        self._state.expire(now)
        timestamps = self._values["send_timestamps"]
        return render(self._state, now, open_metrics=open_metrics, births=births, timestamps=timestamps)

    def _clock(self) -> Iterator[tuple[str, dict[str, str], float]]:
        lead = self._state.lead
        seconds = lead.seconds(time.time_ns())
        whose = {"service": lead.job} if seconds > 1 else {}  # less is the clocks' ordinary difference
        yield "taximeter_collector_clock_lead_seconds", {"exporter": self.name, **whose}, seconds

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop()
        self._executor.shutdown()
        self._checkpoint.close()
