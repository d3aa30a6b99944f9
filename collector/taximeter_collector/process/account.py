"""The request account of a service that has no agent of ours, computed from its whole trace.

For every server span: what it and its descendants did, down to the next server span, which has an
account of its own. The figures and their names are the agent's (``taximeter.request.*``), so that
the store, the report and the budget need not know who computed them. What cannot be seen from
outside (cache lookups, time to first byte, streaming) is absent, not 0.

Counted once, though several spans tell of it:

* a fetch under a fetch, a driver under an ORM, an SDK's span under an instrumentor's: the outermost
  client span of a kind counts, what lies below it is part of it;
* opening a connection (``pg-pool.connect``, ``pg.connect``) is no statement;
* a request to PostgREST (Supabase: ``/rest/v1/<table>``, ``/rest/v1/rpc/<function>``) is one database
  call, named by table or function; its span gets ``db.query.summary``;
* in a trace with one server span, a span whose parent never came is that request's.

Pure: functions of one trace's spans.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from taximeter import genai, semconv
from taximeter_collector.process.raw import RawSpan
from taximeter_collector.values import plain

_SERVER, _CLIENT = 2, 3
_POSTGREST = re.compile(r"/rest/v1/(rpc/)?([A-Za-z0-9_.-]+)")
_VERBS = {"GET": "SELECT", "HEAD": "SELECT", "POST": "INSERT", "PATCH": "UPDATE", "PUT": "UPSERT"}
_NO_STATEMENT = re.compile(
    r"(?i)(\.|^)(connect|acquire|ping|close|pool)\b|^(BEGIN|COMMIT|ROLLBACK|SAVEPOINT)\b"
)
_OURS = (semconv.TELEMETRY_DISTRO_NAME.encode(), semconv.DISTRO_NAME.encode())


@dataclass(slots=True)
class _Node:
    """One decoded span of the trace."""

    raw: RawSpan
    span: Any
    about: Mapping[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)  # attributes to add


@dataclass(slots=True)
class _Sums:
    db_calls: int = 0
    db_duration: float = 0.0
    db_repeated: int = 0
    model_calls: int = 0
    embedding_calls: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cached: int = 0
    cost: float = 0.0
    unpriced: int = 0
    statements: set[str] = field(default_factory=set)
    money: dict[tuple[str, str, str], float] = field(default_factory=dict)  # provider, model, operation
    reasons: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # provider, model, why no price


@dataclass(frozen=True, slots=True)
class Request:
    """One server span of a service without the agent, and whom its model calls paid."""

    span: Any
    about: Mapping[str, Any]
    resource: bytes  # serialised
    money: Mapping[tuple[str, str, str], float]  # by provider, model, operation: USD
    unpriced: Mapping[tuple[str, str, str], int]  # by provider, model, reason: calls


def requests(parts: list[RawSpan]) -> Iterator[Request]:
    """The requests of one trace, from spans that :func:`annotate` has seen."""
    for node, sums in _accounts(parts)[1]:
        yield Request(node.span, node.about, node.raw.resource.resource, sums.money, sums.reasons)


def annotate(parts: list[RawSpan]) -> list[RawSpan]:
    """The same spans, server spans with their account, PostgREST calls with their summary."""
    nodes, accounts = _accounts(parts)
    for node, sums in accounts:
        if semconv.REQUEST_DB_CALLS not in node.about:
            node.extra |= _attributes(sums)
    changed = {id(node.raw): _extended(node) for node in nodes if node.extra}
    return [changed.get(id(part), part) for part in parts]


def _accounts(parts: list[RawSpan]) -> tuple[list[_Node], list[tuple[_Node, _Sums]]]:
    """All spans of services without the agent, and the server spans among them with their sums."""
    foreign = [part for part in parts if not all(mark in part.resource.resource for mark in _OURS)]
    nodes: dict[bytes, _Node] = {}
    children: dict[bytes, list[_Node]] = defaultdict(list)
    for part in foreign:
        span = Span.FromString(part.span)
        if span.span_id not in nodes:  # the same span twice is one
            node = _Node(part, span, {pair.key: plain(pair.value) for pair in span.attributes})
            nodes[span.span_id] = node
            children[span.parent_span_id].append(node)
    servers = [node for node in nodes.values() if node.span.kind == _SERVER]
    if len(servers) == 1:  # what lost its parent on the way was done for nobody else
        lost = [i for i in children if i and i not in nodes and i != servers[0].span.parent_span_id]
        for parent in lost:
            children[servers[0].span.span_id] += children.pop(parent)
    accounts = []
    for node in servers:
        sums = _Sums()
        _add(children[node.span.span_id], children, sums)
        accounts.append((node, sums))
    return list(nodes.values()), accounts


def _add(below: Iterable[_Node], children: Mapping[bytes, list[_Node]], sums: _Sums) -> None:
    """Add what these spans and their descendants did; a counted call's descendants are part of it."""
    stack = sorted(below, key=lambda node: node.span.start_time_unix_nano, reverse=True)
    seen: set[bytes] = set()
    while stack:
        node = stack.pop()
        if node.span.kind == _SERVER or node.span.span_id in seen:  # another account; a loop of parents
            continue
        seen.add(node.span.span_id)
        if not (_database(node, sums) or _model(node, sums)):
            stack += children.get(node.span.span_id, ())


