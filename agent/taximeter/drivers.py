"""Database drivers besides psycopg 3: psycopg2, asyncpg, and SQLAlchemy above any other.

One statement that user code sends is one call, whichever of them carries it. A driver's own
instrumentor is the source where there is one, and SQLAlchemy's keeps silent above it; above a
driver without one (SQLite, say), SQLAlchemy's is the source. What a library asks of the
database for itself (a dialect's first look at the server, a pool's ping and reset) is no call.

asyncpg's instrumentor has no metrics and one span per row fetched from a cursor: here a cursor
is one call, and ``db.client.operation.duration`` and returned rows are recorded.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled, suppress_instrumentation
from opentelemetry.metrics import Histogram

from taximeter import account as accounts
from taximeter import coverage, database, dbevidence, evidence, guard, meters, semconv, sql, walks

#: Drivers whose instrumentor has been loaded.
_metered_drivers: set[str] = set()
_ROWS_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_SECONDS_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def install_psycopg2() -> None:
    """Extend the psycopg2 instrumentor; call before it instruments."""
    from opentelemetry.instrumentation import psycopg2 as instrumentor  # noqa: PLC0415

    database.meter(instrumentor)
    _metered_drivers.add("psycopg2")


def install_psycopg() -> None:
    """Extend the psycopg 3 instrumentor; call before it instruments."""
    database.install()
    _metered_drivers.add("psycopg")


def covered(driver: str) -> bool:
    """Whether the calls of SQLAlchemy's ``driver`` are counted by the driver's own instrumentor."""
    return coverage.DIALECTS.get(driver, driver) in _metered_drivers


# --- asyncpg --------------------------------------------------------------------------


def install_asyncpg() -> None:
    """Extend the asyncpg instrumentor; call before it instruments."""
    import asyncpg  # noqa: PLC0415  (only where the driver is installed)
    from opentelemetry.instrumentation import asyncpg as instrumentor  # noqa: PLC0415

    cls: Any = instrumentor.AsyncPGInstrumentor
    if getattr(cls, "_taximeter", False):
        return
    hydrate = instrumentor._hydrate_span_from_args

    def hydrated(connection: Any, query: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        attributes: dict[str, Any] = hydrate(connection, query, *args, **kwargs)
        try:
            if isinstance(query, str):
                statement = sql.describe(query)
                attributes[semconv.DB_QUERY_SUMMARY] = statement.summary
                attributes[semconv.DB_OPERATION_NAME] = statement.operation
                attributes.update(dbevidence.begin(query, _parameters.get()))
        except Exception as error:
            guard.caught("drivers.asyncpg", error)
        return attributes

    instrumentor._hydrate_span_from_args = hydrated
    instrument = cls._instrument

    def instrumented(self: Any, **kwargs: Any) -> None:
        instrument(self, **kwargs)
        self._tracer = _ByInstrumentor(self._tracer)

    cls._instrument = instrumented
    cls._do_execute = _asyncpg(cls._do_execute, lambda _, args: args[0] if args else "")
    cls._do_prepared_execute = _asyncpg(cls._do_prepared_execute, _prepared)
    cls._do_cursor_execute = _asyncpg(cls._do_cursor_execute, lambda self, _: self._query, cursor=True)
    cls._taximeter = True
    # Classes that can hold an attribute; the instrumentor finds them by name.
    for name in ("Cursor", "CursorIterator"):
        found = getattr(asyncpg.cursor, name)
        setattr(asyncpg.cursor, name, type(name, (found,), {"_taximeter_sent": False}))
    connection: Any = asyncpg.Connection
    connection.reset = _quiet_async(connection.reset)  # of a pool
    _metered_drivers.add("asyncpg")


#: Of the statement that is being sent: the instrumentor does not hand them on.
_parameters: ContextVar[Any] = ContextVar("taximeter_asyncpg_parameters", default=())


_MAX_ROWS = 100  # whose values are looked at, where they are asked for


def _prepared(statement: Any, _: Any) -> Any:
    return statement._query


def _ends(result: Any) -> list[tuple[Any, ...]]:
    """The first and the last row of what fetch(), fetchrow() or fetchval() returned."""
    rows = [result[0], result[-1]] if isinstance(result, list) and result else [result]
    return [tuple(row) if hasattr(row, "keys") else (row,) for row in rows]


def _observed(func: Callable[..., Awaitable[Any]], query: str) -> Callable[..., Awaitable[Any]]:
    """``func``, run inside the statement's span: says how many rows came back."""

    async def observed(*args: Any, **kwargs: Any) -> Any:
        result = await func(*args, **kwargs)
        try:
            span = trace.get_current_span()
            if not span.is_recording():
                return result
            if result is not None and (account := accounts.running()).asked_before(query):
                account.walks.answer(hash(query), walks.of_rows(_ends(result)))
            if isinstance(result, list):
                found: evidence.Attributes = {semconv.DB_RESPONSE_RETURNED_ROWS: len(result)}
                if evidence.limits().values:
                    found |= evidence.of_rows([tuple(row) for row in result[:_MAX_ROWS]])
                span.set_attributes(found)
        except Exception as error:
            guard.caught("drivers.rows", error)
        return result

    return observed


