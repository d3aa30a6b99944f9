"""The instruments through which a settled account becomes metrics.

Which is which, with labels:

===============================================  =========  ==========================================
``taximeter.request.db.calls``                   histogram  http.route; one observation per request
``taximeter.request.cost``                       histogram  http.route; requests that called a model
``taximeter.request.first_byte``                 histogram  http.route; requests that sent a body
``taximeter.request.db.duration``                counter    http.route, s
``taximeter.request.db.repeated``                counter    http.route
``taximeter.request.model.calls``                counter    http.route
``taximeter.request.model.attempts``             counter    http.route
``taximeter.request.embedding.calls``            counter    http.route
``taximeter.request.embedding.{inputs,duplicates}``  counter  http.route
``taximeter.request.pool.wait``                  counter    http.route, s
``db.client.connection.wait_time``               histogram  db.client.connection.pool.name, s
``taximeter.request.tokens.{input,output,cached}``  counter  http.route, who and what for
``taximeter.request.unpriced.calls``             counter    http.route
``taximeter.request.cache.{lookups,hits,repeats}`` counter     http.route, taximeter.cache
``taximeter.request.streamed``                   counter    http.route
``taximeter.cost_usd``                           counter    http.route, who and what for, provider,
                                                            request model, operation
``taximeter.unpriced.calls``                     counter    provider, request model, reason
``taximeter.agent.errors``                       counter    taximeter.hook
``taximeter.agent.dropped_spans``                counter    reason
===============================================  =========  ==========================================

*Who and what for* are ``taximeter.tenant``, ``.feature`` and ``.segment``. A counter gets no
zeros at every request, so an absent series means 0. A label that is unknown is left out:
no ``http.route`` means no route matched, or no request at all. Work that a request goes on
causing after it returned (a detached task) is recorded when it happens, by the same route; for
``db.calls`` that is one more observation, so its *sum* is exact and its count may exceed the
requests'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.util.types import Attributes

from taximeter import account as accounts
from taximeter import export, guard, labels, noted, semconv, settings
from taximeter.bounds import COST_BOUNDS, DB_CALLS_BOUNDS

WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)  # the convention's
SECONDS_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0, 30.0)


class Meters:
    """All instruments of the agent, made once per meter."""

    def __init__(self, meter: Meter) -> None:
        limit = int(settings.number("TAXIMETER_LABEL_LIMIT"))
        self.tenant = labels.Bounded(limit)
        self.feature = labels.Bounded(limit)
        self.segment = labels.Bounded(limit)
        self.payers = labels.Combined(5 * limit)
        self.model = labels.Bounded(limit)
        self.cache = labels.Bounded(limit)
        self.pool = labels.Bounded(limit)
        self.statement = labels.Bounded(limit)

        def histogram(name: str, unit: str, doc: str, bounds: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(
                name, unit=unit, description=doc, explicit_bucket_boundaries_advisory=list(bounds)
            )

        def counter(name: str, unit: str, doc: str) -> Counter:
            return meter.create_counter(name, unit=unit, description=doc)

        s = semconv
        self.db_calls = histogram(
            s.REQUEST_DB_CALLS, "{call}", "Statements sent per request.", DB_CALLS_BOUNDS
        )
        self.cost = histogram(s.REQUEST_COST, "{USD}", "Money spent on models per request.", COST_BOUNDS)
        self.first_byte = histogram(
            s.REQUEST_FIRST_BYTE, "s", "Time until the first byte of the body.", SECONDS_BOUNDS
        )
        self.db_duration = counter(s.REQUEST_DB_DURATION, "s", "Time spent in statements.")
        self.db_repeated = counter(
            s.REQUEST_DB_REPEATED, "{call}", "Statements already sent by the same request."
        )
        self.model_calls = counter(s.REQUEST_MODEL_CALLS, "{call}", "Model calls, embeddings excluded.")
        self.model_attempts = counter(s.REQUEST_MODEL_ATTEMPTS, "{attempt}", "HTTP tries of model calls.")
        self.embedding_calls = counter(s.REQUEST_EMBEDDING_CALLS, "{call}", "Embedding calls.")
        self.embedding_inputs = counter(s.REQUEST_EMBEDDING_INPUTS, "{input}", "Texts embedded.")
        self.embedding_duplicates = counter(
            s.REQUEST_EMBEDDING_DUPLICATES, "{input}", "Texts embedded again by the same request."
        )
        self.pool_wait = counter(s.REQUEST_POOL_WAIT, "s", "Time spent waiting for a free connection.")
        self.connection_wait = histogram(
            s.DB_CLIENT_CONNECTION_WAIT_TIME, "s", "Time until a pool gave a connection.", WAIT_BOUNDS
        )
        self.tokens_input = counter(s.REQUEST_TOKENS_INPUT, "{token}", "Input tokens, cached ones included.")
        self.tokens_output = counter(s.REQUEST_TOKENS_OUTPUT, "{token}", "Output tokens.")
        self.tokens_cached = counter(s.REQUEST_TOKENS_CACHED, "{token}", "Input tokens read from a cache.")
        self.request_unpriced = counter(s.REQUEST_UNPRICED_CALLS, "{call}", "Calls whose price is unknown.")
        self.cache_lookups = counter(s.REQUEST_CACHE_LOOKUPS, "{lookup}", "Lookups in the service's caches.")
        self.cache_hits = counter(s.REQUEST_CACHE_HITS, "{lookup}", "Lookups that hit.")
        self.cache_repeats = counter(
            s.REQUEST_CACHE_REPEATS, "{lookup}", "Lookups that hit, or whose key was looked up before."
        )
        self.streamed = counter(s.REQUEST_STREAMED, "{request}", "Requests answered in several parts.")
        self.cost_usd = counter(s.COST_USD, "{USD}", "Money spent on models.")
        self.unpriced = counter(s.UNPRICED_CALLS, "{call}", "Calls whose price is unknown, by model.")
        self.operation_cost = histogram(
            s.GEN_AI_CLIENT_OPERATION_COST, "{USD}", "Money spent on one model call.", COST_BOUNDS
        )
        meter.create_observable_counter(
            s.AGENT_ERRORS, [_errors], unit="{error}", description="Failures inside the agent."
        )
        meter.create_observable_counter(
            s.AGENT_DROPPED_SPANS, [_dropped], unit="{span}", description="Spans that were not delivered."
        )

        #: What is a counter by route, in the order of a note.
        self._counters = (
            *(self.db_duration, self.db_repeated, self.model_calls, self.model_attempts),
            *(self.embedding_calls, self.embedding_inputs, self.embedding_duplicates),
            *(self.pool_wait, self.request_unpriced),
        )
        self._paid = self.tokens_input, self.tokens_output, self.tokens_cached
        self._number = noted.number(self)
        #: Which span an exemplar names; ``None`` where the instruments are the SDK's, which book at once.
        self._sampler = getattr(self.db_calls, "sampler", None)

    def renew(self) -> None:
        """Begin anew in a forked process."""
        for one in vars(self).values():
            if isinstance(one, labels.Bounded | labels.Combined):
                one.renew()

    def settle(self, account: accounts.Account) -> None:
        """Record a whole request, once; later work goes to :meth:`record` as it happens."""
        self._note(account, account.settle(self.record), whole=True)

    def record(self, account: accounts.Account) -> None:
        """Record what ``account`` gained since it was settled. Never raises (save in strict mode)."""
        try:
            self._note(account, account.take(), whole=False)
        except Exception as error:
            guard.caught("meters", error)

    def _note(self, account: accounts.Account, taken: accounts.Totals, *, whole: bool) -> None:
        """One note for all instruments, of texts and numbers; booked by :meth:`book`."""
        who = account.route, account.tenant, account.feature, account.segment
        caches = tuple([(name, *counts) for name, counts in taken.caches.items()]) if taken.caches else ()
        money = tuple([(*payer, amount) for payer, amount in taken.money.items()]) if taken.money else ()
        what = (
            taken.db_calls if whole or taken.db_calls else None,
            account.first_byte if whole else None,
            whole and account.streamed,
            (
                taken.db_duration,
                taken.db_repeated,
                taken.model_calls,
                taken.model_attempts,
                taken.embedding_calls,
                taken.embedding_inputs,
                taken.embedding_duplicates,
                taken.pool_wait,
                taken.unpriced_calls,
            ),
            taken.cost if taken.model_calls or taken.embedding_calls else None,
            (taken.tokens_input, taken.tokens_output, taken.tokens_cached),
            caches,
            money,
        )
        if self._sampler is None:
            self._write(who, what, _directly)
        else:
            noted.put(self._number, who, what, self._sampler(None))

    def book(self, key: noted.Key, amount: Any, *exemplar: int) -> None:
        """Book one note, by the instruments' own ways."""

        def put(instrument: Any, value: float, labels: noted.Labels) -> None:
            instrument.book(labels.key, value, *exemplar)

        self._write(key, amount, put)

    def _write(self, who: noted.Key, what: tuple[Any, ...], put: _Put) -> None:
        route = _route(who[0])
        db_calls, first_byte, streamed, counts, cost, tokens, caches, money = what
        if first_byte is not None:
            put(self.first_byte, first_byte, route)
        if streamed:
            put(self.streamed, 1, route)
        if db_calls is not None:
            put(self.db_calls, db_calls, route)
        for counter, value in zip(self._counters, counts, strict=True):
            if value:
                put(counter, value, route)
        for name, lookups, hits, repeats in caches:
            labels = _cache(who[0], name)
            put(self.cache_lookups, lookups, labels)
            if hits:
                put(self.cache_hits, hits, labels)
            if repeats:
                put(self.cache_repeats, repeats, labels)
        if cost is None:
            return
        payers = who[1:] if who[1:] == _NOBODY else self.payers(*who[1:])
        for counter, value in zip(self._paid, tokens, strict=True):
            if value:
                put(counter, value, _paying(who[0], *payers))
        put(self.cost, cost, route)
        for *payer, amount in money:
            put(self.cost_usd, amount, _money(who[0], *payers, *payer))


