"""The span and metrics of one statement, in a fraction of the official DB-API cursor tracer's time.

It uses what the official instrumentor knows of the connection; names and attributes are the same.
What it leaves out: a context switch for a span that nothing is parented under, attributes set one
by one, and the statement read three times. An error's type is on the span too. The labels of
metrics name the operation as the span does (``SELECT``), not by the statement's first word as it
was typed.

Where a service is asked a few times a second, nothing of this is in the processor's cache, and what
costs is how many functions and objects a statement touches. So everything that is the same each
time is found by one look-up of the statement's text (:class:`Known`), the attributes with the
place in the code are one dictionary that is never changed, all connections to one database share
it, and what begins and ends a statement are two functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.utils import _SUPPRESS_INSTRUMENTATION_KEY_PLAIN
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation import _SPAN_KEY

from taximeter import account as accounts
from taximeter import (
    callsite,
    current,
    dbevidence,
    evidence,
    guard,
    hashkey,
    meters,
    noted,
    redact,
    semconv,
    settings,
    sql,
)
from taximeter.spanattributes import Fixed

_MAX_KEPT: Final = 2048
_MAX_SITES: Final = 256  # of one statement, whose attributes are kept
_MAX_DATABASES: Final = 256
_now = time.perf_counter

#: A statement that is running: what is known of it, its span, when it was sent, the attributes that
#: its span gets at the end (where it is recorded), whose account it is on, and whether it is repeated.
Begun = tuple["Known", trace.Span, float, "dict[str, Any] | None", accounts.Account, bool]


def suits(integration: Any) -> bool:
    """Whether nothing is asked of the official tracer that this one lacks."""
    return bool(
        not settings.official("database")
        and integration._sem_conv_opt_in_mode_db is _StabilityMode.DATABASE
        and not integration.enable_commenter
        and not integration.capture_parameters
    )


@cache
def literals_kept() -> bool:
    """Whether statements may leave with their literals."""
    return "sql" in redact.captured()[0]


def names(statement: sql.Statement) -> dict[str, Any]:
    """What a statement's span says of its text."""
    found: dict[str, Any] = {
        semconv.DB_QUERY_SUMMARY: statement.summary,
        semconv.DB_OPERATION_NAME: statement.operation,
    }
    if not literals_kept():
        found[semconv.DB_QUERY_TEXT] = statement.text
    return found


class Known:
    """What is known of one statement text on one database."""

    __slots__ = (
        "again",
        "attributes",
        "calls",
        "labels",
        "placed",
        "placed_keyed",
        "statement",
        "text",
        "told",
    )

    def __init__(self, calls: Calls, statement: sql.Statement, text: str) -> None:
        self.calls, self.statement, self.text = calls, statement, text
        self.attributes = calls.attributes(statement, text)
        self.again = False
        self.labels, self.told = calls.labels(statement, None)
        # By site, without parameters and with: the attributes and the code's, and the hash's key.
        self.placed: dict[callsite.Site, Fixed] = {}
        self.placed_keyed: dict[callsite.Site, Fixed] = {}

    def at(self, site: callsite.Site, *, keyed: bool) -> dict[str, Any]:
        """The attributes that are known before it is sent from ``site``; not to be changed."""
        made = self.attributes | site.attributes
        if keyed:
            made[semconv.EVIDENCE_KEY] = hashkey.hasher().id
        if not self.again:  # a text with its values in it may never come again
            self.again = True
            return made
        kept = self.placed_keyed if keyed else self.placed
        fixed = Fixed(made)
        if len(kept) < _MAX_SITES:
            kept[site] = fixed
        return fixed


