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
_ROWS = (2, 9, 12)  # of an answer: rows, one of them, some of them; it may have no column
_numbers = itertools.count(1)


def number_transactions(psycopg: Any) -> None:
    """Give each transaction a number, so that what two statements of one enclose is known.

    psycopg sends BEGIN by itself and no span tells of it; every way to it asks one method how.
    """
    base = getattr(getattr(psycopg, "_connection_base", None), "BaseConnection", None)
    if base is None or not hasattr(base, "_get_tx_start_command") or hasattr(base, "_taximeter_transaction"):
        return
    original: Callable[..., Any] = base._get_tx_start_command

    def numbered(self: Any) -> Any:
        self._taximeter_transaction = next(_numbers)
        return original(self)

    base._taximeter_transaction = 0
    base._get_tx_start_command = numbered


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


def end(cursor: Any) -> None:
    """When it has been executed and its span is current: say of the answer what there is to say."""
    span = trace.get_current_span()
    if span.is_recording():
        found: evidence.Attributes = {}
        answered(found, cursor, None, "")
        span.set_attributes(found)


def answered(found: evidence.Attributes, cursor: Any, steps: walks.Walks | None, statement: str) -> None:
    """Of a statement that was executed: its transaction, the rows returned, and their values if asked for.

    ``steps`` of a repeated one are told the keys of its first row and its last.
    """
    try:
        try:
            connection = cursor._conn  # psycopg 3's; its property is a call
        except AttributeError:
            connection = cursor.connection
        number = getattr(connection, "_taximeter_transaction", 0)
        if number and connection.pgconn.transaction_status == _IN_TRANSACTION:
            found[semconv.DB_TRANSACTION] = number
        result = getattr(cursor, "pgresult", None)  # psycopg 3 alone has it
        if result is None:
            if cursor.description is not None:
                found[semconv.DB_RESPONSE_RETURNED_ROWS] = cursor.rowcount
        elif result.nfields or result.status in _ROWS:  # psycopg describes each column anew when asked
            found[semconv.DB_RESPONSE_RETURNED_ROWS] = cursor.rowcount
            if result.ntuples:
                if steps is not None:
                    steps.answer(hash(statement), _ends(result))
                if evidence.limits().values:
                    found.update(evidence.of_rows(list(_texts(result))))
    except Exception as error:
        guard.caught("dbevidence.end", error)


def _ends(result: Any) -> list[str]:
    """The keys of the first row and the last."""
    found: list[str] = []
    last, columns = result.ntuples - 1, range(result.nfields)
    form, get = result.fformat, result.get_value
    for row in (0, last) if last else (0,):
        left = walks.MAX_VALUES
        for column in columns:
            if form(column) == 0:  # text, not binary
                value = get(row, column)
                if value and value not in (b"t", b"f") and len(value) <= evidence.MAX_KEY:
                    text = value.decode("utf-8", "replace")
                    if len(text) <= walks.MAX_KEY:
                        found.append(text)
                    left -= 1
                    if not left:
                        break
    return found


def _texts(result: Any) -> Iterator[str]:
    columns = [each for each in range(result.nfields) if result.fformat(each) == 0]
    left = evidence.limits().values * 2  # distinct ones are wanted
    for row in range(min(result.ntuples, _MAX_ROWS)):
        for column in columns:
            value = result.get_value(row, column)
            if value is not None and value not in (b"t", b"f") and len(value) <= evidence.MAX_KEY:
                yield value.decode("utf-8", "replace")
                left -= 1
                if left <= 0:
                    return