def _database(node: _Node, sums: _Sums) -> bool:
    about = node.about
    system = about.get(semconv.DB_SYSTEM_NAME) or about.get("db.system")
    statement = (
        about.get(semconv.DB_QUERY_TEXT) or about.get("db.statement") or about.get(semconv.DB_QUERY_SUMMARY)
    )
    if system and system not in semconv.CACHE_SYSTEMS:
        if not statement and _NO_STATEMENT.search(node.span.name):
            return False
        if isinstance(statement, str) and _NO_STATEMENT.match(statement):
            return True
    elif node.span.kind == _CLIENT and (summary := _postgrest(about)):
        statement = summary
        node.extra |= {
            semconv.DB_SYSTEM_NAME: "postgresql",
            semconv.DB_QUERY_SUMMARY: summary,
            semconv.DB_OPERATION_NAME: summary.partition(" ")[0],
        }
    else:
        return False
    sums.db_calls += 1
    sums.db_duration += _seconds(node.span)
    key = str(statement or node.span.name)
    sums.db_repeated += key in sums.statements
    sums.statements.add(key)
    return True


def _postgrest(about: Mapping[str, Any]) -> str | None:
    """``SELECT rooms`` or ``rpc match_faq`` for a request to PostgREST, else None."""
    url = about.get("url.full") or about.get("http.url") or about.get("url.path") or about.get("http.target")
    if not isinstance(url, str) or "/rest/v1/" not in url:
        return None
    found = _POSTGREST.search(urlsplit(url).path)
    if found is None:
        return None
    if found[1]:
        return f"rpc {found[2]}"
    method = str(about.get(semconv.HTTP_REQUEST_METHOD) or about.get("http.method") or "GET").upper()
    return f"{_VERBS.get(method, method)} {found[2]}"


def _model(node: _Node, sums: _Sums) -> bool:
    call = genai.read(node.about)
    if call is None:
        return False
    if call.operation == semconv.EMBEDDINGS:
        sums.embedding_calls += 1
    else:
        sums.model_calls += 1
    if call.usage is not None:
        sums.tokens_input += call.usage.input
        sums.tokens_output += call.usage.output
        sums.tokens_cached += call.usage.cache_read
    added = node.about.get(semconv.COLLECTOR_COST_AMOUNT)
    cost = call.cost if call.cost is not None else added
    provider, model = call.provider, call.models[1] or call.models[0] or "unknown"
    if isinstance(cost, int | float):
        sums.cost += cost
        payer = (provider, model, call.operation)
        sums.money[payer] = sums.money.get(payer, 0.0) + cost
    elif call.usage is not None or node.span.status.code != 2:
        sums.unpriced += 1
        reason = node.about.get(semconv.COLLECTOR_COST_UNPRICED)
        sums.reasons[provider, model, str(reason or "no_price")] += 1
    return True


def _attributes(sums: _Sums) -> dict[str, Any]:
    return {
        semconv.REQUEST_DB_CALLS: sums.db_calls,
        semconv.REQUEST_DB_DURATION: sums.db_duration,
        semconv.REQUEST_DB_REPEATED: sums.db_repeated,
        semconv.REQUEST_MODEL_CALLS: sums.model_calls,
        semconv.REQUEST_EMBEDDING_CALLS: sums.embedding_calls,
        semconv.REQUEST_TOKENS_INPUT: sums.tokens_input,
        semconv.REQUEST_TOKENS_OUTPUT: sums.tokens_output,
        semconv.REQUEST_TOKENS_CACHED: sums.tokens_cached,
        semconv.REQUEST_COST: sums.cost,
        semconv.REQUEST_UNPRICED_CALLS: sums.unpriced,
    }


def _seconds(span: Any) -> float:
    nanoseconds: int = max(0, span.end_time_unix_nano - span.start_time_unix_nano)
    return nanoseconds / 1e9


def _extended(node: _Node) -> RawSpan:
    """The raw span with the extra attributes appended: a span's fields may come in any order."""
    added = Span()
    for key, value in node.extra.items():
        if key not in node.about:
            if isinstance(value, str):
                held = AnyValue(string_value=value)
            elif isinstance(value, float):
                held = AnyValue(double_value=value)
            else:
                held = AnyValue(int_value=value)
            added.attributes.append(KeyValue(key=key, value=held))
    return node.raw._replace(span=node.raw.span + added.SerializeToString())
