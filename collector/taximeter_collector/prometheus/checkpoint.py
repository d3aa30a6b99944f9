"""The Prometheus exporter's state on disk: series and cursor in one transaction.

So after ``kill -9`` the series continue exactly where the cursor stands, and what the log
replays from there counts once. SQLite, format version 1::

    meta     key, value                      format, created_ns
    cursors  log_id, pipeline, seq           every seq up to it is in the series
    families name, kind, help
    series   family, labels (JSON), data (JSON of series.Series)
    ended    family, labels (JSON), at_ns    counters that expired
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from taximeter_collector.errors import StartError
from taximeter_collector.prometheus.series import Family, Labels, Series
from taximeter_collector.prometheus.state import Changes, State

FORMAT = "1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cursors (log_id TEXT, pipeline TEXT, seq INTEGER, PRIMARY KEY (log_id, pipeline));
CREATE TABLE IF NOT EXISTS families (name TEXT PRIMARY KEY, kind TEXT, help TEXT);
CREATE TABLE IF NOT EXISTS series (family TEXT, labels TEXT, data TEXT, PRIMARY KEY (family, labels));
CREATE TABLE IF NOT EXISTS ended (family TEXT, labels TEXT, at_ns INTEGER, PRIMARY KEY (family, labels));
"""


class Checkpoint:
    """One file; used from one thread at a time."""

    def __init__(self, path: Path, created_ns: int) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            values = [("format", FORMAT), ("created_ns", str(created_ns))]
            self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", values)
            meta = dict(self._db.execute("SELECT key, value FROM meta"))
        except sqlite3.DatabaseError as error:
            raise StartError(
                f"the Prometheus state {path} cannot be opened ({error}): move it aside"
            ) from error
        if meta["format"] != FORMAT:
            raise StartError(
                f"the Prometheus state {path} has format {meta['format']}; this release reads {FORMAT}"
            )
        self.created_ns = int(meta["created_ns"])

    def load(self, state: State) -> dict[tuple[str, str], int]:
        """Fill an empty state; returns the cursors by (log id, pipeline)."""
        families = {
            name: Family(name, kind, text) for name, kind, text in self._db.execute("SELECT * FROM families")
        }
        state.families.update(families)
        for name, labels, data in self._db.execute("SELECT * FROM series"):
            state.restore(families[name], _decode(labels), Series.decode(data))
        for name, labels, at_ns in self._db.execute("SELECT * FROM ended"):
            state.ended[name, _decode(labels)] = at_ns
        return {
            (log_id, pipeline): seq for log_id, pipeline, seq in self._db.execute("SELECT * FROM cursors")
        }

    def save(self, state: State, log_id: str, pipeline: str, seq: int) -> None:
        """Write the changes and the cursor, then forget the changes; raises sqlite3.Error."""
        changes = state.changes
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for name in changes.families:
                family = state.families[name]
                self._db.execute(
                    "INSERT OR REPLACE INTO families VALUES (?, ?, ?)", (name, family.kind, family.help)
                )
            for name, labels in changes.series:
                series = state.series.get(name, {}).get(labels)
                key = (name, json.dumps(labels))
                if series is None:
                    self._db.execute("DELETE FROM series WHERE family=? AND labels=?", key)
                else:
                    self._db.execute(
                        "INSERT OR REPLACE INTO series VALUES (?, ?, ?)", (*key, series.encode())
                    )
            for (name, labels), at_ns in changes.ended.items():
                key = (name, json.dumps(labels))
                if at_ns:
                    self._db.execute("INSERT OR REPLACE INTO ended VALUES (?, ?, ?)", (*key, at_ns))
                else:
                    self._db.execute("DELETE FROM ended WHERE family=? AND labels=?", key)
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (log_id, pipeline, seq))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        state.changes = Changes()

    def close(self) -> None:
        self._db.close()


def _decode(labels: str) -> Labels:
    return tuple((name, value) for name, value in json.loads(labels))
