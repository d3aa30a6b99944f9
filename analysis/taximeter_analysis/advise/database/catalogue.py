"""What stands in the catalogue: indexes nobody used, indexes that another covers, statistics of columns."""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_analysis.advise.database.session import Session

_SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"


@dataclass(frozen=True)
class Idle:
    """An index that could go, with the reason."""

    schema: str
    table: str
    name: str
    bytes: int
    reason: str  # unused, duplicate, invalid
    detail: str

    @property
    def drop(self) -> str:
        """The statement that removes it."""
        return f'DROP INDEX CONCURRENTLY "{self.schema}"."{self.name}"'


_INDEXES = f"""
SELECT n.nspname, t.relname, c.relname, pg_relation_size(c.oid), coalesce(s.idx_scan, 0), i.indisunique,
    i.indisvalid, EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid) OR i.indisreplident,
    a.amname, i.indkey::text, i.indclass::text, i.indcollation::text, i.indoption::text,
    coalesce(pg_get_expr(i.indexprs, i.indrelid), ''), coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
    i.indnkeyatts
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am a ON a.oid = c.relam
LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
WHERE n.nspname NOT IN {_SYSTEM}
ORDER BY 1, 2, 3
"""


def idle_indexes(session: Session) -> tuple[list[Idle], str]:
    """(indexes that could go, since when the server has counted their use)."""
    found = session.rows(_INDEXES)
    since = session.rows(
        "SELECT coalesce(stats_reset::text, 'its start'), xact_commit FROM pg_stat_database "
        "WHERE datname = current_database()"
    )[0][0]
    idle = []
    for row in found:
        schema, table, name, size, scans, unique, valid, constraint = row[:8]
        cover = _cover(row, found)
        if not valid:
            idle.append(
                Idle(schema, table, name, size, "invalid", "left by a CREATE INDEX CONCURRENTLY that failed")
            )
        elif cover is not None and not unique and not constraint:
            idle.append(Idle(schema, table, name, size, "duplicate", f"{cover} does all that it does"))
        elif not scans and not unique and not constraint:
            idle.append(Idle(schema, table, name, size, "unused", f"no scan since {since}"))
    return sorted(idle, key=lambda each: -each.bytes), since


def _cover(row: tuple[object, ...], others: list[tuple[object, ...]]) -> str | None:
    """The name of an index of the same table that can do all that this one does."""
    for other in others:
        if other is row or other[:2] != row[:2] or not other[6]:
            continue
        same_rest = (other[8], other[13], other[14]) == (row[8], row[13], row[14])
        if not same_rest:
            continue
        columns = [(str(one[9]).split(), str(one[10]).split(), str(one[12]).split()) for one in (row, other)]
        mine, theirs = columns
        count = len(mine[1])
        if row[8] != "btree" and len(theirs[1]) != count:
            continue
        prefix = all(theirs[part][:count] == mine[part][:count] for part in range(3))
        extra = set(mine[0][count:]) <= set(theirs[0])  # INCLUDE
        if not (prefix and extra):
            continue
        if len(theirs[0]) > len(mine[0]) or other[5] or str(other[2]) < str(row[2]):
            return str(other[2])
    return None


def columns(session: Session) -> dict[tuple[str, str, str], tuple[float, int, str]]:
    """(schema, table, column) -> (different values as in pg_stats, average width, type)."""
    found = session.rows(
        f"SELECT n.nspname, c.relname, a.attname, coalesce(s.n_distinct, 0), coalesce(s.avg_width, 16), "
        "format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stats s ON s.schemaname = n.nspname "
        "AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited "
        f"WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm') AND n.nspname NOT IN "
        f"{_SYSTEM}"
    )
    return {
        (schema, table, name): (distinct, width, kind) for schema, table, name, distinct, width, kind in found
    }
