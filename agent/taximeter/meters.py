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

from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.util.types import Attributes

from taximeter import account as accounts
from taximeter import export, guard, hashkey, labels, semconv, settings
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

    def renew(self) -> None:
        """Begin anew in a forked process."""
        for bounded in (self.tenant, self.feature, self.model, self.cache):
            bounded.renew()

    def settle(self, account: accounts.Account) -> None:
        """Record a whole request, once; later work goes to :meth:`record` as it happens."""
        route = _route(account)
        if account.first_byte is not None:
            self.first_byte.record(account.first_byte, route)
        if account.streamed:
            self.streamed.add(1, route)
        taken = account.take()
        self.db_calls.record(taken.db_calls, route)
        self._rest(account, taken, route)
        account.late = self.record
        self.record(account)  # what another thread added meanwhile

    def record(self, account: accounts.Account) -> None:
        """Record what ``account`` gained since it was settled. Never raises (save in strict mode)."""
        try:
            route = _route(account)
            taken = account.take()
            if taken.db_calls:
                self.db_calls.record(taken.db_calls, route)
            self._rest(account, taken, route)
        except Exception as error:
            guard.caught("meters", error)

    def _rest(self, account: accounts.Account, taken: accounts.Totals, route: dict[str, str]) -> None:
        for counter, value in (
            (self.db_duration, taken.db_duration),
            (self.db_repeated, taken.db_repeated),
            (self.model_calls, taken.model_calls),
            (self.model_attempts, taken.model_attempts),
            (self.embedding_calls, taken.embedding_calls),
            (self.embedding_inputs, taken.embedding_inputs),
            (self.embedding_duplicates, taken.embedding_duplicates),
            (self.pool_wait, taken.pool_wait),
            (self.request_unpriced, taken.unpriced_calls),
        ):
            if value:
                counter.add(value, route)
        for name, (lookups, hits, repeats) in taken.caches.items():
            label = {**route, semconv.CACHE: name}
            self.cache_lookups.add(lookups, label)
            if hits:
                self.cache_hits.add(hits, label)
            if repeats:
                self.cache_repeats.add(repeats, label)
        if not (taken.model_calls or taken.embedding_calls):
            return
        paying = {**route, **self._payer(account)}
        for counter, value in (
            (self.tokens_input, taken.tokens_input),
            (self.tokens_output, taken.tokens_output),
            (self.tokens_cached, taken.tokens_cached),
        ):
            if value:
                counter.add(value, paying)
        self.cost.record(taken.cost, route)
        for payer, amount in taken.money.items():
            self.cost_usd.add(
                amount,
                {
                    **paying,
                    semconv.GEN_AI_PROVIDER_NAME: payer.provider,
                    semconv.GEN_AI_REQUEST_MODEL: payer.model,
                    semconv.GEN_AI_OPERATION_NAME: payer.operation,
                },
            )

    def _payer(self, account: accounts.Account) -> dict[str, str]:
        """Who and what for: the labels that are known, bounded as a whole."""
        if account.tenant is None and account.feature is None and account.segment is None:
            return {}
        names = (semconv.TENANT, semconv.FEATURE, semconv.SEGMENT)
        values = self.payers(account.tenant, account.feature, account.segment)
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def span_attributes(account: accounts.Account) -> dict[str, str | bool | int | float]:
    """The account as attributes of the server span: every field, 0 when nothing happened."""
    total = account.total
    attributes: dict[str, str | bool | int | float] = {
        semconv.REQUEST_DB_CALLS: total.db_calls,
        semconv.REQUEST_DB_DURATION: total.db_duration,
        semconv.REQUEST_DB_REPEATED: total.db_repeated,
        semconv.REQUEST_MODEL_CALLS: total.model_calls,
        semconv.REQUEST_MODEL_ATTEMPTS: total.model_attempts,
        semconv.REQUEST_EMBEDDING_CALLS: total.embedding_calls,
        semconv.REQUEST_EMBEDDING_INPUTS: total.embedding_inputs,
        semconv.REQUEST_EMBEDDING_DUPLICATES: total.embedding_duplicates,
        semconv.REQUEST_POOL_WAIT: total.pool_wait,
        semconv.REQUEST_TOKENS_INPUT: total.tokens_input,
        semconv.REQUEST_TOKENS_OUTPUT: total.tokens_output,
        semconv.REQUEST_TOKENS_CACHED: total.tokens_cached,
        semconv.REQUEST_COST: total.cost,
        semconv.REQUEST_UNPRICED_CALLS: total.unpriced_calls,
        semconv.REQUEST_CACHE_LOOKUPS: total.cache_lookups,
        semconv.REQUEST_CACHE_HITS: total.cache_hits,
        semconv.REQUEST_STREAMED: account.streamed,
    }
    if account.first_byte is not None:
        attributes[semconv.REQUEST_FIRST_BYTE] = account.first_byte
    for key, value in (
        (semconv.TENANT, account.tenant),
        (semconv.FEATURE, account.feature),
        (semconv.SEGMENT, account.segment),
        (semconv.FLAGS, account.flags),
    ):
        if value is not None:
            attributes[key] = value
    if account.lookups is not None and (text := account.lookups.text()):
        attributes[semconv.CACHE_LOOKUPS] = text
        attributes[semconv.EVIDENCE_KEY] = hashkey.hasher().id
    return attributes


def _route(account: accounts.Account) -> dict[str, str]:
    return {} if account.route is None else {semconv.HTTP_ROUTE: account.route}


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
