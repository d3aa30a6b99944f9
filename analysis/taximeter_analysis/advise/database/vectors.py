"""Vector indexes of the catalogue, and what a distance needs to be able to use one."""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_analysis.advise.database.candidates import DISTANCES
from taximeter_analysis.advise.database.session import Session


@dataclass(frozen=True)
class VectorIndex:
    """An HNSW or IVFFlat index."""

    schema: str
    table: str
    name: str
    method: str
    key: str  # a column, or an expression such as ((embedding)::halfvec(1536))
    opclass: str
    valid: bool

    @property
    def operator(self) -> str:
        """The distance that it is ordered by."""
        return next((sign for sign, name in DISTANCES.items() if self.opclass.endswith(name)), "?")


def vector_indexes(session: Session) -> list[VectorIndex]:
    """Every HNSW and IVFFlat index of the database."""
    found = session.rows(
        "SELECT n.nspname, t.relname, c.relname, a.amname, pg_get_indexdef(c.oid, 1, true), o.opcname, "
        "i.indisvalid "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid "
        "JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am a ON a.oid = c.relam "
        "JOIN pg_opclass o ON o.oid = i.indclass[0] WHERE a.amname IN ('hnsw', 'ivfflat')"
    )
    return [VectorIndex(*row) for row in found]
