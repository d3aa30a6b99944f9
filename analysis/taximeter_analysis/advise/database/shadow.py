"""The shadow: an empty Postgres that plans as the production server does, because it has its statistics.

``pg_dump --no-data --statistics`` brings tables and what ANALYZE knew of them. The planner takes a table's
size from its file, so files are extended to their real number of pages (sparsely: holes cost no disk).
Candidates are really created, on tables still empty, and given the size that their keys would need. No row of
production is read.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from taximeter_analysis.advise.database.candidates import Candidate
from taximeter_analysis.advise.database.planner import Shadow
from taximeter_analysis.advise.database.server import Server, ServerFailed, running
from taximeter_analysis.advise.database.session import Session

_PAGE = 8192
_SEGMENT = 131_072  # pages of a file; a larger table goes on in "<file>.1"
_SETTINGS = """
autovacuum = off
max_locks_per_transaction = 1024
jit = off
"""
_DUMP_S = 300


@dataclass(frozen=True)
class Size:
    """What production has of a table or index."""

    kind: str
    pages: int
    rows: float
    visible: int


@contextlib.contextmanager
def shadow_of(dsn: str, production: Session) -> Iterator[ShadowServer]:
    """A running shadow of the database at ``dsn``.

    Raises:
        ServerFailed: it cannot be made (programs missing, or the dump refused).
    """
    with running(_SETTINGS) as server:
        notes = _restore(dsn, server)
        session = Session(server.dsn, read_only=False)
        try:
            yield ShadowServer(server, session, _sizes(production), _planner_settings(production), notes)
        finally:
            session.close()


class ShadowServer:
    """A shadow whose tables are still empty: declare candidates once, then ask."""

    def __init__(
        self,
        server: Server,
        session: Session,
        sizes: dict[tuple[str, str], Size],
        settings: dict[str, str],
        notes: list[str],
    ) -> None:
        taken = _taken(session, settings)
        self.planner = Shadow(session, taken)
        self.notes = notes
        self._session = session
        self._sizes = sizes
        self._data = server.installed.data

    def declare(self, candidates: Sequence[Candidate]) -> dict[Candidate, str]:
        """Create candidates, then give everything its size. Once: tables have their pages afterwards."""
        refused = self.planner.declare(candidates)
        sizes = dict(self._sizes)
        for each in candidates:
            table = self._sizes.get((each.schema, each.table))
            if table is not None and each not in refused:
                sizes[each.schema, each.name] = Size("i", pages_of(each, table.rows), table.rows, 0)
        present = self._session.rows(
            "SELECT n.nspname, c.relname, pg_relation_filepath(c.oid) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'i', 'm') "
            "AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
        )
        for schema, name, path in present:
            size = sizes.get((schema, name))
            if size is None or path is None:
                continue
            self._session.execute(
                "SELECT pg_restore_relation_stats('schemaname', %s::text, 'relname', %s::text, "
                "'relpages', %s::int, 'reltuples', %s::real, 'relallvisible', %s::int)",
                (schema, name, size.pages, size.rows, size.visible),
            )
            _extend(self._data / path, size.pages)
        for each in candidates:
            if each not in refused:
                self._expressions(each)
        return refused

    def _expressions(self, candidate: Candidate) -> None:
        """An expression has no statistics before its index stands: it gets those of the column that it is
        made of.
        """
        for place, key in enumerate(candidate.keys, 1):
            distinct = next((value for name, value in candidate.distinct if name == key), None)
            if distinct is not None:
                self._session.execute(
                    "SELECT pg_restore_attribute_stats('schemaname', %s::text, 'relname', %s::text, "
                    "'attnum', "
                    "%s::smallint, 'inherited', false, 'null_frac', 0::real, 'avg_width', 16, "
                    "'n_distinct', %s::real)",
                    (candidate.schema, candidate.name, place, distinct),
                )


def pages_of(candidate: Candidate, rows: float) -> int:
    """How many pages an index would have: rows of header, pointer and keys, pages filled to 90 %."""
    if candidate.method in ("hnsw", "ivfflat"):
        return max(2, math.ceil(rows * (candidate.width + 250) / _PAGE))
    return 1 + max(1, math.ceil(rows * (12 + 8 * math.ceil(candidate.width / 8)) / (_PAGE * 0.9)))


def _extend(path: Path, pages: int) -> None:
    """Make a relation's files ``pages`` long, with holes; never shorter."""
    owner = path.stat()
    for number in range(math.ceil(pages / _SEGMENT)):
        part = path if number == 0 else path.with_name(f"{path.name}.{number}")
        wanted = min(_SEGMENT, pages - number * _SEGMENT) * _PAGE
        if not part.exists():
            part.touch()
            part.chmod(owner.st_mode & 0o777)
            os.chown(part, owner.st_uid, owner.st_gid)
        if part.stat().st_size < wanted:
            os.truncate(part, wanted)


