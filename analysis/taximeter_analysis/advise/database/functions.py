"""Vector search in functions (``match_documents`` and its like): can it use an index, and does it find
enough?

The query inside a function is taken out and planned by the server, once as it would be and once with
sequential scans and sorts forbidden: if even then no vector index is used, it cannot be, and the text says
why. If one is used and rows are filtered after it, the index's candidates (``hnsw.ef_search``,
``ivfflat.probes``) may run out before LIMIT is reached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from taximeter_analysis.advise.database.bodies import (
    FUNCTIONS,
    LIMIT,
    Function,
    has_limit,
    limit_of,
    query_of,
)
from taximeter_analysis.advise.database.candidates import DISTANCES
from taximeter_analysis.advise.database.plan import Plan, bare, conjuncts
from taximeter_analysis.advise.database.session import Refused, Session
from taximeter_analysis.advise.database.vectors import VectorIndex, vector_indexes
from taximeter_analysis.advise.database.workload import renumbered

_OPERATOR = re.compile(r"<=>|<->|<#>|<\+>")
_FORCED = {"enable_seqscan": "off", "enable_sort": "off", "enable_bitmapscan": "off"}
_ORDER = re.compile(r"\border\s+by\s+(.+?)(?=\blimit\b|\boffset\b|$)", re.IGNORECASE | re.DOTALL)
_MANY = 10_000  # rows that are better not read for every search
_EF_SEARCH = 40  # pgvector's default
_THRESHOLD = 1 / 3  # the planner's guess for "distance < $n"

#: verdict -> what it means
VERDICTS: Mapping[str, str] = {
    "index": "uses its vector index",
    "exact": "searches exactly, in few enough rows",
    "missing_index": "no HNSW or IVFFlat index on what it searches",
    "wrong_operator": "the index is for another distance",
    "cast": "the index is on another type than the one compared",
    "order_by_similarity": "sorts by a computed similarity: no index can give that order",
    "no_limit": "has no LIMIT: every row is compared",
    "other_order": "sorts by something else than the distance",
    "invalid_index": "the index is invalid",
    "no_filter_index": "filters first, and reads the whole table for it",
    "starves": "filters after the index: fewer rows than asked for can come back",
    "unread": "could not be planned",
}
BROKEN = frozenset(VERDICTS) - {"index", "exact", "unread"}


@dataclass(frozen=True)
class Judged:
    """A function with its verdict."""

    name: str  # schema.name(types)
    verdict: str
    reason: str
    remedy: str = ""
    rewrite: str = ""  # SQL that mends it
    plan: Plan | None = field(default=None, compare=False)

    @property
    def broken(self) -> bool:
        return self.verdict in BROKEN


def judge_functions(session: Session) -> list[Judged]:
    """Every function of the database with a vector distance in it."""
    if not session.rows("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
        return []
    indexes = vector_indexes(session)
    found = session.rows(FUNCTIONS)
    return [_judge(session, Function(*row), indexes) for row in found]


def _judge(  # noqa: PLR0911  (a verdict each)
    session: Session, function: Function, indexes: Sequence[VectorIndex]
) -> Judged:
    query = query_of(function)
    if query is None:
        return Judged(function.signature, "unread", "its query is put together at run time, or it has none")
    planned, numbers = renumbered(
        LIMIT.sub(f"LIMIT {limit_of(function)}", query) if has_limit(query) else query
    )
    types = ", ".join(function.types[number - 1] for number in numbers)
    settings = {"search_path": function.setting("search_path") or f"{function.schema}, public"}
    try:
        usual = session.explain(planned, settings, types)
        forced = session.explain(planned, {**settings, **_FORCED}, types)
    except Refused as error:
        return Judged(function.signature, "unread", str(error))
    ours = _used(usual, indexes)
    if ours is not None:
        return _filtered(session, function, usual, ours)
    if not has_limit(query):
        return Judged(
            function.signature, "no_limit", "it compares every row of the table and returns all that pass",
            "Return the nearest N: ORDER BY the distance and a LIMIT that callers may choose.", plan=usual,
        )  # fmt: skip
    if _used(forced, indexes) is not None:
        whole = next(
            (each for each in usual.walk() if each.kind == "Seq Scan" and "Filter" in each.node), None
        )
        if whole is not None and _table_rows(session, whole) > _MANY:
            return _no_filter_index(function, whole, usual)
        return Judged(
            function.signature, "exact", "the planner prefers other rows first; the index stands", plan=usual
        )
    return _cannot(function, query, usual, indexes)


def _no_filter_index(function: Function, scan: Plan, plan: Plan) -> Judged:
    alias, table = scan.node["Alias"], f"{scan.node['Schema']}.{scan.node['Relation Name']}"
    kept = [each for each in conjuncts(scan.node["Filter"]) if not _OPERATOR.search(each)]
    found = re.findall(rf"\b{re.escape(alias)}\.(\w+) = ", " ".join(kept))
    rewrite = f"CREATE INDEX CONCURRENTLY ON {table} ({', '.join(dict.fromkeys(found))});" if found else ""
    return Judged(
        function.signature,
        "no_filter_index",
        f"reads all of {table} for {' and '.join(kept) or 'its filter'}, which few rows pass",
        "Index what is filtered by; the few rows are then compared exactly.",
        rewrite,
        plan,
    )


def _used(plan: Plan, indexes: Sequence[VectorIndex]) -> tuple[Plan, VectorIndex] | None:
    """The scan of a vector index that gives the order."""
    names = {each.name: each for each in indexes}
    for each in plan.walk():
        if each.node.get("Index Name") in names and "Order By" in each.node:
            return each, names[each.node["Index Name"]]
    return None


def _filtered(session: Session, function: Function, plan: Plan, used: tuple[Plan, VectorIndex]) -> Judged:
    scan, index = used
    limit = next((each for each in plan.walk() if each.kind == "Limit"), None)
    fine = Judged(function.signature, "index", f"uses {index.name}", plan=plan)
    if limit is None or not limit.below:
        return fine
    setting = "hnsw.iterative_scan" if index.method == "hnsw" else "ivfflat.iterative_scan"
    iterative = function.setting(setting) or _setting(session, setting) or "off"
    filters = [each for one in plan.walk() if "Filter" in one.node for each in conjuncts(one.node["Filter"])]
    kept = [each for each in filters if not _OPERATOR.search(each)]
    rows = _table_rows(session, scan)
    share = limit.below[0].rows / rows if rows else 1.0
    if len(kept) < len(filters):
        share = min(1.0, share / _THRESHOLD)
    wanted = limit.rows
    reach = _reach(session, function, index, rows)
    if iterative != "off" or (not kept and plan.scans() == scan.scans()) or reach * share >= wanted:
        return fine
    order = "strict_order" if index.method == "hnsw" else "relaxed_order"
    return Judged(
        function.signature,
        "starves",
        f"{index.name} hands on about {reach:,.0f} rows, of which {share:.1%} pass "
        f"{kept[0] if kept else 'the join'}: {reach * share:,.1f} where {wanted:,.0f} are asked for",
        "Let the index go on until enough rows passed (pgvector 0.8), or give each value an index of its own "
        "(partial, or by partition).",
        f"ALTER FUNCTION {function.schema}.{function.signature.rpartition('.')[2]} SET {setting} = {order};",
        plan,
    )


def _reach(session: Session, function: Function, index: VectorIndex, rows: float) -> float:
    """How many rows one scan of the index hands on."""
    if index.method == "hnsw":
        return float(function.setting("hnsw.ef_search") or _setting(session, "hnsw.ef_search") or _EF_SEARCH)
    probes = float(function.setting("ivfflat.probes") or _setting(session, "ivfflat.probes") or 1)
    found = session.rows(
        "SELECT coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name "
        "= 'lists'), "
        "'100') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = %s AND "
        "n.nspname = %s",
        (index.name, index.schema),
    )
    return rows * min(1.0, probes / max(1.0, float(found[0][0])))


def _setting(session: Session, name: str) -> str | None:
    found = session.rows("SELECT current_setting(%s, true)", (name,))[0][0]
    return found or None


def _table_rows(session: Session, scan: Plan) -> float:
    found = session.rows(
        "SELECT c.reltuples::float8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        (scan.node["Schema"], scan.node["Relation Name"]),
    )
    return max(0.0, found[0][0]) if found else 0.0


def _cannot(function: Function, query: str, plan: Plan, indexes: Sequence[VectorIndex]) -> Judged:
    """Why no vector index could be used."""
    order = _ORDER.search(query)
    key = order[1].strip() if order else ""
    # What is sorted by may be another distance than the one that is returned.
    pattern = r"([\w.\"]+|\([^()]*(?:\([^()]*\))?[^()]*\))\s*(<=>|<->|<#>|<\+>)"
    distances = re.findall(pattern, key) or re.findall(pattern, query)
    operator = distances[0][1] if distances else "<=>"
    side = distances[0][0] if distances else ""
    column = re.sub(r"::.*", "", bare(side)).rpartition(".")[2].strip('"() ')
    tables = set(plan.relations.values())
    near = [
        each
        for each in indexes
        if (each.schema, each.table) in tables and re.search(rf"\b{re.escape(column)}\b", each.key)
    ]
    if not near:
        place = next((f"{schema}.{table}" for schema, table in sorted(tables)), "the table")
        for schema, table in tables:
            if any(column in str(one) for each in plan.walk() for one in each.node.get("Output", ())):
                place = f"{schema}.{table}"
        kind = "halfvec" if "halfvec" in side else "vector"
        return Judged(
            function.signature, "missing_index", f"{place} has no HNSW or IVFFlat index on {column}",
            "Create one; IVFFlat builds faster, HNSW finds better.",
            f"CREATE INDEX CONCURRENTLY ON {place} USING hnsw ({column} {kind}_{DISTANCES[operator]});", plan,
        )  # fmt: skip
    index = near[0]
    if not any(each.valid for each in near):
        return Judged(
            function.signature, "invalid_index", f"{index.name} is invalid: its build failed",
            "Build it anew.",
            f'REINDEX INDEX CONCURRENTLY "{index.schema}"."{index.name}";', plan,
        )  # fmt: skip
    if all(each.operator != operator for each in near):
        opclass = re.sub(r"_(cosine|l2|ip|l1)_ops$", "", index.opclass) + "_" + DISTANCES[operator]
        return Judged(
            function.signature, "wrong_operator",
            f"it compares by {operator}, {index.name} is ordered by {index.operator}",
            "Create an index for the distance that is used (and drop the other, if nobody else needs it).",
            f'CREATE INDEX CONCURRENTLY ON "{index.schema}"."{index.table}" USING {index.method} '
            f"({index.key} {opclass});", plan,
        )  # fmt: skip
    if not _OPERATOR.search(key) or re.search(r"\bdesc\b", key, re.IGNORECASE):
        return _by_similarity(function, query, key, plan)
    if ("::" in side) != ("::" in index.key):
        return Judged(
            function.signature, "cast", f"it compares {side}, {index.name} is on {index.key}",
            "Compare exactly what is indexed (add or leave out the cast), or index what is compared.",
            f'CREATE INDEX CONCURRENTLY ON "{index.schema}"."{index.table}" USING {index.method} '
            f"({f'({bare(side).rpartition(chr(46))[2]})' if '::' in side else column} "
            f"{'halfvec' if 'halfvec' in side else 'vector'}_{DISTANCES[operator]});", plan,
        )  # fmt: skip
    return Judged(
        function.signature, "other_order", f"sorts by {key[:80]}", "Sort by the distance first.", plan=plan
    )


def _by_similarity(function: Function, query: str, key: str, plan: Plan) -> Judged:
    """``ORDER BY similarity DESC``: the same order by the distance, if the similarity is one minus it."""
    first = re.split(r"\s+desc\b", key, flags=re.IGNORECASE)[0].strip()
    what = first
    if not _OPERATOR.search(first):
        alias = re.search(
            rf"((?:1(?:\.0)?\s*-\s*)?\((?:[^()]|\([^()]*\))*\))\s*(?:::\w+\s+)?(?:as\s+)?{re.escape(first.rpartition('.')[2])}\b",
            query, re.IGNORECASE,
        )  # fmt: skip
        what = alias[1] if alias else ""
    distance = re.search(
        r"\(?\s*([\w.\"]+(?:::\w+(?:\(\d+\))?)?\s*(?:<=>|<->|<#>|<\+>)\s*\$(\d+)(?:::\w+(?:\(\d+\))?)?)\s*\)?",
        what,
    )
    descending = re.search(r"\bdesc\b", key, re.IGNORECASE) is not None
    if distance is None or not descending or not re.match(r"\(?\s*1(\.0)?\s*-", bare(what)):
        return Judged(
            function.signature, "other_order", f"sorts by {key[:80]}, which is no distance",
            "Sort by the distance in the inner query, by what you like outside of it.", plan=plan,
        )  # fmt: skip
    name = function.arguments[int(distance[2]) - 1] or f"${distance[2]}"
    order = re.sub(r"\$\d+", name, distance[1])
    pattern = re.compile(rf"(order\s+by\s+)(?:{_loose(first, function)})\s+desc\b", re.IGNORECASE)
    rewrite = pattern.sub(lambda hit: hit[1] + order, function.definition, count=1)
    return Judged(
        function.signature, "order_by_similarity",
        f"sorts by {key[:80]}; an index gives the order of {order}",
        f"ORDER BY {order}: the same order, and the index can give it.",
        rewrite.rstrip() + ";" if rewrite != function.definition else "", plan,
    )  # fmt: skip


def _loose(text: str, function: Function) -> str:
    """A pattern for the text as it stands in the definition: arguments by name, any spaces."""
    named = re.sub(r"\$(\d+)", lambda hit: function.arguments[int(hit[1]) - 1] or hit[0], text)
    return r"\s*".join(re.escape(part) for part in re.findall(r"\w+|[^\w\s]", named))
