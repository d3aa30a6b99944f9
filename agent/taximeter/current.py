"""The running context and span, read in a third of the API's calls: a request asks some fifty times.

Only spans are put where a context keeps its span, so what is found there is not asked what it is: the
API asks an abstract class, which costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
)
from opentelemetry.instrumentation.utils import _SUPPRESS_INSTRUMENTATION_KEY_PLAIN
from opentelemetry.trace.propagation import _SPAN_KEY

#: Where a context keeps its span.
SPAN_KEY: Final = _SPAN_KEY

_variable: Any = getattr(contexts._RUNTIME_CONTEXT, "_current_context", None)

#: The running context.
context: Final[Callable[[], Context]] = contexts.get_current if _variable is None else _variable.get


def span(within: Context | None = None) -> trace.Span:
    """The running span, or that of a context."""
    found: Any = (context() if within is None else within).get(SPAN_KEY)
    return trace.INVALID_SPAN if found is None else found


#: Keys of a context by which somebody may ask for quiet.
QUIET: Final = frozenset(
    (_SUPPRESS_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY_PLAIN, _SUPPRESS_HTTP_INSTRUMENTATION_KEY)
)


def watched() -> bool:
    """Whether nobody has asked for quiet (``suppress_instrumentation``)."""
    running = context()
    return not (
        running.get(_SUPPRESS_INSTRUMENTATION_KEY) or running.get(_SUPPRESS_INSTRUMENTATION_KEY_PLAIN)
    )


def http_watched() -> bool:
    """The same for HTTP."""
    running = context()
    return not (
        running
        and (
            running.get(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)
            or running.get(_SUPPRESS_INSTRUMENTATION_KEY)
            or running.get(_SUPPRESS_INSTRUMENTATION_KEY_PLAIN)
        )
    )


def of(one: trace.Span) -> Context:
    """A context of nothing but ``one``: for a measurement, whose exemplar leads there."""
    return Context({SPAN_KEY: one})
