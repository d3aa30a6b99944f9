"""The request account: one small object that adds up what a request causes.

It travels in a context variable, so that database and model calls made by the handler, by
tasks it starts and by worker threads (anyio copies the context) find it without being told.
It promises exact sums under threads, and that no work is lost: what is added after the
account was settled (a detached task) goes to ``late`` at once.

Life: created at the start of the ASGI request; *closed* just before the last body byte is
handed to the server, when it is written on the server span; *settled* when the ASGI
application returns (background tasks included), when it is added to the metrics.

Work outside any request is added to :data:`OUTSIDE`, an account without a route that is
settled from the start. Pure: imports nothing of OpenTelemetry.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from taximeter.walks import Walks

if TYPE_CHECKING:
    from taximeter.lookups import Lookups

#: Statement texts remembered per request to recognise repeats; beyond it repeats are not seen.
MAX_STATEMENTS: Final = 4096


class Payer(NamedTuple):
    """What money is spent on: the labels of the money counter, save route and tenant."""

    provider: str
    model: str
    operation: str


@dataclass(slots=True)
class Totals:
    """Sums of one account. Durations in seconds, money in USD."""

    db_calls: int = 0
    db_duration: float = 0.0
    db_repeated: int = 0
    pool_wait: float = 0.0
    model_calls: int = 0
    model_attempts: int = 0
    embedding_calls: int = 0
    embedding_inputs: int = 0
    embedding_duplicates: int = 0
    tokens_input: int = 0  # cached ones and those of embeddings included
    tokens_output: int = 0
    tokens_cached: int = 0  # the part of input that was read from the provider's cache
    cost: float = 0.0
    unpriced_calls: int = 0
    caches: dict[str, list[int]] = field(default_factory=dict)  # name -> [lookups, hits, repeats]
    money: dict[Payer, float] = field(default_factory=dict)

    @property
    def cache_lookups(self) -> int:
        return sum(counts[0] for counts in self.caches.values())

    @property
    def cache_hits(self) -> int:
        return sum(counts[1] for counts in self.caches.values())


class Account:
    """What one request causes; see the module for its life. Safe to use from several threads."""

    # What most requests never set is read from here.
    _route: str | None = None
    locate: Callable[[], str | None] | None = None  # asked for the route until it is known
    tenant: str | None = None
    feature: str | None = None
    segment: str | None = None
    flags: str | None = None
    remember: Callable[[], Lookups] | None = None  # set where the request's span is recorded
    lookups: Lookups | None = None
    first_byte: float | None = None  # seconds from the start
    ended: float | None = None  # seconds from the start to the last body byte
    streamed = False
    closed = False
    late: Callable[[Account], None] | None = None  # set when settled
    _statements: set[int] | None = None
    _inputs: set[int] | None = None
    _walks: Walks | None = None

    def __init__(self) -> None:
        self.total = Totals()
        #: What is added to: the total alone until it is taken, then that and what was not taken yet.
        self._sums: tuple[Totals, ...] = (self.total,)
        self._lock = threading.RLock()  # a finalizer may come in between
        self._started = time.perf_counter()

    @property
    def walks(self) -> Walks:
        """What its repeated statements ask and are answered."""
        if self._walks is None:
            with self._lock:
                self._walks = self._walks or Walks()
        return self._walks

    @property
    def route(self) -> str | None:
        """The template of the route, once the application has chosen one."""
        if self._route is None and self.locate is not None:
            self._route = self.locate()
        return self._route

    @route.setter
    def route(self, route: str | None) -> None:
        self._route = route

    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self._started

    def db_call(self, statement: str, seconds: float) -> None:
        """Add one statement sent to a database, by its text and how long it took."""
        key = hash(statement)
        with self._lock:
            if (before := self._statements) is None:
                before = self._statements = set()
            repeated = key in before
            if not repeated and len(before) < MAX_STATEMENTS and self is not OUTSIDE:
                before.add(key)
            for totals in self._sums or self._again():
                totals.db_calls += 1
                totals.db_duration += seconds
                if repeated:
                    totals.db_repeated += 1
        if self.late is not None:
            self.late(self)

    def asked_before(self, statement: str) -> bool:
        """Whether a statement of this text has been answered in this request."""
        return self._statements is not None and hash(statement) in self._statements

    def pool_wait(self, seconds: float) -> None:
        """Add time in which a call waited for a free connection."""
        with self._lock:
            for totals in self._sums or self._again():
                totals.pool_wait += seconds
        if self.late is not None:
            self.late(self)

    def embed(self, inputs: Sequence[object]) -> None:
        """Add the inputs of one embedding call; an input this request has embedded before is a duplicate."""
        with self._lock:
            duplicates = 0
            if (before := self._inputs) is None:
                before = self._inputs = set()
            for each in inputs:
                key = hash(each if isinstance(each, str) else repr(each))
                if key in before:
                    duplicates += 1
                elif len(before) < MAX_STATEMENTS and self is not OUTSIDE:
                    before.add(key)
            for totals in self._sums or self._again():
                totals.embedding_inputs += len(inputs)
                totals.embedding_duplicates += duplicates
        if self.late is not None:
            self.late(self)

    def attempt(self) -> None:
        """Add one HTTP try of a model call."""
        with self._lock:
            for totals in self._sums or self._again():
                totals.model_attempts += 1
        if self.late is not None:
            self.late(self)

    def model_call(
        self,
        payer: Payer,
        *,
        embedding: bool,
        tokens: tuple[int, int, int],
        cost: float | None,
        unpriced: bool,
    ) -> None:
        """Add one finished model call.

        ``tokens`` are input (cached ones included), output and the cached part of input;
        ``cost`` is in USD and ``None`` where nothing is known to be due; ``unpriced`` says
        that money is due whose amount is unknown.
        """
        with self._lock:
            for totals in self._sums or self._again():
                if embedding:
                    totals.embedding_calls += 1
                else:
                    totals.model_calls += 1
                totals.tokens_input += tokens[0]
                totals.tokens_output += tokens[1]
                totals.tokens_cached += tokens[2]
                totals.unpriced_calls += unpriced
                if cost is not None:
                    totals.cost += cost
                    totals.money[payer] = totals.money.get(payer, 0.0) + cost
        if self.late is not None:
            self.late(self)

    def cache(self, name: str, hit: bool, key: object = None, *, repeated: bool = False) -> None:
        """Add one lookup in the service's own cache called ``name``, with its key where it is known.

        ``repeated``: a cache of any size would have answered it.
        """
        if key is not None and self.remember is not None:
            if self.lookups is None:
                self.lookups = self.remember()
            self.lookups.add(name, hit, key)
        with self._lock:
            for totals in self._sums or self._again():
                counts = totals.caches.setdefault(name, [0, 0, 0])
                counts[0] += 1
                counts[1] += hit
                counts[2] += repeated
        if self.late is not None:
            self.late(self)

    def take(self) -> Totals:
        """What was added since the last call: each sum is given out exactly once, and not added to later."""
        with self._lock:
            return self._take()

    def settle(self, late: Callable[[Account], None]) -> Totals:
        """The same, the first time; what is added from now on is told to ``late`` at once."""
        with self._lock:
            self.late = late
            return self._take()

    def _take(self) -> Totals:
        if not self._sums:
            return Totals()
        taken = self._sums[-1]
        self._sums = () if taken is self.total else (self.total, Totals())
        return taken

    def _again(self) -> tuple[Totals, ...]:
        """Something is added to what was taken: to a copy, since that was given out."""
        total = self.total = copy(self.total)
        total.caches = {name: list(counts) for name, counts in total.caches.items()}
        total.money = dict(total.money)
        self._sums = total, Totals()
        return self._sums

    def renew(self) -> None:
        """Begin anew in a forked process, which has the parent's sums and perhaps its lock."""
        self._lock = threading.RLock()
        self._again()


current: ContextVar[Account | None] = ContextVar("taximeter_account", default=None)

#: Work that no request caused: start-up, scheduled jobs. Has no route; forwarded at once.
OUTSIDE: Final[Account] = Account()


def running() -> Account:
    """The account of the running request, else :data:`OUTSIDE`."""
    return current.get() or OUTSIDE
