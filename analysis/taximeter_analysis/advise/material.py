"""What the detectors read: requests in order of time, each with its calls and their evidence.

Plain objects rather than SQL, so that a detector is a few lines that one can check by eye. At most
`LIMIT` requests are read, the latest ones; findings then are about those, and say so.

Hashes are kept together with the id of their key, so that hashes under different keys never agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from taximeter_analysis.figures import LABEL
from taximeter_analysis.findings import hex_trace
from taximeter_analysis.store import Store
from taximeter_collector.store.sums import TRANSACTION_CONTROL

LIMIT = 20_000
_WRITING = ("INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "TRUNCATE", "CALL", "DO ")


@dataclass(slots=True)
class Block:
    """A block of a prompt: who speaks, its estimated tokens, and the hash of all up to here."""

    role: str
    tokens: int
    marked: bool  # the caller asks for the part up to here to be cached
    chain: str


@dataclass(slots=True)
class Call:
    """A call of a request. ``family``: db, model, embedding, http, or control (BEGIN, COMMIT)."""

    family: str
    start_ns: int
    duration_ns: int
    failed: bool = False
    statement: str | None = None
    operation: str | None = None  # SELECT, INSERT, ...
    rows: int | None = None
    parameters: str | None = None  # hash of them all
    given: tuple[str, ...] | None = None  # hashes of single values; None: not recorded
    returned: tuple[str, ...] | None = None
    code: tuple[str, ...] = ()  # innermost first
    model: str | None = None
    provider: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    first_chunk_s: float | None = None
    attempts: int = 1
    exact: tuple[str, ...] = ()  # of the inputs of an embedding call
    normalised: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    name: str = ""
    walks: bool = False  # a parameter came out of the same statement's last answer
    transaction: str | None = None  # statements of one transaction have the same

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns

    @property
    def reads(self) -> bool:
        """A statement that changes and locks nothing."""
        text = (self.statement or "").upper()
        return (
            self.family == "db"
            and text.lstrip(" (").startswith(("SELECT", "WITH"))
            and not any(
                word in text
                for word in (
                    " FOR UPDATE",
                    " FOR NO KEY",
                    " FOR SHARE",
                    " INSERT INTO ",
                    " UPDATE ",
                    " DELETE FROM ",
                    "NEXTVAL(",
                )
            )
        )

    @property
    def writes(self) -> bool:
        """A statement that changes a table (locking a row changes none)."""
        text = " ".join((self.statement or "").upper().split())
        return self.family == "db" and (
            text.startswith(_WRITING) or any(f" {word} " in text for word in ("INSERT INTO", "DELETE FROM"))
        )


@dataclass(slots=True)
class Lookup:
    """One lookup in a cache of the service."""

    cache: str
    hit: bool
    exact: str
    normalised: str


@dataclass(slots=True)
class Request:
    """A request and what it caused, calls in order of their start."""

    trace: str
    service: str | None
    instance: str | None
    method: str | None
    label: str
    tenant: str | None
    start_ns: int
    duration_ns: int
    failed: bool = False
    first_byte_s: float | None = None
    streamed: bool | None = None
    pool_wait_s: float | None = None
    lookups: tuple[Lookup, ...] = ()
    calls: list[Call] = field(default_factory=list)

    def of(self, *families: str) -> list[Call]:
        """Its calls of these families."""
        return [call for call in self.calls if call.family in families]


@dataclass
class Material:
    """All that is advised upon. ``left_out``: requests of the window that were not read."""

    requests: list[Request]
    observed_s: float
    left_out: int = 0

    @cached_property
    def by_route(self) -> dict[tuple[str | None, str], list[Request]]:
        """(service, label) -> its requests."""
        found: dict[tuple[str | None, str], list[Request]] = defaultdict(list)
        for request in self.requests:
            found[request.service, request.label].append(request)
        return dict(found)

    @cached_property
    def _spread(self) -> dict[str, int]:
        """On how many routes each line of code calls something."""
        found: dict[str, set[str]] = defaultdict(set)
        for request in self.requests:
            for call in request.calls:
                for line in call.code:
                    found[line].add(request.label)
        return {line: len(labels) for line, labels in found.items()}

    def place(self, call: Call) -> str:
        """The line that asked for a call: the innermost that is not a helper of many routes; or ``""``."""
        return min(call.code, key=lambda line: self._spread[line], default="")

    @cached_property
    def _signatures(self) -> dict[str, str]:
        return {
            text: signed
            for _, call in self.calls("embedding")
            for text, signed in zip(call.normalised, call.signatures, strict=False)
        }

    def signature(self, text: str) -> str | None:
        """Of the vector that a text (its normalised hash) got, in whatever request it was embedded."""
        return self._signatures.get(text)

    def calls(self, *families: str) -> Iterator[tuple[Request, Call]]:
        """All calls of these families, request by request."""
        for request in self.requests:
            for call in request.calls:
                if call.family in families:
                    yield request, call


def read(store: Store, limit: int = LIMIT) -> Material:
    """Read what `selection.select` has selected: the latest ``limit`` requests."""
    rows = store.rows(
        f"""
        SELECT r.trace_hi, r.trace_lo, r.span_id, r.service, q.instance, r.method, {LABEL}, r.tenant,
            r.start_ns, r.duration_ns, r.failed, r.first_byte_s, r.streamed, q.pool_wait_s, q.evidence_key,
            q.cache_keys
        FROM req r JOIN requests q USING (trace_hi, trace_lo, span_id)
        ORDER BY r.start_ns DESC LIMIT {limit:d}
        """
    )
    whole = store.rows("SELECT count(*), min(start_ns), max(end_ns) FROM req")[0]
    requests: dict[tuple[int, int, int], Request] = {}
    for high, low, span, service, instance, *rest in reversed(rows):
        *plain, key, lookups = rest
        looked = tuple(_lookups(key, lookups))
        requests[high, low, span] = Request(hex_trace(high, low), service, instance, *[*plain, looked])
    since = rows[-1][8] if rows else 0
    _add_calls(store, requests, since)
    observed = (whole[2] - since) / 1e9 if rows else 0.0
    return Material(list(requests.values()), observed, whole[0] - len(requests))


_CONTROL = ", ".join(f"'{word}'" for word in TRANSACTION_CONTROL)
_CALLS = f"""
WITH owned AS (
    SELECT c.trace_hi, c.trace_lo, c.span_id, c.owner_id, c.family FROM calls c
    WHERE c.owner_id IS NOT NULL AND c.start_ns >= ?
    UNION ALL
    -- transaction control: no call of user code, but it says when a transaction is open
    SELECT s.trace_hi, s.trace_lo, s.span_id, r.span_id, 'control' FROM spans s
    JOIN req r ON r.trace_hi = s.trace_hi AND r.trace_lo = s.trace_lo AND s.parent_id = r.span_id
    WHERE s.db_system IS NOT NULL AND s.start_ns >= ?
      AND upper(regexp_extract(coalesce(s.db_statement, s.db_operation, ''), '^[A-Za-z]+')) IN ({_CONTROL})
)
SELECT o.owner_id, o.family, s.trace_hi, s.trace_lo, s.span_id, s.parent_id, s.start_ns, s.duration_ns,
    s.status = 'error', s.db_statement, s.db_operation, s.db_rows, s.evidence_key, s.db_parameters,
    s.db_parameter_values, s.db_result_values, s.code_path, s.code_line, s.code_function, s.code_callers,
    coalesce(s.ai_response_model, s.ai_request_model), s.ai_provider, s.ai_input_tokens, s.ai_output_tokens,
    s.ai_cache_read_tokens, s.cost_usd, s.ai_first_chunk_s, s.attributes['taximeter.model.attempts'],
    s.embedding_exact, s.embedding_normalised, s.embedding_signatures, s.prompt_blocks,
    coalesce(s.attributes['url.full'], s.name), s.attributes['taximeter.db.transaction'],
    s.attributes['taximeter.db.walks']
