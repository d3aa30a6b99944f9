"""psycopg 3's cursors, metered without the instrumentor's frames.

The official instrumentor gives each connection a cursor class of its own, whose methods go through
a tracer of its own: three frames and two coroutines a statement, and a class that Python's own
caches of attributes have not seen. Here all connections have one class (for each class of cursors
that the service uses), and a connection knows its database (:class:`taximeter.dbcalls.Calls`).
What the official tracer alone can do, and connections that were instrumented one by one, stay with it.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

from taximeter import dbcalls, guard


def install(instrumentor: Any, psycopg: Any) -> None:
    """Have the psycopg instrumentor make these cursors; call before it instruments.

    By name: it looks its factories up in its module whenever a connection is made.
    """
    base = getattr(getattr(psycopg, "_connection_base", None), "BaseConnection", None)
    names = (
        ("_new_cursor_factory", "DatabaseApiIntegration", _blocking, psycopg.Cursor),
        ("_new_cursor_async_factory", "DatabaseApiAsyncIntegration", _asynchronous, psycopg.AsyncCursor),
    )
    if base is None or not all(hasattr(instrumentor, name) for pair in names for name in pair[:2]):
        return
    base._taximeter_calls = None
    for factory, integration, metered, cursor in names:
        setattr(instrumentor, factory, _factory(getattr(instrumentor, factory), metered, cursor))
        setattr(instrumentor, integration, _telling(getattr(instrumentor, integration)))


def _factory(official: Callable[..., Any], metered: Callable[[Any], Any], usual: Any) -> Callable[..., Any]:
    def factory(db_api: Any = None, base_factory: Any = None, **more: Any) -> Any:
        try:
            base = base_factory or usual
            if db_api is not None and _takes_the_usual(base) and dbcalls.suits(db_api):
                made = base.__dict__.get("_taximeter_metered")
                if made is None:
                    made = base._taximeter_metered = metered(base)
                return made
        except Exception as error:
            guard.caught("database.install", error)
        return official(db_api=db_api, base_factory=base_factory, **more)

    return factory


def _takes_the_usual(base: Any) -> bool:
    """Whether a class of the service's own is called as psycopg's is: its methods may take what they like."""
    wanted = ("execute", ["query", "params"]), ("executemany", ["query", "params_seq"])
    for method, names in wanted:
        given = [
            each.name
            for each in signature(getattr(base, method)).parameters.values()
            if each.kind in {Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL}
        ]
        if given[1:] != names:
            return False
    return True


def _telling(base: Any) -> Any:
    class Telling(base):  # type: ignore[misc]  # the instrumentor is untyped
        def get_connection_attributes(self, connection: Any) -> None:
            super().get_connection_attributes(connection)
            try:
                connection._taximeter_calls = dbcalls.of(self)
            except Exception as error:
                guard.caught("database.install", error)

    return Telling


def _blocking(base: Any) -> Any:
    send, send_many = base.execute, base.executemany

    class Cursor(base):  # type: ignore[misc]
        __slots__ = ()

        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            calls = self._conn._taximeter_calls
            if calls is None or (begun := calls.begin(self, query, params)) is None:
                return send(self, query, params, **options)
            try:
                result = send(self, query, params, **options)
            except BaseException as error:
                dbcalls.end(self, begun, error)
                raise
            dbcalls.end(self, begun, None)
            return result

        def executemany(self, query: Any, params_seq: Any, **options: Any) -> Any:
            calls = self._conn._taximeter_calls
            if calls is None or (begun := calls.begin(self, query, params_seq, many=True)) is None:
                return send_many(self, query, params_seq, **options)
            try:
                result = send_many(self, query, params_seq, **options)
            except BaseException as error:
                dbcalls.end(self, begun, error)
                raise
            dbcalls.end(self, begun, None)
            return result

    return _named(Cursor, base)


def _asynchronous(base: Any) -> Any:
    send, send_many = base.execute, base.executemany

    class Cursor(base):  # type: ignore[misc]
        __slots__ = ()

        async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            calls = self._conn._taximeter_calls
            if calls is None or (begun := calls.begin(self, query, params)) is None:
                return await send(self, query, params, **options)
            try:
                result = await send(self, query, params, **options)
            except BaseException as error:
                dbcalls.end(self, begun, error)
                raise
            dbcalls.end(self, begun, None)
            return result

        async def executemany(self, query: Any, params_seq: Any, **options: Any) -> Any:
            calls = self._conn._taximeter_calls
            if calls is None or (begun := calls.begin(self, query, params_seq, many=True)) is None:
                return await send_many(self, query, params_seq, **options)
            try:
                result = await send_many(self, query, params_seq, **options)
            except BaseException as error:
                dbcalls.end(self, begun, error)
                raise
            dbcalls.end(self, begun, None)
            return result

    return _named(Cursor, base)


def _named(made: Any, base: Any) -> Any:
    made.__name__, made.__qualname__, made.__module__ = base.__name__, base.__qualname__, base.__module__
    return made
