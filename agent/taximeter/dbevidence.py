"""Evidence of database calls through psycopg: parameters, rows and the place in the code.

Called by the cursor tracer of ``taximeter.database`` inside the call's span. Values of returned
rows are read from libpq's result as the server sent them, so nothing is fetched or converted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import trace

from taximeter import account as accounts
from taximeter import evidence, guard, semconv, walks

_MAX_ROWS = 100
_IN_TRANSACTION = 2  # libpq's status
_numbers = itertools.count(1)


def number_transactions(psycopg: Any) -> None:
    """Give each transaction a number, so that what two statements of one enclose is known.

    psycopg sends BEGIN by itself and no span tells of it; every way to it goes through one method.
    """
    base = getattr(getattr(psycopg, "_connection_base", None), "BaseConnection", None)
    if base is None or not hasattr(base, "_exec_command") or hasattr(base, "_taximeter_transaction"):
        return
    original: Callable[..., Any] = base._exec_command

    def numbered(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(command, bytes) and command.startswith(b"BEGIN"):
            self._taximeter_transaction = next(_numbers)
        return original(self, command, *args, **kwargs)

    base._taximeter_transaction = 0
    base._exec_command = numbered


def begin(statement: str, parameters: Any) -> evidence.Attributes:
    """Of a statement about to be sent: its parameters' hash, who asked for it, and whether it walks."""
    try:
        found = {**evidence.of_parameters(parameters), **evidence.of_code()}
        account = accounts.running()
        if account.asked_before(statement) and account.walks.step(hash(statement), parameters):
            found[semconv.DB_WALKS] = True
        return found
    except Exception as error:
        guard.caught("dbevidence.begin", error)
        return {}


def end(statement: str, cursor: Any) -> None:
    """When it has been executed and its span is current: say of the answer what there is to say."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(answered(statement, cursor))


def answered(statement: str, cursor: Any) -> evidence.Attributes:
    """Of a statement that was executed: its transaction, the rows returned, and their values if asked for."""
    found: evidence.Attributes = {}
    try:
        connection = cursor.connection
        number = getattr(connection, "_taximeter_transaction", 0)
        if number and connection.pgconn.transaction_status == _IN_TRANSACTION:
            found[semconv.DB_TRANSACTION] = number
        if cursor.description is None:
            return found
        found[semconv.DB_RESPONSE_RETURNED_ROWS] = cursor.rowcount
        result = getattr(cursor, "pgresult", None)  # psycopg 3 alone has it
        if result is not None and result.ntuples:
            account = accounts.running()
            if account.asked_before(statement):
                ends = sorted({0, result.ntuples - 1})
                account.walks.answer(hash(statement), (list(_texts(result, row)) for row in ends))
            if evidence.limits().values:
                found |= evidence.of_rows(list(_texts(result)))
    except Exception as error:
        guard.caught("dbevidence.end", error)
    return found


def _texts(result: Any, only: int | None = None) -> Iterator[str]:
    columns = [each for each in range(result.nfields) if result.fformat(each) == 0]  # text, not binary
    left = walks.MAX_VALUES if only is not None else evidence.limits().values * 2  # distinct ones are wanted
    for row in range(min(result.ntuples, _MAX_ROWS)) if only is None else (only,):
        for column in columns:
            value = result.get_value(row, column)
            if value is not None and value not in (b"t", b"f") and len(value) <= evidence.MAX_KEY:
                yield value.decode("utf-8", "replace")
                left -= 1
                if left <= 0:
                    return
