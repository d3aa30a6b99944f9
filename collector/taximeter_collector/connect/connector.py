"""A connector: an exporter whose destination is another signal's log.

Counted exactly once. What it has counted, how far it has read and the request that tells of it are
written in one transaction of the log it writes to; so after a kill it goes on with the spans that are
not in its sums, and nobody needs to guess. When that log is full it waits, and its own log with it.

Tables beside that log's own::

    connectors  name, about        about: what the sums mean; when it differs, counting begins anew
    counted_to  name, log_id, pipeline, seq
    counted     name, resource, metric, attributes (JSON), cell (JSON)
    counted_spans  name, span, at_ns    the requests counted lately: none counts twice
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sqlite3
import time
from abc import abstractmethod
from collections.abc import Callable

from taximeter_collector.connect.counted import Cell, Counted, Key
from taximeter_collector.errors import Refusal
from taximeter_collector.export.base import Exporter, Origin, Retry
from taximeter_collector.log import Batch, Log

_logger = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS connectors (name TEXT PRIMARY KEY, about TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted_to (name TEXT, log_id TEXT, pipeline TEXT, seq INTEGER,
    PRIMARY KEY (name, log_id, pipeline)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (name TEXT, resource BLOB, metric TEXT, attributes TEXT, cell TEXT,
    PRIMARY KEY (name, resource, metric, attributes)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted_spans (name TEXT, span BLOB, at_ns INTEGER,
    PRIMARY KEY (name, span)) WITHOUT ROWID;
"""
_WINDOW_NS = 600 * 10**9  # as the log's own for whole requests
_AGAIN_NS = 60 * 10**9


class Connector(Exporter):
    """``count`` says what a request of the first log adds; everything else is here."""

    def __init__(self, name: str, target: Log, *, flush_s: float, idle_s: float, about: str) -> None:
        super().__init__(name)
        self.linger_s = flush_s
        self._target, self._idle_ns, self._about = target, int(idle_s * 1e9), about
        self._positions: dict[tuple[str, str], int] = {}
        self._spans: dict[bytes, int] = {}  # counted lately: digest -> when
        self._new_spans: set[bytes] = set()
        self._counted = self.empty()
        self._restore(target.prepare(_SCHEMA))

    @abstractmethod
    def empty(self) -> Counted:
        """Nothing counted yet."""

    @abstractmethod
    def count(self, counted: Counted, payload: bytes, now_ns: int) -> None:
        """Add what a serialised trace request tells; ``self.first_time`` says what was counted before."""

    def first_time(self, trace_id: bytes, span_id: bytes, now_ns: int) -> bool:
        """Whether this span is not counted yet, within ten minutes; from now on it is."""
        digest = hashlib.blake2b(trace_id + span_id, digest_size=12).digest()
        if digest in self._spans:
            return False
        self._spans[digest] = now_ns
        self._new_spans.add(digest)
        return True

    def position(self, origin: Origin, committed: int) -> int:
        return max(committed, self._positions.get((origin.log_id, origin.pipeline), 0))

    async def export(self, origin: Origin, batch: Batch) -> int:
        payload, points, within = await asyncio.to_thread(self._prepare, origin, batch)
        try:
            await self._target.append(payload, points, self.name, within, again=True)
        except (Refusal, sqlite3.Error) as error:
            await asyncio.to_thread(self._reload)  # the sums hold what was not written: back to what is
            after = error.retry_after_s if isinstance(error, Refusal) else None
            raise Retry(f"the log of {self.name}'s metrics: {error}", after) from error
        self._positions[origin.log_id, origin.pipeline] = batch.last
        return 0

    def _prepare(
        self, origin: Origin, batch: Batch
    ) -> tuple[bytes, int, Callable[[sqlite3.Connection], None]]:
        for row in batch.rows:
            try:
                self.count(self._counted, row.payload, row.received_ns)
            except Exception:  # one strange request must not stop the pipeline
                _logger.exception("connector %s cannot count request %d: it is left out", self.name, row.seq)
        now_ns = time.time_ns()
        oldest = now_ns - _WINDOW_NS
        self._spans = {span: at for span, at in self._spans.items() if at >= oldest}
        told = self._counted.due(now_ns, _AGAIN_NS, self._idle_ns)
        request = self._counted.request(told, now_ns)
        cells = [(self.name, *_stored(key), self._counted.cell(key).encode()) for key in told]
        gone = [(self.name, resource) for resource in self._counted.forgotten]
        spans = [(self.name, span, self._spans[span]) for span in self._new_spans if span in self._spans]
        place = (self.name, origin.log_id, origin.pipeline, batch.last)
        self._counted.changed, self._counted.forgotten, self._new_spans = set(), set(), set()

        def within(database: sqlite3.Connection) -> None:
            database.executemany("DELETE FROM counted WHERE name=? AND resource=?", gone)
            database.executemany("INSERT OR REPLACE INTO counted VALUES (?, ?, ?, ?, ?)", cells)
            database.executemany("INSERT OR REPLACE INTO counted_spans VALUES (?, ?, ?)", spans)
            database.execute("DELETE FROM counted_spans WHERE name=? AND at_ns<?", (self.name, oldest))
            database.execute("INSERT OR REPLACE INTO counted_to VALUES (?, ?, ?, ?)", place)

        return request.SerializeToString(), len(told), within

    def _reload(self) -> None:
        self._counted = self.empty()
        self._spans, self._new_spans, self._positions = {}, set(), {}
        database = sqlite3.connect(self._target.path)
        try:
            self._restore(database)
        finally:
            database.close()

    def _restore(self, database: sqlite3.Connection) -> None:
        known = database.execute("SELECT about FROM connectors WHERE name=?", (self.name,)).fetchone()
        if known != (self._about,):
            database.execute("DELETE FROM counted WHERE name=?", (self.name,))
            database.execute("INSERT OR REPLACE INTO connectors VALUES (?, ?)", (self.name, self._about))
        for resource, metric, attributes, cell in database.execute(
            "SELECT resource, metric, attributes, cell FROM counted WHERE name=?", (self.name,)
        ):
            pairs = tuple((key, value) for key, value in json.loads(attributes))
            self._counted.restore(Key(resource, metric, pairs), Cell.decode(cell))
        for span, at_ns in database.execute(
            "SELECT span, at_ns FROM counted_spans WHERE name=?", (self.name,)
        ):
            self._spans[span] = at_ns
        for log_id, pipeline, seq in database.execute(
            "SELECT log_id, pipeline, seq FROM counted_to WHERE name=?", (self.name,)
        ):
            self._positions[log_id, pipeline] = seq


def _stored(key: Key) -> tuple[bytes, str, str]:
    return key.resource, key.metric, json.dumps(key.attributes)