def _restore(dsn: str, server: Server) -> list[str]:
    parts = conninfo_to_dict(dsn)
    secret = {"PGPASSWORD": str(parts.pop("password"))} if "password" in parts else {}
    options = ["--no-data", "--statistics", "--no-owner", "--no-privileges", "--no-publications"]
    options += ["--no-subscriptions", "--no-comments", "--no-security-labels", "--lock-wait-timeout=2000"]
    target = make_conninfo("", **{name: str(value) for name, value in parts.items()})
    dump = subprocess.run(
        [str(server.installed.bin / "pg_dump"), *options, "-d", target],
        capture_output=True, check=False, timeout=_DUMP_S, env={**os.environ, **secret},
    )  # fmt: skip
    if dump.returncode != 0:
        words = dump.stderr.decode(errors="replace").strip()[-500:]
        raise ServerFailed(f"the server's schema and statistics cannot be read: {words}")
    argv = [str(server.installed.bin / "psql"), "-X", "-q", "-d", server.dsn]
    done = subprocess.run(argv, input=dump.stdout, capture_output=True, check=False, timeout=_DUMP_S)
    errors = [line for line in done.stderr.decode(errors="replace").splitlines() if "ERROR:" in line]
    if not errors:
        return []
    return [
        f"the shadow lacks {len(errors)} things of the schema, first: "
        f"{errors[0].partition('ERROR:')[2].strip()[:140]}"
    ]


def _sizes(production: Session) -> dict[tuple[str, str], Size]:
    found = production.rows(
        "SELECT n.nspname, c.relname, c.relkind::text, pg_relation_size(c.oid) / "
        "current_setting('block_size')::int, "
        "c.reltuples, c.relallvisible FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'i', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', "
        "'pg_toast')"
    )
    return {
        (schema, name): Size(kind, int(pages or 0), max(0.0, rows), visible or 0)
        for schema, name, kind, pages, rows, visible in found
    }


def _planner_settings(production: Session) -> dict[str, str]:
    """What the planner reckons with; a name that the shadow's version lacks is left out there."""
    found = production.rows(
        "SELECT name, current_setting(name) FROM pg_settings WHERE context IN ('user', 'superuser') "
        "AND (category LIKE 'Query Tuning%' "
        "OR name LIKE 'max_parallel%' OR name IN ('work_mem', 'hash_mem_multiplier', "
        "'parallel_leader_participation', 'DateStyle', 'TimeZone'))"
    )
    skipped = {"plan_cache_mode", "max_parallel_maintenance_workers", "default_statistics_target"}
    return {name: value for name, value in found if name not in skipped and not name.startswith("geqo_seed")}


def _taken(session: Session, settings: dict[str, str]) -> dict[str, str]:
    """The settings that this server knows."""
    known = {
        name
        for (name,) in session.rows("SELECT name FROM pg_settings WHERE context IN ('user', 'superuser')")
    }
    return {name: value for name, value in settings.items() if name in known}
