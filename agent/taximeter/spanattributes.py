"""A span's attributes, lighter than the SDK's.

A service's spans repeat themselves: a statement's text, summary and database are the same each time. Such
attributes are made once (:class:`Fixed`), and a span refers to them; when it leaves, their bytes are those
of the last time. What is a span's own waits in a dictionary, checked as it is set. The SDK's own form,
with its lock and its counts of what was dropped, is made where a value is unusual or somebody looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.util import types

#: Types whose values are kept as they are. The API's others (sequences, mappings, bytes) are looked into.
PLAIN: Final = frozenset({str, int, float, bool})
A_STRING: Final = frozenset({str})
#: Whether a value is a text, without a call of Python's.
A_TEXT: Final[Callable[[Any], bool]] = str.__instancecheck__
_MAX_FIXED: Final = 4096


def frozen(given: Mapping[str, Any], longest: int | None) -> dict[str, Any] | None:
    """``given`` with lists of texts as tuples, as the SDK keeps them; ``None`` where it has odder values."""
    kept = {}
    for key, value in given.items():
        kept[key] = tuple(value) if type(value) is list else value
        if type(kept[key]) is tuple:
            if not A_STRING.issuperset(map(type, value)):
                return None
            if longest is not None and max(map(len, value), default=0) > longest:
                return None
        elif type(value) not in PLAIN:
            return None
    return kept


#: By number.
FIXED: Final[list[Fixed]] = []
_numbering = threading.RLock()  # a finalizer may come in between


def renew() -> None:
    """Begin anew in a forked process, where another thread may have held the lock."""
    global _numbering  # noqa: PLW0603
    _numbering = threading.RLock()


class Fixed(dict[str, Any]):
    """Attributes that many spans share and nobody changes: a statement's, or a server's.

    They say nothing that leaves about people, and of model calls only what our own parts count: they are
    redacted and encoded once, and not read again.
    """

    __slots__ = ("encoded", "limits", "number")

    def __init__(self, given: Mapping[str, types.AnyValue]) -> None:
        super().__init__(given)
        self.limits: SpanLimits | None = None  # that all of it was found to keep
        self.encoded: bytes | None = None  # as it leaves
        self.number = 0  # 0: one too many
        with _numbering:
            if len(FIXED) < _MAX_FIXED:
                self.number = len(FIXED)
                FIXED.append(self)

    def fits(self, limits: SpanLimits) -> bool:
        """Whether all of it may be on a span as it is."""
        if self.limits is not limits:
            longest, most = limits.max_span_attribute_length, limits.max_span_attributes
            if (
                PLAIN.issuperset(map(type, self.values()))
                and "" not in self
                and (longest is None or max(map(len, filter(A_TEXT, self.values())), default=0) <= longest)
                and (most is None or len(self) <= most)
            ):
                self.limits = limits
        return self.limits is limits


NOTHING: Final = Fixed({})
