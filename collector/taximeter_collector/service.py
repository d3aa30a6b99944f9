"""The one place where the collector's parts are wired together, started and stopped.

Order of the start: directory, logs, exporters, pumps, receivers; what can be refused is
refused before a receiver listens. The stop goes the other way: receivers first, then every
cursor gets a bounded time to deliver; what is left stays in the log for the next start.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from taximeter_collector.auth import make_authenticator
from taximeter_collector.config.loader import CollectorConfig, Component, Pipeline
from taximeter_collector.connect.connector import Connector
from taximeter_collector.connect.make import make_connector
from taximeter_collector.directory import DataDirectory, data_directory, file_name
from taximeter_collector.errors import StartError
from taximeter_collector.export.base import LOCAL_BACKOFF, Backoff, Exporter, Origin
from taximeter_collector.export.dead_letters import DeadLetters
from taximeter_collector.export.make import make_exporter
from taximeter_collector.export.pump import Pump, cursor_name, drain
from taximeter_collector.listen import Bounds, HttpServer, Scope, bind, page
from taximeter_collector.log import Log
from taximeter_collector.memory import MemoryLimiter, resident_bytes
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.process.account import annotate
from taximeter_collector.process.chain import Chain
from taximeter_collector.process.make import CHANGING, make_processor
from taximeter_collector.process.stage import TailSamplingStage
from taximeter_collector.process.tail_sampling import build as build_sampler
from taximeter_collector.process.tail_sampling import gather_all
from taximeter_collector.prometheus.expose import PLAIN
from taximeter_collector.receive.grpc import GrpcReceiver
from taximeter_collector.receive.http import guarded, otlp_http
from taximeter_collector.receive.intake import Intake
from taximeter_collector.signals import SIGNALS, Signal
from taximeter_collector.status import Status
from taximeter_collector.status import app as status_app
from taximeter_collector.tls import server_context

_GC_OBJECTS = 50_000
_DRAIN_S = 10.0
_logger = logging.getLogger(__name__)


class Service:
    """One running collector."""

    def __init__(self, config: CollectorConfig, data_dir: Path | None) -> None:
        self._config = config
        storage = config.extension("file_storage")
        path = data_directory(config, data_dir)
        if storage and not storage.values["create_directory"] and not path.is_dir():
            raise StartError(f"extensions.{storage.id}.directory: {path} does not exist: create it")
        self._max_bytes = (storage.values["max_size_mib"] if storage else 1024) << 20
        self._directory = DataDirectory(path)
        self._own = OwnMetrics()
        self._logs: dict[str, Log] = {}
        self._exporters: dict[str, Exporter] = {}
        self._pumps: list[Pump] = []
        self._stages: dict[str, TailSamplingStage] = {}  # by pipeline
        self._kept: dict[str, Log] = {}  # the logs behind them
        self._tasks: list[asyncio.Task[None]] = []
        self._receivers: list[GrpcReceiver | HttpServer] = []
        self._pages: list[HttpServer] = []
        self._ready = False
        self._status: Status | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._begun = time.time()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; raises :class:`~taximeter_collector.errors.CollectorError`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            try:
                await self._start()
            except (OSError, sqlite3.Error) as error:  # mostly a full disk
                raise StartError(
                    f"the data directory {self._directory.path} cannot be written ({error}): "
                    "free some space or make it writable"
                ) from error
            _logger.info("ready; data in %s", self._directory.path.resolve())
            await self._until_stopped()
        finally:
            await self._shut_down()

    async def _start(self) -> None:
        health = self._config.extension("health_check")
        if health:
            await self._page(
                health.values["endpoint"],
                f"extensions.{health.id}.endpoint",
                health.values["path"],
                self._health,
            )
        if self._config.telemetry.metrics_endpoint:
            where = "service.telemetry.metrics"
            server = HttpServer(
                status_app(self._own_page, lambda: self._status),
                bind(self._config.telemetry.metrics_endpoint, where),
            )
            self._pages.append(server)
            await server.start()
        self._own.read_from(self._gauges)
        self._open_logs()
        for name in dict.fromkeys(name for p in self._config.pipelines for name in p.exporters):
            connector = self._config.connectors.get(name)
            if connector is not None:
                self._exporters[name] = make_connector(connector, self._logs["metrics"])
            else:
                self._exporters[name] = make_exporter(self._config, name, self._directory.path, self._own)
        for exporter in self._exporters.values():
            await exporter.start()
        for log in (*self._logs.values(), *self._kept.values()):
            log.start()
        for pipeline in self._config.pipelines:
            for name in pipeline.exporters:
                self._pumps.append(self._pump(pipeline, name))
        parts: list[TailSamplingStage | Pump] = [*self._stages.values(), *self._pumps]
        self._tasks = [asyncio.create_task(part.run(), name=part.cursor) for part in parts]
        for name in dict.fromkeys(name for p in self._config.pipelines for name in p.receivers):
            if name in self._config.receivers:
                await self._start_receiver(self._config.receivers[name])
        self._status = Status(self._own, self._logs, self._pumps, self._stages, self._directory.path)
        self._watching = asyncio.create_task(self._status.run())
        self._ready = True

    async def _until_stopped(self) -> None:
        """Also ends when a pump dies, which only a fault in Taximeter can cause: better loud than deaf."""
        stop = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stop, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        if stop not in done:
            stop.cancel()
            for task in done:
                await task
            raise StartError("an exporter's task ended by itself: please report this")

    async def _shut_down(self) -> None:
        self._ready = False
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*(receiver.stop() for receiver in self._receivers))
        for stage in self._stages.values():
            stage.drain()
        # What a connector makes is to be delivered too: those that feed another log end first.
        first = [pump for pump in self._pumps if isinstance(pump.exporter, Connector)]
        await drain(first, self._tasks_of(first), _DRAIN_S)
        left = await drain(self._pumps, self._tasks, _DRAIN_S)
        if left:
            _logger.warning(
                "%d requests are not delivered yet; they stay in the log for the next start", left
            )
        for exporter in self._exporters.values():
            await exporter.close()
        for log in (*self._kept.values(), *self._logs.values()):
            await log.close()
        for server in self._pages:
            await server.stop()
        self._directory.close()

    def _tasks_of(self, pumps: list[Pump]) -> list[asyncio.Task[None]]:
        names = {pump.cursor for pump in pumps}
        return [task for task in self._tasks if task.get_name() in names]

    def _open_logs(self) -> None:
        for name in SIGNALS:
            cursors = []
            for pipeline in (p for p in self._config.pipelines if p.signal == name):
                whole = self._whole_traces(pipeline)
                readers = (whole.id,) if whole else pipeline.exporters
                cursors += [cursor_name(pipeline.id, reader) for reader in readers]
            if cursors:
                self._logs[name] = self._open_log(name, name, cursors)
        for pipeline in self._config.pipelines:
            whole = self._whole_traces(pipeline)
            if whole:
                cursors = [cursor_name(pipeline.id, exporter) for exporter in pipeline.exporters]
                kept = self._open_log(f"{file_name(pipeline.id)}.sampled", pipeline.signal, cursors)
                self._kept[pipeline.id] = kept
                self._stages[pipeline.id] = self._stage(pipeline, whole, kept)

    def _open_log(self, name: str, signal_name: str, cursors: list[str]) -> Log:
        log = Log(self._directory.log(name), signal_name, max_bytes=self._max_bytes)
        for cursor, lag in log.register(cursors).items():
            if lag:
                _logger.warning("%s is no longer configured: it gives up %d requests of the log", cursor, lag)
        return log

    def _whole_traces(self, pipeline: Pipeline) -> Component | None:
        """The processor that needs whole traces, if the pipeline has one; tail_sampling sets the waits."""
        return self._processor(pipeline, "tail_sampling") or self._processor(pipeline, "request_account")

    def _stage(self, pipeline: Pipeline, whole: Component, kept: Log) -> TailSamplingStage:
        sampling = whole.type == "tail_sampling"
        return TailSamplingStage(
            whole.id,
            pipeline.id,
            source=self._logs[pipeline.signal],
            sources=pipeline.receivers,
            kept=kept,
            sampler=build_sampler(whole.values) if sampling else gather_all(whole.values),
            own=self._own,
            chain=self._chain(pipeline, before=True),
            annotate=annotate if self._processor(pipeline, "request_account") else None,
            marked=sampling,
        )

    def _pump(self, pipeline: Pipeline, exporter: str) -> Pump:
        log = self._kept.get(pipeline.id, self._logs[pipeline.signal])
        sources = (pipeline.id,) if pipeline.id in self._kept else pipeline.receivers
        values = self._config.sink(exporter).values
        retry = values.get("retry_on_failure")
        batching = {}
        batch = self._processor(pipeline, "batch")
        if batch and retry:  # the local exporters gather in their own way
            batching = {
                "linger_s": batch.values["timeout"],
                "enough_items": batch.values["send_batch_size"],
                "max_items": batch.values["send_batch_max_size"],
            }
        return Pump(
            log,
            Origin(SIGNALS[pipeline.signal], pipeline.id, log.log_id),
            sources,
            self._exporters[exporter],
            backoff=Backoff.of(retry) if retry else LOCAL_BACKOFF,
            dead_letters=DeadLetters(self._directory.path, pipeline.signal, pipeline.id, exporter),
            own=self._own,
            chain=self._chain(pipeline, before=False),
            **batching,
        )

    def _chain(self, pipeline: Pipeline, *, before: bool) -> Chain:
        """The processors that change requests, before or after the one that gathers whole traces."""
        components = [self._config.processors[name] for name in pipeline.processors]
        whole = self._whole_traces(pipeline)
        split = components.index(whole) if whole else 0
        chosen = components[:split] if before else components[split:]
        made = [make_processor(c) for c in chosen if c.type in CHANGING]
        return Chain(made, SIGNALS[pipeline.signal])

    def _processor(self, pipeline: Pipeline, kind: str) -> Component | None:
        for name in pipeline.processors:
            if self._config.processors[name].type == kind:
                return self._config.processors[name]
        return None

    async def _start_receiver(self, component: Component) -> None:
        pipelines = [p for p in self._config.pipelines if component.id in p.receivers]
        logs = {p.signal: self._logs[p.signal] for p in pipelines}
        limits: dict[str, Callable[[], str]] = {}
        for pipeline in pipelines:
            limiter = self._processor(pipeline, "memory_limiter")
            if limiter:
                limits[pipeline.signal] = MemoryLimiter(limiter.id, limiter.values).over
        intake = Intake(component.id, logs, self._own, limits)
        path = f"receivers.{component.id}.protocols"
        grpc, http = (component.values["protocols"][key] for key in ("grpc", "http"))
        if grpc:
            authenticator = make_authenticator(self._config, grpc)
            server = GrpcReceiver(intake, grpc, f"{path}.grpc", authenticator)
            self._receivers.append(server)
            await server.start()
        if http:
            paths: dict[str, Signal] = {http[f"{s.name}_url_path"]: s for s in intake.signals}
            authenticator = make_authenticator(self._config, http)
            app = otlp_http(intake, paths, http["max_request_body_size"])
            if authenticator is not None:
                app = guarded(app, authenticator, intake)
            context = server_context(http["tls"], f"{path}.http.tls") if http["tls"] else None
            socket = bind(http["endpoint"], f"{path}.http.endpoint")
            listener = HttpServer(app, socket, tls=context, bounds=self._bounds(component.id, http))
            self._receivers.append(listener)
            await listener.start()

    def _bounds(self, receiver: str, http: Mapping[str, Any]) -> Bounds:
        def refused(reason: str) -> None:
            self._own.add("taximeter_collector_refused_connections", receiver=receiver, reason=reason)

        return Bounds(
            http["max_connections"],
            http["read_header_timeout"],
            http["read_timeout"],
            http["idle_timeout"],
            refused,
        )

    async def _page(
        self, endpoint: str, where: str, path: str, render: Callable[[Scope], tuple[int, str, str]]
    ) -> None:
        server = HttpServer(page(path, render), bind(endpoint, where))
        self._pages.append(server)
        await server.start()

    def _health(self, scope: Scope) -> tuple[int, str, str]:
        words = "Server available" if self._ready else "Server not available"
        body = {"status": words, "uptime": f"{time.time() - self._begun:.3f}s"}
        return (200 if self._ready else 503), "application/json", json.dumps(body)

    def _own_page(self) -> tuple[int, str, str]:
        if not self._pumps:  # without its queue sizes the page would read like "nothing is waiting"
            return 503, PLAIN, "# starting\n"
        return 200, PLAIN, self._own.render()

    def _gauges(self) -> Iterable[tuple[str, dict[str, str], float]]:
        for pump in self._pumps:
            yield "otelcol_exporter_queue_size", pump.labels, pump.lag
        for stage in self._stages.values():
            yield (
                "otelcol_processor_tail_sampling_sampling_traces_on_memory",
                {"processor": stage.name},
                stage.open_traces,
            )
        for name, log in self._logs.items():
            yield "taximeter_collector_log_bytes", {"data_type": name}, log.bytes_stored
            yield "taximeter_collector_log_limit_bytes", {"data_type": name}, log.max_bytes
        for name, log in (*self._logs.items(), *self._kept.items()):
            yield "taximeter_collector_log_damaged_requests", {"log": name}, log.damaged_requests
            yield "taximeter_collector_log_damaged_items", {"log": name}, log.damaged_items
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield "otelcol_process_cpu_seconds", {}, used.ru_utime + used.ru_stime
        yield "otelcol_process_memory_rss", {}, resident_bytes()
        yield "otelcol_process_uptime", {}, time.time() - self._begun


def run(config: CollectorConfig, data_dir: Path | None) -> None:
    """Run a collector in this process until it is told to stop."""
    for note in config.notes:
        _logger.warning("%s", note)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it would print, the collector says itself

    # A request is thousands of small objects and no cycle: with Python's own threshold of 700 of them, the
    # search for cycles among all that is held took a fifth of tail sampling's time.
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS)

    async def main() -> None:
        await Service(config, data_dir).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  (not on every platform)
    except ImportError:
        return None
    return uvloop.new_event_loop
