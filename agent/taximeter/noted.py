"""Measurements wait in a row, and are booked in a row.

A request takes some thirty-five measurements. Booking one as it is taken touches a series, its buckets, its
bounds and its exemplars: little code, but objects that the service has pushed out of the processor's
caches since, and 5 us each time for what takes 0.7 in a row. So a measurement is *noted*: one flat tuple
of texts and numbers (which the garbage collector soon lets go). What waits is booked by the
thread that exports spans, once a second and a few at a time, before any reader collects, the last time
included, and beyond :data:`FEW` by whoever takes one more.

Exact: each is booked once, by one thread at a time, and one that fails is counted and costs no other.
Bounded: beyond :data:`MOST` whoever takes one more waits for the thread that books.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import time_ns
from typing import Any, Final, Protocol

from opentelemetry import trace

from taximeter import guard, retry

FEW: Final = 4096
MOST: Final = 16_384
_BATCH: Final = 512
_SLICE: Final = 64  # 50 us
_PAUSE: Final = 5e-5
_PATIENCE: Final = 1.0  # seconds that the last export waits for a thread that books

#: Labels: all names, then all values.
Key = tuple[Any, ...]
#: Number of the book, labels, amount; span id, trace id and time of an exemplar, or zeros.
Note = tuple[int, Key, Any, int, int, int]


class Labels(dict[str, Any]):
    """Labels that nobody changes: noted without being read. For those that are made once and kept."""

    __slots__ = ("key",)

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.key: Key = (*given, *given.values())


class Book(Protocol):
    """Whatever measurements end up in."""

    def book(self, key: Key, amount: Any, span: int, trace_id: int, time: int, /) -> None:
        """Add one measurement; called by one thread at a time."""


_books: list[weakref.ref[Book]] = []
#: What is not booked yet: whoever adds to it looks whether that makes a batch.
waiting: Final[deque[Note]] = deque()
note: Final = waiting.append
_lock = threading.Lock()
_booking = 0  # the thread that does
_since = time_ns()


def number(book: Book) -> int:
    """What a note says instead of ``book``: a tuple with an object in it is not let go."""
    _books.append(weakref.ref(book))
    return len(_books) - 1


def since() -> int:
    """Until when everything has been booked: a series that is new in a booking began no earlier."""
    return _since


def key_of(labels: Mapping[str, Any] | None) -> Key:
    """``labels`` as they are now."""
    if not labels:
        return ()
    found = (*labels, *labels.values())
    try:
        hash(found)
    except TypeError:  # a list, which its owner may change
        return tuple(tuple(each) if isinstance(each, list) else each for each in found)
    return found


def put(book: int, key: Key, amount: Any, span: trace.SpanContext | None) -> None:
    """Take one measurement of a book that is no instrument: ``amount`` may be a tuple."""
    if span is None:
        note((book, key, amount, 0, 0, 0))
    else:
        note((book, key, amount, span[1], span[0], time_ns()))
    if len(waiting) >= FEW:
        catch_up()


def catch_up() -> None:
    """Book a batch, so that nobody's call takes long; none while another thread does."""
    global _booking  # noqa: PLW0603
    if not _lock.acquire(blocking=False):
        # A signal's handler or a finalizer may run in the midst of this thread's own booking.
        if len(waiting) < MOST or _booking == threading.get_ident():
            return
        _lock.acquire()
    try:
        _booking = threading.get_ident()
        _book(_BATCH)
    finally:
        _booking = 0
        _lock.release()


def _book(most: int) -> None:
    global _since  # noqa: PLW0603
    books, take = _books, waiting.popleft
    for _ in range(min(most, len(waiting))):
        try:
            number, key, amount, span, trace_id, time = take()
            if (book := books[number]()) is not None:
                book.book(key, amount, span, trace_id, time)
        except Exception as error:
            guard.caught("metrics.book", error)
    if not waiting:
        _since = time_ns()


def settle() -> None:
    """Book what waits, a little at a time: an event loop waits for the interpreter meanwhile."""
    global _booking  # noqa: PLW0603
    for _ in range(len(waiting) // _SLICE + 1):
        if not _lock.acquire(blocking=False):
            return
        try:
            _booking = threading.get_ident()
            _book(_SLICE)
        finally:
            _booking = 0
            _lock.release()
        if not waiting or retry.hurrying():
            return
        time.sleep(_PAUSE)


@contextmanager
def booked(*, final: bool) -> Iterator[int]:
    """All that was noted is booked, and nothing else is for as long as this lasts; gives the time.

    The last export does not wait for ever: a signal's handler may have interrupted the thread that
    books, and be waiting for this one.
    """
    global _since, _booking  # noqa: PLW0603
    if not final:
        settle()
    taken = _lock.acquire(timeout=_PATIENCE if final else -1)
    try:
        if taken:
            _booking = threading.get_ident()
        _book(len(waiting))
        _since = time_ns()
        yield _since
    finally:
        if taken:
            _booking = 0
            _lock.release()


def renew() -> None:
    """Begin anew in a forked process: what waits is the parent's, and another thread may hold the lock."""
    global _lock, _booking, _since
    _lock, _booking, _since = threading.Lock(), 0, time_ns()
    waiting.clear()
