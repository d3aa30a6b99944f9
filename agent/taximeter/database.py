"""Database calls: adds each statement sent by user code to the account, and names it on its span.

The official psycopg instrumentor knows connections and cursors; its cursor tracer's work is done by
:mod:`taximeter.dbcalls` (on psycopg 3 from :mod:`taximeter.dbcursors`, without going through it),
unless that lacks something. Either way it is extended to
count (``execute`` and ``executemany`` are one call each; transaction control, the empty
statement of a pool's check and psycopg's own type look-ups are none), to set
``db.query.summary``, ``db.operation.name`` and ``db.operation.batch.size``, and to take
literals out of ``db.query.text``: a composed statement would carry a guest's words.

The instrumentor does not see ``cursor.stream()``, ``copy()`` and server-side cursors; they
get a span and are counted here, timed until their results have been read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import wraps
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, Status, StatusCode

from taximeter import account as accounts
from taximeter import current, dbcalls, dbcursors, dbevidence, guard, semconv, sql


def install() -> None:
    """Extend the psycopg instrumentor; call before it instruments."""
    import psycopg  # noqa: PLC0415  (only where the driver is installed)
    from opentelemetry.instrumentation import psycopg as instrumentor  # noqa: PLC0415

    if meter(instrumentor):
        _wrap_streaming(psycopg)
        _wrap_type_lookups(psycopg)
        dbevidence.number_transactions(psycopg)
        dbcursors.install(instrumentor, psycopg)


def meter(instrumentor: Any) -> bool:
    """Have ``instrumentor`` (a module of the DB-API family) count; whether it did not yet.

    By name: it looks the class up in its module whenever a connection is made.
    """
    if getattr(instrumentor.CursorTracer, "_taximeter", False):
        return False
    instrumentor.CursorTracer = _metered(instrumentor.CursorTracer)
    return True


def _metered(base: Any) -> Any:
    """The instrumentor's cursor tracer, counting."""

    class MeteredCursorTracer(base):  # type: ignore[misc]  # the instrumentor is untyped
        _taximeter = True

        def _begin(self, cursor: Any, args: tuple[Any, ...]) -> dbcalls.Begun | None:
            try:
                integration = self._db_api_integration
                if not args or not dbcalls.suits(integration):
                    return None
                calls = integration.__dict__.get("_taximeter_calls")
                if calls is None:  # by now the connection has been made, and is known
                    calls = integration._taximeter_calls = dbcalls.of(integration)
                parameters = args[1] if len(args) > 1 else None
                begun: dbcalls.Begun | None = calls.begin(cursor, args[0], parameters, many=True)
                return begun
            except Exception as error:
                guard.caught("database.begin", error)
                return None

        def traced_execution(self, cursor: Any, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            statement = _describe(cursor, args, kwargs)
            if statement is not None and not statement.operation:
                return method(*args, **kwargs)  # nothing is asked of the database
            if (begun := self._begin(cursor, args)) is not None:
                try:
                    result = method(*args, **kwargs)
                except BaseException as error:
                    dbcalls.end(cursor, begun, error)
                    raise
                dbcalls.end(cursor, begun, None)
                return result
            started = time.perf_counter()
            try:
                return super().traced_execution(cursor, method, *args, **kwargs)
            finally:
                _count(statement, cursor, args, kwargs, started)

        async def traced_execution_async(
            self, cursor: Any, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
        ) -> Any:
            statement = _describe(cursor, args, kwargs)
            if statement is not None and not statement.operation:
                return await method(*args, **kwargs)
            if (begun := self._begin(cursor, args)) is not None:
                try:
                    result = await method(*args, **kwargs)
                except BaseException as error:
                    dbcalls.end(cursor, begun, error)
                    raise
                dbcalls.end(cursor, begun, None)
                return result
            started = time.perf_counter()
            try:
                return await super().traced_execution_async(cursor, method, *args, **kwargs)
            finally:
                _count(statement, cursor, args, kwargs, started)

        def _populate_span(self, span: Any, cursor: Any, *args: Any) -> None:
            super()._populate_span(span, cursor, *args)
            try:
                if span.is_recording() and (statement := _describe(cursor, args, {})) is not None:
                    _name(span, statement, _text(cursor, args, {}), args[1] if len(args) > 1 else None)
                    if len(args) > 1 and (size := dbcalls.batch(args[1])) is not None:
                        span.set_attribute(semconv.DB_OPERATION_BATCH_SIZE, size)
            except Exception as failure:
                guard.caught("database.name", failure)

        def _record_metrics(self, cursor: Any, operation_name: str, start_time: float, error: Any) -> None:
            super()._record_metrics(cursor, operation_name, start_time, error)
            try:
                if error is None:
                    dbevidence.end(cursor)  # the text is not handed on: no walks
            except Exception as failure:
                guard.caught("database.rows", failure)

    return MeteredCursorTracer


def _text(cursor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return dbcalls.text_of(args[0] if args else kwargs.get("query", ""), cursor)


def _describe(cursor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> sql.Statement | None:
    try:
        return sql.describe(args[0] if args and type(args[0]) is str else _text(cursor, args, kwargs))
    except Exception as error:
        guard.caught("database.describe", error)
        return None


def _count(
    statement: sql.Statement | None,
    cursor: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    started: float,
) -> None:
    try:
        if statement is None or not statement.counted or not current.watched():
            return
        accounts.running().db_call(_text(cursor, args, kwargs), time.perf_counter() - started)
    except Exception as error:
        guard.caught("database.count", error)


def _name(span: Any, statement: sql.Statement, text: str, parameters: Any) -> None:
    span.update_name(statement.summary)
    span.set_attributes(dbcalls.names(statement) | dbevidence.begin(text, parameters))


class _Sent:
    """One statement that the instrumentor does not see: a span, and one call on the account."""

    def __init__(self, cursor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.cursor, self.args, self.kwargs = cursor, args, kwargs
        self.statement = _describe(cursor, args, kwargs)
        self.started = time.perf_counter()
        self.span = trace.get_tracer("taximeter.database").start_span(
            self.statement.summary if self.statement else "postgresql", kind=SpanKind.CLIENT
        )
        if self.statement and self.span.is_recording():
            self.span.set_attribute(semconv.DB_SYSTEM_NAME, "postgresql")
            self.span.set_attribute(semconv.DB_NAMESPACE, cursor.connection.info.dbname)
            asked = args[1] if len(args) > 1 else kwargs.get("params")
            _name(self.span, self.statement, _text(cursor, args, kwargs), asked)

    def done(self, error: BaseException | None) -> None:
        try:
            if error is not None and not isinstance(error, GeneratorExit):
                self.span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                self.span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
            self.span.end()
            _count(self.statement, self.cursor, self.args, self.kwargs, self.started)
        except Exception as failure:
            guard.caught("database.done", failure)


def _begin(cursor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Sent | None:
    try:
        return None if not current.watched() else _Sent(cursor, args, kwargs)
    except Exception as error:
        guard.caught("database.begin", error)
        return None


@contextmanager
def _sent(cursor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    sent = _begin(cursor, args, kwargs)
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        if sent is not None:
            sent.done(failure)


def _wrap_streaming(psycopg: Any) -> None:
    def generator(method: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with _sent(self, args, kwargs):
                yield from method(self, *args, **kwargs)

        return wrapped

    def async_generator(method: Callable[..., AsyncGenerator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def wrapped(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with _sent(self, args, kwargs):
                # Closed with its consumer, not by the garbage collector: the connection is busy until then.
                async with aclosing(method(self, *args, **kwargs)) as rows:
                    async for row in rows:
                        yield row

        return wrapped

    def manager(method: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with _sent(self, args, kwargs), method(self, *args, **kwargs) as copy:
                yield copy

        return wrapped

    def async_manager(method: Callable[..., Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def wrapped(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with _sent(self, args, kwargs):
                async with method(self, *args, **kwargs) as copy:
                    yield copy

        return wrapped

    def function(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _sent(self, args, kwargs):
                return method(self, *args, **kwargs)

        return wrapped

    def async_function(method: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _sent(self, args, kwargs):
                return await method(self, *args, **kwargs)

        return wrapped

    for owner, name, wrap in (
        (psycopg.Cursor, "stream", generator),
        (psycopg.Cursor, "copy", manager),
        (psycopg.ServerCursor, "execute", function),
        (psycopg.AsyncCursor, "stream", async_generator),
        (psycopg.AsyncCursor, "copy", async_manager),
        (psycopg.AsyncServerCursor, "execute", async_function),
    ):
        method = getattr(owner, name)
        setattr(owner, name, wraps(method)(wrap(method)))


def _wrap_type_lookups(psycopg: Any) -> None:
    """``register_vector()`` and its like ask the catalogue once per connection: driver set-up."""
    fetch = psycopg.types.TypeInfo._fetch.__func__
    fetch_async = psycopg.types.TypeInfo._fetch_async.__func__

    def quiet(cls: Any, *args: Any) -> Any:
        with suppress_instrumentation():
            return fetch(cls, *args)

    async def quiet_async(cls: Any, *args: Any) -> Any:
        with suppress_instrumentation():
            return await fetch_async(cls, *args)

    psycopg.types.TypeInfo._fetch = classmethod(quiet)
    psycopg.types.TypeInfo._fetch_async = classmethod(quiet_async)