FROM owned o JOIN spans s USING (trace_hi, trace_lo, span_id)
ORDER BY s.start_ns, s.span_id
"""


def _add_calls(store: Store, requests: dict[tuple[int, int, int], Request], since: int) -> None:
    models: set[tuple[int, int, int]] = set()
    https: list[tuple[Request, Call, tuple[int, int, int]]] = []
    for owner, family, high, low, span, parent, *row in store.rows(_CALLS, [since, since]):
        request = requests.get((high, low, owner))
        if request is None:
            continue
        call = _call(family, row)
        request.calls.append(call)
        if family in ("model", "embedding"):
            models.add((high, low, span))
        elif family == "http":
            https.append((request, call, (high, low, parent)))
    for request, call, above in https:
        if above in models:  # the HTTP request of a model call is that call, not another
            request.calls.remove(call)


def _call(family: str, row: list[Any]) -> Call:
    (
        start,
        duration,
        failed,
        statement,
        operation,
        rows,
        key,
        parameters,
        given,
        returned,
        path,
        line,
        function,
        callers,
        model,
        provider,
        tokens_in,
        tokens_out,
        cached,
        cost,
        chunk,
        attempts,
        exact,
        normal,
        signed,
        blocks,
        name,
        transaction,
        walks,
    ) = row
    place = (f"{path}:{line} {function}",) if path else ()
    return Call(
        family,
        start,
        duration,
        bool(failed),
        statement,
        operation,
        rows,
        None if parameters is None else f"{key}{parameters}",
        None if given is None else tuple(_hashes(key, given)),
        None if returned is None else tuple(_hashes(key, returned)),
        place + (tuple(callers.split(" < ")) if callers else ()),
        model,
        provider,
        tokens_in or 0,
        tokens_out or 0,
        cached or 0,
        cost or 0.0,
        chunk,
        int(attempts) if attempts and str(attempts).isdigit() else 1,
        tuple(_hashes(key, exact)),
        tuple(_hashes(key, normal)),
        tuple((signed or "").split()),
        tuple(_blocks(key, blocks)),
        name or "",
        bool(walks),
        transaction,
    )


def _hashes(key: str | None, text: str | None) -> Iterable[str]:
    return (f"{key}{each}" for each in (text or "").split())


def _blocks(key: str | None, text: str | None) -> Iterator[Block]:
    for each in (text or "").split():
        head, _, chain = each.partition(":")
        tokens = head[1:].rstrip("*")
        if head and tokens.isdigit():
            yield Block(head[0], int(tokens), head.endswith("*"), f"{key}{chain}")


def _lookups(key: str | None, text: str | None) -> Iterator[Lookup]:
    for cache in (text or "").split():
        name, _, found = cache.partition("=")
        for each in found.split(","):
            exact, _, normal = each[1:].partition("/")
            if exact:
                yield Lookup(name, each[0] == "+", f"{key}{exact}", f"{key}{normal or exact}")