class _ByInstrumentor:
    """The instrumentor's tracer: names a span by the statement's summary."""

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer

    def start_as_current_span(self, name: str, *, attributes: dict[str, Any], **kwargs: Any) -> Any:
        name = attributes.get(semconv.DB_QUERY_SUMMARY) or name
        return self._tracer.start_as_current_span(name, attributes=attributes, **kwargs)


def _asyncpg(
    method: Callable[..., Awaitable[Any]], text: Callable[[Any, Any], Any], *, cursor: bool = False
) -> Callable[..., Awaitable[Any]]:
    async def counted(self: Any, func: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        query = statement = None
        try:
            query = text(instance, args)
            statement = sql.describe(query) if isinstance(query, str) else None
        except Exception as error:
            guard.caught("drivers.asyncpg", error)
        again = cursor and getattr(instance, "_taximeter_sent", False)
        if cursor:
            instance._taximeter_sent = True  # what follows only fetches
        if again or (statement is not None and not (statement.operation and statement.counted)):
            return await func(*args, **kwargs)
        started = time.perf_counter()
        result, failure = None, None
        token = _parameters.set(args if text is _prepared else args[1:])
        try:
            result = await method(self, _observed(func, str(query)), instance, args, kwargs)
            return result
        except Exception as error:
            failure = error
            raise
        finally:
            _parameters.reset(token)
            if statement is not None and is_instrumentation_enabled():
                _done(
                    instance,
                    str(query),
                    statement=statement,
                    seconds=time.perf_counter() - started,
                    result=result,
                    failure=failure,
                )

    return counted


def _done(
    instance: Any,
    query: str,
    *,
    statement: sql.Statement,
    seconds: float,
    result: Any,
    failure: BaseException | None,
) -> None:
    try:
        accounts.running().db_call(query, seconds)
        connection = getattr(instance, "_connection", instance)
        parameters = getattr(connection, "_params", None)
        attributes = {
            semconv.DB_SYSTEM_NAME: "postgresql",
            semconv.DB_NAMESPACE: getattr(parameters, "database", None) or "",
            semconv.DB_OPERATION_NAME: statement.operation,
        }
        if failure is not None:
            attributes[semconv.ERROR_TYPE] = type(failure).__qualname__
        duration, rows = _instruments()
        summary = meters.summary(statement.summary)
        duration.record(seconds, {**attributes, semconv.DB_QUERY_SUMMARY: summary})
        if isinstance(result, list):
            rows.record(len(result), attributes)
    except Exception as error:
        guard.caught("drivers.done", error)


@cache
def _instruments() -> tuple[Histogram, Histogram]:
    meter = metrics.get_meter("taximeter.database")
    return (
        meter.create_histogram(
            semconv.DB_CLIENT_OPERATION_DURATION,
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=list(_SECONDS_BOUNDS),
        ),
        meter.create_histogram(
            semconv.DB_CLIENT_RESPONSE_RETURNED_ROWS,
            unit="{row}",
            description="The number of rows returned by a database operation.",
            explicit_bucket_boundaries_advisory=list(_ROWS_BOUNDS),
        ),
    )


# --- SQLAlchemy -----------------------------------------------------------------------


def install_sqlalchemy() -> None:
    """Extend the SQLAlchemy instrumentor; call before it instruments."""
    from sqlalchemy import event  # noqa: PLC0415

    instrumentor: Any = import_module("opentelemetry.instrumentation.sqlalchemy")
    engines: Any = import_module("opentelemetry.instrumentation.sqlalchemy.engine")
    base: Any = engines.EngineTracer
    if getattr(base, "_taximeter", False):
        return

    class MeteredEngineTracer(base):  # type: ignore[misc]  # the instrumentor is untyped
        _taximeter = True

        def __init__(self, tracer: Any, engine: Any, *args: Any, **kwargs: Any) -> None:
            self._covered = covered(engine.driver)
            super().__init__(tracer, engine, *args, **kwargs)
            if not self._covered:
                event.listen(engine, "after_cursor_execute", _executed)
                event.listen(engine, "handle_error", _failed_in_sqlalchemy)

        def _before_cur_exec(self, *args: Any) -> Any:
            _, _, statement, params, context, many = args
            described = sql.describe(str(statement))
            if self._covered or not described.counted:
                return statement, params
            found = super()._before_cur_exec(*args)
            try:
                context._taximeter = (str(statement), time.perf_counter())
                span = getattr(context, "_otel_span", None)
                if span is not None and span.is_recording():
                    database._name(span, described, statement, params)
                    if many:
                        span.set_attribute(semconv.DB_OPERATION_BATCH_SIZE, len(params))
            except Exception as error:
                guard.caught("drivers.sqlalchemy", error)
            return found

    engines.EngineTracer = MeteredEngineTracer
    instrumentor.EngineTracer = MeteredEngineTracer
    # A span per connection taken from the pool says nothing that the statements do not.
    instrumentor._wrap_connect = lambda _: lambda func, module, args, kwargs: func(*args, **kwargs)


def quiet_sqlalchemy() -> None:
    """What SQLAlchemy asks for itself is no call of the user's: pings, a dialect's first look at the server.

    Installed wherever SQLAlchemy is, with its instrumentor or (2.1 and later) without.
    """
    dialect: Any = import_module("sqlalchemy.engine.default").DefaultDialect
    if hasattr(dialect, "_do_ping_w_event"):
        dialect._do_ping_w_event = _quiet(dialect._do_ping_w_event)
    create: Any = import_module("sqlalchemy.engine.create")
    event = create.event
    listen = event.listen

    def listening(target: Any, identifier: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        if identifier == "connect":
            function = _quiet(function)
        return listen(target, identifier, function, *args, **kwargs)

    create.event = _Event(event, listening)


class _Event:
    """SQLAlchemy's ``event`` module as ``create_engine`` sees it."""

    def __init__(self, module: Any, listen: Callable[..., Any]) -> None:
        self._module = module
        self.listen = listen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _executed(conn: Any, cursor: Any, *args: Any) -> None:
    _account(args[2])  # after statement and parameters


def _failed_in_sqlalchemy(context: Any) -> None:
    _account(context.execution_context)


def _account(context: Any) -> None:
    try:
        begun = getattr(context, "_taximeter", None)
        if begun is None:
            return
        context._taximeter = None
        text, started = begun
        if is_instrumentation_enabled():
            accounts.running().db_call(text, time.perf_counter() - started)
    except Exception as error:
        guard.caught("drivers.account", error)


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    def quiet(*args: Any, **kwargs: Any) -> Any:
        with suppress_instrumentation():
            return function(*args, **kwargs)

    return quiet


def _quiet_async(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def quiet(*args: Any, **kwargs: Any) -> Any:
        with suppress_instrumentation():
            return await function(*args, **kwargs)

    return quiet
