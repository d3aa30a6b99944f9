"""The span and metrics of one statement, in a third of the official DB-API cursor tracer's time.

It runs inside the official instrumentor and uses what that knows of the connection; names and
attributes are the same. What it leaves out: a context switch for a span that nothing is parented
under, attributes set one by one, and the statement read three times. An error's type is on the
span too. The labels of metrics name
the operation as the span does (``SELECT``), not by the statement's first word as it was typed.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.trace import SpanKind, Status, StatusCode

from taximeter import account as accounts
from taximeter import current, dbevidence, guard, meters, redact, semconv, settings, spanattributes, sql

_MAX_KEPT: Final = 2048
_now = time.perf_counter


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


class Calls:
    """The statements of one official integration: one for each time that ``connect`` was called."""

    def __init__(self, integration: Any) -> None:
        self._of = integration
        self._attributes: dict[str, spanattributes.Fixed] = {}  # by statement
        self._labels: dict[tuple[str, str | None], tuple[dict[str, Any], dict[str, Any]]] = {}

    def begin(self, statement: sql.Statement, text: str, parameters: Any, batch: int | None) -> Call | None:
        """A statement is about to be sent."""
        try:
            known = self._attributes.get(text)
            if known is None:
                known = self._describe(statement, text)
                if len(self._attributes) >= _MAX_KEPT:
                    self._attributes.clear()
                if len(text) <= sql.MAX_TEXT:
                    self._attributes[text] = known
            span = self._of._tracer.start_span(statement.summary, None, SpanKind.CLIENT, known)
            more: dict[str, Any] | None = None
            if span.is_recording():
                more = dbevidence.begin(text, parameters)
                if batch is not None:
                    more[semconv.DB_OPERATION_BATCH_SIZE] = batch
            return Call(self, statement, text, span, more)
        except Exception as error:
            guard.caught("database.begin", error)
            return None

    def _describe(self, statement: sql.Statement, text: str) -> spanattributes.Fixed:
        integration = self._of
        found: dict[str, Any] = {semconv.DB_SYSTEM_NAME: integration.database_system}
        if integration.database:
            found[semconv.DB_NAMESPACE] = integration.database
        found[semconv.DB_QUERY_TEXT] = text
        found |= integration.span_attributes
        return spanattributes.Fixed(found | names(statement))

    def labels(self, statement: sql.Statement, error: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The labels of a statement's rows, and of its duration, which is told by summary as well."""
        kept = self._labels.get((statement.summary, error))
        if kept is None:
            given = self._of
            known = {
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
            kept = known, {**known, semconv.DB_QUERY_SUMMARY: meters.summary(statement.summary)}
            self._labels[statement.summary, error] = kept
        return kept

    def record(
        self, statement: sql.Statement, seconds: float, rows: Any, error: str | None, span: trace.Span
    ) -> None:
        """The metrics of a statement that was answered, or failed."""
        (labels, told), context = self.labels(statement, error), current.of(span)
        self._of._duration_histogram.record(seconds, told, context)
        if error is None and isinstance(rows, int) and rows >= 0:
            self._of._returned_rows_histogram.record(rows, labels, context)


class Call:
    """One statement that is running."""

    __slots__ = ("_calls", "_found", "_span", "_started", "_statement", "_text")

    def __init__(
        self,
        calls: Calls,
        statement: sql.Statement,
        text: str,
        span: trace.Span,
        found: dict[str, Any] | None,
    ) -> None:
        self._calls, self._statement, self._text, self._span = calls, statement, text, span
        self._found = found  # for the span, where it is recorded: set in one go at the end
        self._started = _now()

    def end(self, cursor: Any, failure: BaseException | None) -> None:
        """It was answered, or it failed."""
        try:
            seconds, span, found = _now() - self._started, self._span, self._found
            error = type(failure).__qualname__ if isinstance(failure, Exception) else None
            if found is not None:
                if error is None:
                    found |= dbevidence.answered(self._text, cursor)
                else:
                    assert isinstance(failure, Exception)
                    found[semconv.ERROR_TYPE] = error
                    span.record_exception(failure)
                    span.set_status(Status(StatusCode.ERROR, f"{type(failure).__name__}: {failure}"))
                span.set_attributes(found)
            span.end()
            rows = getattr(cursor, "rowcount", None)
            self._calls.record(self._statement, seconds, rows, error, span)
            if self._statement.counted:
                accounts.running().db_call(self._text, seconds)
        except Exception as problem:
            guard.caught("database.end", problem)
