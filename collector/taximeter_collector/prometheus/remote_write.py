"""The ``prometheus_remote_write`` exporter: every sample of the log, in order, to whoever takes them.

The log is its queue. What the series are is checkpointed, with the cursor, when the samples are taken; a
crash in between sends the same samples again, which a receiver recognises. After an outage everything is sent
that came meanwhile, each sample with its own time.

A receiver that refuses one sample refuses the request, and Prometheus 2.42 answers what is too old with
500, as if it might be taken later. So a complaint about samples is answered by finding them: those too old
by their time, others by halving the request. They are dropped and counted; nothing waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa

from taximeter_collector import tls
from taximeter_collector.auth import Authenticator
from taximeter_collector.export.base import Exporter, Origin, Permanent, Retry
from taximeter_collector.log import Batch
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.prometheus.checkpoint import Checkpoint
from taximeter_collector.prometheus.samples import STALE, Line, encode, lines, named
from taximeter_collector.prometheus.series import Labels
from taximeter_collector.prometheus.state import Changes, Options, State

_logger = logging.getLogger(__name__)
_FORGET_NS = 3600 * 10**9  # series that nobody sends any more
_TOO_OLD = ("out of bounds", "too old", "too far in the past")
_MAX_TRIES = 500  # requests for one batch while its bad samples are looked for
_HEADERS = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
    "user-agent": "taximeter",
}


class _Refused(Exception):
    """The receiver complains about samples."""

    def __init__(self, reason: str, *, too_old: bool) -> None:
        super().__init__(reason)
        self.too_old = too_old


class RemoteWriteExporter(Exporter):
    """One receiver."""

    linger_s = 0.2

    def __init__(
        self,
        name: str,
        values: dict[str, Any],
        state_path: Path,
        own: OwnMetrics,
        authenticator: Authenticator | None = None,
    ) -> None:
        super().__init__(name)
        self._url: str = values["endpoint"]
        self._values, self._own, self._authenticator = values, own, authenticator
        self._external: Labels = tuple(sorted(values["external_labels"].items()))
        self._verify = tls.client_context(values["tls"], f"exporters.{name}.tls")
        self._checkpoint = Checkpoint(state_path, time.time_ns())
        self._dropped: set[tuple[str, str]] = set()
        self._begin()
        self._codec = pa.Codec("snappy")
        self._client: httpx.AsyncClient | None = None

    def _begin(self) -> None:
        """From the checkpoint: at the start, and when what was applied is given up."""
        options = Options(
            namespace=self._values["namespace"],
            suffixes=self._values["add_metric_suffixes"],
            scope_labels=not self._values["disable_scope_info"],
            resource_labels=self._values["resource_to_telemetry_conversion"]["enabled"],
            expiration_ns=_FORGET_NS,
            start_at_zero=self._values["start_at_zero"],
        )
        self._state = State(options, self._on_drop, self._checkpoint.created_ns)
        self._applied = self._checkpoint.load(self._state)
        self._targets = {labels: s.extra for labels, s in self._state.series.get("target_info", {}).items()}
        self._waiting: dict[Labels, Line] = {}
        self._exemplars: dict[tuple[Labels, int], int] = {}

    async def start(self) -> None:
        local = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
        self._client = httpx.AsyncClient(
            headers={**self._values["headers"], **_HEADERS},
            timeout=self._values["timeout"] or None,
            verify=self._verify,
            trust_env=not local,
        )

    def position(self, origin: Origin, committed: int) -> int:
        return max(committed, self._applied.get((origin.log_id, origin.pipeline), 0))

    async def export(self, origin: Origin, batch: Batch) -> int:
        key = (origin.log_id, origin.pipeline)
        await asyncio.to_thread(self._apply, key, origin, batch)
        found = list(self._waiting.values())
        try:
            for part in _parts(found, self._values["max_batch_size_bytes"]):
                await self._deliver(part)
        except Permanent:
            await asyncio.to_thread(self._begin)
            raise
        try:
            await asyncio.to_thread(self._checkpoint.save, self._state, *key, batch.last)
        except (sqlite3.Error, OSError) as error:
            raise Retry(f"the checkpoint cannot be written: {error}") from error
        self._applied[key] = batch.last
        self._waiting = {}
        return 0

    def _apply(self, key: tuple[str, str], origin: Origin, batch: Batch) -> None:
        for row in batch.rows:
            if row.seq > self._applied.get(key, 0):  # not again when only the sending failed
                before, self._state.changes = self._state.changes, Changes()
                self._state.apply(origin.signal.request.FromString(row.payload), row.received_ns)
                self._collect(self._state.changes, row.received_ns)
                self._state.expire(row.received_ns)
                self._state.changes = _merged(before, self._state.changes)
                self._applied[key] = row.seq

    def _collect(self, changes: Changes, received_ns: int) -> None:
        for (name, _), ended in changes.gone.items():
            for line, _, _ in lines(self._state.families[name], ended, self._external):
                self._add(line, max(received_ns, ended.time_ns + 1_000_000), STALE)
        for name, labels in sorted(changes.series):
            family, series = self._state.families[name], self._state.series.get(name, {}).get(labels)
            if series is None:
                continue
            if family.kind == "info":
                if not self._values["target_info"]["enabled"]:
                    continue
                former = self._targets.get(labels)
                if former is not None and former != series.extra:  # a new version: the old one ends
                    self._add(named(name, labels + former, self._external), received_ns, STALE)
                self._targets[labels] = series.extra
            time_ns = series.time_ns or received_ns
            born = bool(series.born_ns)
            series.born_ns = 0
            for at, (line, value, exemplar) in enumerate(lines(family, series, self._external)):
                if born:
                    self._add(line, time_ns - 10**9, 0.0)
                found = self._add(line, time_ns, value)
                if exemplar is not None and exemplar.time_ns > self._exemplars.get((line, at), 0):
                    self._exemplars[line, at] = exemplar.time_ns
                    found.exemplars.append(exemplar)
            if len(self._exemplars) > 100_000:
                self._exemplars.clear()  # a receiver ignores what it has

    def _add(self, labels: Labels, time_ns: int, value: float) -> Line:
        line = self._waiting.get(labels)
        if line is None:
            line = self._waiting[labels] = Line(labels)
        milliseconds = time_ns // 1_000_000
        if not line.samples or line.samples[-1][0] < milliseconds:
            line.samples.append((milliseconds, value))
        elif line.samples[-1][0] == milliseconds:
            line.samples[-1] = (milliseconds, value)
        return line

    def _on_drop(self, metric: str, reason: str) -> None:
        self._own.add("taximeter_collector_dropped_points", exporter=self.name, reason=reason)
        if (metric, reason) not in self._dropped and len(self._dropped) < 1000:
            self._dropped.add((metric, reason))
            _logger.warning("exporter %s does not send metric %s: %s", self.name, metric, reason)

    # --- sending -------------------------------------------------------------------------

    async def _deliver(self, part: list[Line]) -> None:
        try:
            await self._post(part)
        except _Refused as refused:
            dropped = await without_refused(part, refused, self._post)
            self._own.add(
                "taximeter_collector_dropped_points", dropped, exporter=self.name, reason="refused_sample"
            )
            _logger.warning("exporter %s drops %d samples: %s", self.name, dropped, refused)

    async def _post(self, part: list[Line]) -> None:
        assert self._client is not None
        body = await asyncio.to_thread(lambda: self._codec.compress(encode(part), asbytes=True))
        credentials = {} if self._authenticator is None else self._authenticator.headers()
        try:
            answer = await self._client.post(self._url, content=body, headers=credentials)
        except httpx.TransportError as error:
            raise Retry(f"{self._url}: {type(error).__name__}: {error}") from error
        if answer.is_success:
            return
        said = answer.text[:300].strip()
        reason = f"{self._url}: {answer.status_code} {said}"
        too_old = any(words in said for words in _TOO_OLD)
        if answer.status_code == 400 or (answer.status_code == 500 and too_old):
            raise _Refused(reason, too_old=too_old)
        if answer.status_code == 429 or answer.status_code >= 500:
            after = answer.headers.get("retry-after", "")
            raise Retry(reason, float(after) if after.isdigit() else None)
        raise Permanent(reason)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
        self._checkpoint.close()


async def without_refused(
    part: list[Line], refused: _Refused, post: Callable[[list[Line]], Awaitable[None]]
) -> int:
    """Send what the receiver will take of a refused request; returns how many samples it will not."""
    tries = 0

    async def taken(some: list[Line]) -> _Refused | None:
        nonlocal tries
        tries += 1
        if tries > _MAX_TRIES:
            raise Permanent(f"more than {_MAX_TRIES} requests did not find what is wrong: {refused}")
        try:
            await post(some)
        except _Refused as again:
            return again
        return None

    if refused.too_old:
        times = sorted({at for line in part for at, _ in line.samples})
        low, high = 0, len(times)  # times[low:] is taken, times[:low] is not; searched between
        while low < high:
            middle = (low + high) // 2
            probe = next(_at(line, times[middle]) for line in part if _has(line, times[middle]))
            again = await taken([probe])
            if again is not None and again.too_old:
                low = middle + 1
            else:
                high = middle
        kept = [_since(line, times[low]) for line in part] if low < len(times) else []
        kept = [line for line in kept if line.samples]
        dropped = _count(part) - _count(kept)
        if kept:
            dropped += await _halved(kept, taken)
        return dropped
    return await _halved(part, taken)


async def _halved(part: list[Line], taken: Callable[[list[Line]], Awaitable[_Refused | None]]) -> int:
    if await taken(part) is None:
        return 0
    if len(part) == 1:
        samples = part[0].samples
        if len(samples) == 1:
            return 1
        dropped = 0
        for at in range(len(samples)):
            dropped += await _halved([Line(part[0].labels, samples[at : at + 1])], taken)
        return dropped
    middle = len(part) // 2
    return await _halved(part[:middle], taken) + await _halved(part[middle:], taken)


def _parts(found: list[Line], max_bytes: int) -> list[list[Line]]:
    parts: list[list[Line]] = []
    size = max_bytes + 1
    for line in found:
        if size + line.size > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += line.size
    return parts


def _has(line: Line, at: int) -> bool:
    return any(time == at for time, _ in line.samples)


def _at(line: Line, at: int) -> Line:
    return Line(line.labels, [sample for sample in line.samples if sample[0] == at])


def _since(line: Line, at: int) -> Line:
    return Line(line.labels, [sample for sample in line.samples if sample[0] >= at], line.exemplars)


def _count(part: list[Line]) -> int:
    return sum(len(line.samples) for line in part)


def _merged(before: Changes, after: Changes) -> Changes:
    return Changes(before.families | after.families, before.series | after.series, before.ended | after.ended)