class Calls:
    """The statements of all connections to one database."""

    def __init__(self, integration: Any) -> None:
        self._of = integration
        self._known: dict[str, Known] = {}
        self._labels: dict[tuple[str, str | None], tuple[noted.Labels, noted.Labels]] = {}
        self.start = integration._tracer.start_span
        self.duration = integration._duration_histogram.record
        self.rows = integration._returned_rows_histogram.record
        limits = evidence.limits()
        self._code, self._parameters, self._values = limits.code, limits.parameters, limits.values
        self._hash = hashkey.hasher().value

    def begin(  # noqa: PLR0912  (one function, on purpose: see above)
        self, cursor: Any, query: Any, parameters: Any, *, many: bool = False
    ) -> Begun | None:
        """A statement is about to be sent; ``None`` where it is not to be told of."""
        try:
            running = current.context()
            if running.get(_SUPPRESS_INSTRUMENTATION_KEY) or running.get(_SUPPRESS_INSTRUMENTATION_KEY_PLAIN):
                return None
            known = self._known.get(query) if type(query) is str else None
            if known is None and (known := self._learn(text_of(query, cursor))) is None:
                return None
            account = accounts.current.get() or accounts.OUTSIDE
            attributes, found = known.attributes, None
            keyed = bool(parameters and self._parameters)
            parent = running.get(_SPAN_KEY)
            site = callsite.NOWHERE
            if parent is None or parent.is_recording():  # type: ignore[attr-defined]
                if self._code:
                    site = callsite.find(self._code, 3)
                placed = (known.placed_keyed if keyed else known.placed).get(site)
                attributes = known.at(site, keyed=keyed) if placed is None else placed
            span = self.start(known.statement.summary, running, SpanKind.CLIENT, attributes)
            repeated = False
            if span.is_recording():
                found = {}
                if attributes is known.attributes:  # its parent is not recorded, or has ended
                    found.update(known.at(callsite.find(self._code, 3) if self._code else site, keyed=keyed))
                try:
                    if keyed:
                        if self._values:
                            found.update(evidence.of_parameters(parameters))
                        else:
                            found[semconv.DB_PARAMETERS_HASH] = self._hash(parameters, self._parameters)
                    if parameters and account.asked_before(known.text):
                        repeated = True
                        if account.walks.step(hash(known.text), parameters):
                            found[semconv.DB_WALKS] = True
                    if many and (size := batch(parameters)) is not None:
                        found[semconv.DB_OPERATION_BATCH_SIZE] = size
                except Exception as error:  # odd parameters cost their evidence, not the call
                    guard.caught("database.evidence", error)
            return known, span, _now(), found, account, repeated
        except Exception as error:
            guard.caught("database.begin", error)
            return None

    def _learn(self, text: str) -> Known | None:
        """What is to be known of a statement; ``None`` where nothing is asked of the database."""
        known = self._known.get(text)
        if known is None:
            statement = sql.describe(text)
            if not statement.operation:
                return None
            known = Known(self, statement, text)
            if len(self._known) >= _MAX_KEPT:
                self._known.clear()
            if len(text) <= sql.MAX_TEXT:
                self._known[text] = known
        return known

    def attributes(self, statement: sql.Statement, text: str) -> dict[str, Any]:
        """What the span of a statement says wherever it is sent from."""
        integration = self._of
        found: dict[str, Any] = {semconv.DB_SYSTEM_NAME: integration.database_system}
        if integration.database:
            found[semconv.DB_NAMESPACE] = integration.database
        found[semconv.DB_QUERY_TEXT] = text
        found |= integration.span_attributes
        return found | names(statement)

    def labels(self, statement: sql.Statement, error: str | None) -> tuple[noted.Labels, noted.Labels]:
        """The labels of a statement's rows, and of its duration, which is told by summary as well."""
        kept = self._labels.get((statement.summary, error))
        if kept is None:
            given = self._of
            known: dict[str, Any] = {
                semconv.DB_SYSTEM_NAME: given.database_system,
                semconv.DB_OPERATION_NAME: statement.operation,
            }
            for name, value in (
                (semconv.DB_NAMESPACE, given.database or None),
                ("server.address", given._server_address),
                ("server.port", given._server_port),
                (semconv.ERROR_TYPE, error),
            ):
                if value is not None:
                    known[name] = value
            if len(self._labels) >= _MAX_KEPT:
                self._labels.clear()
            told = {**known, semconv.DB_QUERY_SUMMARY: meters.summary(statement.summary)}
            kept = noted.Labels(known), noted.Labels(told)
            self._labels[statement.summary, error] = kept
        return kept


def end(cursor: Any, begun: Begun, failure: BaseException | None) -> None:
    """A statement was answered, or it failed."""
    try:
        known, span, started, found, account, repeated = begun
        seconds = _now() - started
        calls, told = known.calls, known.told
        answered = not isinstance(failure, Exception)
        if not answered:
            error = type(failure).__qualname__
            told = calls.labels(known.statement, error)[1]
        if found is not None:
            if answered:
                dbevidence.answered(found, cursor, account.walks if repeated else None, known.text)
            else:
                assert isinstance(failure, Exception)
                found[semconv.ERROR_TYPE] = error
                span.record_exception(failure)
                span.set_status(Status(StatusCode.ERROR, f"{type(failure).__name__}: {failure}"))
            span.set_attributes(found)
        span.end()
        context = Context({_SPAN_KEY: span})
        calls.duration(seconds, told, context)
        if answered:
            rows: Any = None if found is None else found.get(semconv.DB_RESPONSE_RETURNED_ROWS)
            if rows is None:
                rows = getattr(cursor, "rowcount", None)
            if isinstance(rows, int) and rows >= 0:
                calls.rows(rows, known.labels, context)
        if known.statement.counted:
            account.db_call(known.text, seconds)
    except Exception as problem:
        guard.caught("database.end", problem)


_databases: dict[tuple[Any, ...], Calls] = {}


def of(integration: Any) -> Calls:
    """The statements of the database that an integration is connected to, shared by its connections."""
    key = (
        integration._tracer,
        integration._duration_histogram,
        integration.database_system,
        integration.database,
        integration._server_address,
        integration._server_port,
        *sorted(integration.span_attributes.items()),
    )
    calls = _databases.get(key)
    if calls is None:
        if len(_databases) >= _MAX_DATABASES:
            _databases.clear()
        calls = _databases[key] = Calls(integration)
    return calls


def text_of(query: Any, cursor: Any) -> str:
    """The text of a statement, whichever way it was given."""
    if isinstance(query, str):
        return query
    if isinstance(query, bytes):
        return query.decode("utf-8", "replace")
    render: Callable[[Any], str] | None = getattr(query, "as_string", None)
    return str(render(cursor)) if render is not None else str(query)


def batch(parameters: Any) -> int | None:
    """How many sets of parameters ``executemany`` was given, where that is known."""
    if (
        type(parameters) is list
        and parameters
        and all(isinstance(row, tuple | list | dict) for row in parameters[:2])
    ):
        return len(parameters)
    return None