_Put = Callable[[Any, float, noted.Labels], None]
_NOBODY: Final = (None, None, None)


def _directly(instrument: Any, value: float, labels: noted.Labels) -> None:
    """Into an instrument of the SDK."""
    (instrument.record if isinstance(instrument, Histogram) else instrument.add)(value, labels)


def _labels(*given: tuple[str, str | None]) -> noted.Labels:
    return noted.Labels({name: value for name, value in given if value is not None})


@lru_cache(maxsize=4096)
def _route(route: str | None) -> noted.Labels:
    return _labels((semconv.HTTP_ROUTE, route))


@lru_cache(maxsize=4096)
def _cache(route: str | None, name: str) -> noted.Labels:
    return _labels((semconv.HTTP_ROUTE, route), (semconv.CACHE, name))


@lru_cache(maxsize=4096)
def _paying(route: str | None, tenant: str | None, feature: str | None, segment: str | None) -> noted.Labels:
    """Who and what for: the labels that are known."""
    return _labels(
        (semconv.HTTP_ROUTE, route),
        (semconv.TENANT, tenant),
        (semconv.FEATURE, feature),
        (semconv.SEGMENT, segment),
    )


@lru_cache(maxsize=4096)
def _money(*given: str | None) -> noted.Labels:
    """The same, and what was paid for."""
    *who, provider, model, operation = given
    return _labels(
        *_paying(*who).items(),
        (semconv.GEN_AI_PROVIDER_NAME, provider),
        (semconv.GEN_AI_REQUEST_MODEL, model),
        (semconv.GEN_AI_OPERATION_NAME, operation),
    )


def _errors(_: CallbackOptions) -> Iterable[Observation]:
    return [_observation(count, {semconv.HOOK: hook}) for hook, count in guard.counts().items()]


def _dropped(_: CallbackOptions) -> Iterable[Observation]:
    return [_observation(count, {"reason": reason}) for reason, count in export.dropped().items()]


def _observation(value: int, attributes: Attributes) -> Observation:
    return Observation(value, attributes)


_meters: Meters | None = None


def install(meter: Meter) -> Meters:
    """Make the instruments on ``meter`` and let work outside any request flow into them."""
    global _meters  # noqa: PLW0603  (one process, one set of instruments)
    _meters = Meters(meter)
    accounts.OUTSIDE.late = _meters.record
    return _meters


def get() -> Meters | None:
    """The installed instruments, or ``None`` where the agent does not run."""
    return _meters


def summary(text: str) -> str:
    """A statement's summary as a label of metrics: one of a bounded number."""
    return text if _meters is None else _meters.statement(text)
