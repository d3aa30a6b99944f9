"""Model calls: prices each one, and adds it to the account of the request that made it.

The official genai instrumentors make the spans. Three small wrappers on the shared
``opentelemetry-util-genai`` do the rest, and are left out (with one message) on a version
they were not written for:

* where an invocation begins, the current account is put into its context, so that HTTP tries
  made under it are counted (``tries``) and a stream that ends after the handler returned still lands on
  its request's account;
* where it finishes, the usage is priced: as read from the response itself (``modeldetails``) where
  that was seen, else as the instrumentor tells it;
* where a stream is handed to the caller, the invocation is suspended (the Anthropic
  instrumentor forgets to): otherwise what the handler does next would be parented under it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry.context import Context, get_value, set_value

from taximeter import account as accounts
from taximeter import (
    current,
    evidence,
    genai,
    guard,
    meters,
    modeldetails,
    modellight,
    pricing,
    semconv,
    tries,
)
from taximeter import usage as usages
from taximeter.tariff import Tariff

WRITTEN_FOR: Final = ("1.3b",)  # versions of opentelemetry-util-genai
_UNKNOWN: Final = "unknown"
_ABORTED: Final = "aborted"
_ABSENT: Final = object()
_MAX_PARENTS: Final = 4096


class ModelCall(tries.Tried):
    """One running call: whose it is, where it goes, how often it was tried, and what came back."""

    __slots__ = ("evidence", "inputs", "reading")

    def __init__(self, account: accounts.Account, host: str | None) -> None:
        super().__init__(account, host)
        self.reading: usages.Reading | None = None
        self.inputs: list[Any] = []  # of an embedding call; kept until it is counted
        self.evidence: evidence.Attributes = {}  # span attributes without content


def install(book: pricing.PriceBook, library: str = "") -> Pricer | None:
    """Hook into util-genai, and into what reads ``library``'s responses; ``None`` on an unknown version."""
    from opentelemetry.util.genai import invocation, stream, version  # noqa: PLC0415

    if not version.__version__.startswith(WRITTEN_FOR):
        guard.note(
            "modelcalls.install",
            f"opentelemetry-util-genai {version.__version__} is not one Taximeter knows "
            f"({', '.join(WRITTEN_FOR)}): model calls are traced but not priced. Install the "
            "version that taximeter requires.",
        )
        return None
    pricer = Pricer(book, genai.hosts(os.environ.get("TAXIMETER_MODEL_HOSTS", "")))
    _wrap(invocation.InferenceInvocation, "data", pricer, embedding=False)
    _wrap(invocation.EmbeddingInvocation, "_data", pricer, embedding=True)
    _suspend(stream.SyncStreamWrapper)
    _suspend(stream.AsyncStreamWrapper)
    modellight.install(library)
    modeldetails.install(library, _took)
    return pricer


def _took(invocation: Any, reading: usages.Reading) -> None:
    """A response was read: keep it for when the call finishes, be it that of an outer invocation."""
    call = getattr(invocation, "_taximeter_call", None) or get_value(tries.CALL, invocation._span_context)
    if isinstance(call, ModelCall) and (reading.usage is not None or call.reading is None):
        call.reading = reading


#: Spans right around a call of ours: another instrumentor's, of the same call, must not count it again.
_parents: OrderedDict[int, None] = OrderedDict()


def around(context: Context | None) -> None:
    """A call of ours begins in ``context``."""
    if span_id := current.span(context).get_span_context()[1]:
        _parents[span_id] = None
        if len(_parents) > _MAX_PARENTS:
            with suppress(KeyError):
                _parents.popitem(last=False)


def within(context: Context | None) -> bool:
    """Whether ``context`` is that of a running call of ours."""
    return isinstance((current.context() if context is None else context).get(tries.CALL), ModelCall)


def contains_call(span_id: int) -> bool:
    """Whether a call of ours was made right under the span; asked once, when it has ended."""
    return _parents.pop(span_id, _ABSENT) is None


def _wrap(cls: Any, data: str, pricer: Pricer, *, embedding: bool) -> None:
    if getattr(cls, "_taximeter", False):
        return
    init, finish = cls.__init__, cls._apply_finish

    def begun(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            host = kwargs.get("server_address")
            if kwargs.get("start_span", True):
                call = ModelCall(accounts.running(), host)
                context = kwargs.get("context")
                around(context)
                kwargs["context"] = set_value(tries.CALL, call, context)
                self._taximeter_call = call
            else:  # an inner one only reports to the outer, which may not know the host
                outer = get_value(tries.CALL, kwargs.get("context"))
                if isinstance(outer, ModelCall):
                    outer.host = outer.host or host
        except Exception as error:
            guard.caught("modelcalls.begin", error)
        init(self, *args, **kwargs)

    def finished(self: Any, error: Any = None) -> None:
        try:
            pricer.name(self, getattr(self, data))
        except Exception as failure:
            guard.caught("modelcalls.name", failure)
        finish(self, error)
        try:
            pricer.finish(self, getattr(self, data), error, embedding=embedding)
        except Exception as failure:
            guard.caught("modelcalls.finish", failure)

    cls.__init__ = begun
    cls._apply_finish = finished
    cls._taximeter = True


class Pricer:
    """Prices a call when it finishes."""

    def __init__(self, book: pricing.PriceBook, known_hosts: Mapping[str, str]) -> None:
        self.book = book
        self.hosts = known_hosts
        self._told: set[str] = set()

    def name(self, invocation: Any, data: Any) -> None:
        """Name who serves the call: an SDK may talk to anyone who speaks its protocol."""
        call: ModelCall | None = getattr(invocation, "_taximeter_call", None)
        if call is None:
            return
        provider = genai.provider(data.provider_name, call.host, self.hosts)
        if provider != data.provider_name:
            data.provider_name = provider
            invocation.span.set_attribute(semconv.GEN_AI_PROVIDER_NAME, provider)

    def finish(self, invocation: Any, data: Any, error: Any, *, embedding: bool) -> None:
        """Settle what an official invocation tells."""
        call: ModelCall | None = getattr(invocation, "_taximeter_call", None)
        instruments = meters.get()
        if call is None or instruments is None:
            return
        reading = call.reading or usages.Reading(None)
        usage = reading.usage if reading.usage is not None else _told(data, embedding=embedding)
        provider = data.provider_name or _UNKNOWN
        payer = accounts.Payer(
            instruments.model(provider),
            instruments.model(data.request_model or data.response_model or _UNKNOWN),
            semconv.EMBEDDINGS if embedding else data.operation_name or "chat",
        )
        tier = reading.tier or usages.tier_of(invocation.attributes.get(semconv.OPENAI_RESPONSE_SERVICE_TIER))
        tariff = Tariff(self.book, provider, (data.response_model, data.request_model), tier)
        attributes: dict[str, Any] = {}
        self.settle(
            *(call, attributes, instruments, payer, provider, tariff, reading, usage),
            failed=error is not None,
            aborted=_aborted(invocation, data, error, used=any(usage)),
        )
        if (cost := attributes.get(semconv.GEN_AI_USAGE_COST_AMOUNT)) is not None:
            instruments.operation_cost.record(
                cost, invocation._get_metric_attributes(), context=invocation._span_context
            )
        invocation.span.set_attributes(attributes)

    def settle(  # noqa: PLR0917  (every call that ends: keywords cost)
        self,
        call: ModelCall,
        attributes: dict[str, Any],
        instruments: meters.Meters,
        payer: accounts.Payer,
        provider: str,
        tariff: Tariff,
        reading: usages.Reading,
        usage: pricing.Usage,
        *,
        failed: bool,
        aborted: bool,
    ) -> None:
        """Price a call that has ended; what is known of it goes to ``attributes`` and to its account."""
        cost, reason = reading.cost, ""
        used = any(usage)
        if cost is None and used:
            cost, reason = tariff.quote(usage, reading.factor)
            if reason == "unknown_model" and provider not in genai.KNOWN:
                reason = "unknown_provider"
        elif cost is None:
            reason = "no_usage"
        attributes[semconv.MODEL_ATTEMPTS] = call.attempts
        attributes |= call.evidence
        aborted = aborted and call.reached
        unpriced = aborted or (cost is None and (used or not failed))
        if aborted:  # a cost is then that of the part whose usage was told
            reason = _ABORTED
        if cost is not None:
            attributes[semconv.GEN_AI_USAGE_COST_AMOUNT] = cost
            attributes[semconv.GEN_AI_USAGE_COST_CURRENCY] = "USD"
            attributes[semconv.GEN_AI_USAGE_COST_SOURCE] = "local" if reading.cost is None else "provider"
        if unpriced:
            self._tell(provider, payer.model, reason)
            instruments.unpriced.add(
                1,
                {
                    semconv.GEN_AI_PROVIDER_NAME: payer.provider,
                    semconv.GEN_AI_REQUEST_MODEL: payer.model,
                    "reason": reason,
                },
            )
        account = call.account
        if account.tenant is not None:
            attributes[semconv.TENANT] = account.tenant
        if account.feature is not None:
            attributes[semconv.FEATURE] = account.feature
        if account.segment is not None:
            attributes[semconv.SEGMENT] = account.segment
        if not call.reached:
            return  # nobody was asked
        embedding = payer.operation == semconv.EMBEDDINGS
        if embedding:
            account.embed(call.inputs)
        account.model_call(
            payer,
            embedding=embedding,
            tokens=(usage.input, usage.output, usage.cache_read),
            cost=cost,
            unpriced=unpriced,
        )

    def _tell(self, provider: str, model: str, reason: str) -> None:
        """Say once per provider that nobody knows what it charges."""
        if reason != "unknown_provider" or provider in self._told or len(self._told) > 100:
            return
        self._told.add(provider)
        guard.logger.warning(
            "Model calls go to %s, which is no provider that Taximeter knows: they are counted, not priced. "
            "If it passes them on, say so: TAXIMETER_MODEL_HOSTS=%s (or HOST=PROVIDER). Else give "
            "prices under the provider %r in TAXIMETER_PRICES_FILE.",
            *(provider, provider, provider),
        )


def _aborted(invocation: Any, data: Any, error: Any, *, used: bool) -> bool:
    """Whether the answer was broken off: the provider charges for it and never says how much.

    A guest left, the handler raised or stopped reading, or the call was cancelled in flight.
    """
    if getattr(invocation, "_request_stream", None):
        # Anthropic tells usage when a stream begins, others when it ends.
        told_early = getattr(invocation, "_provider", None) == "anthropic"
        finished = bool(data.response_finish_reasons) or (used and error is None and not told_early)
        return not finished
    cause = getattr(error, "exception", None)
    return not used and cause is not None and not isinstance(cause, Exception)  # cancelled


def _told(data: Any, *, embedding: bool) -> pricing.Usage:
    """The usage as the instrumentor tells it."""
    if embedding:
        return pricing.Usage(input=data.usage_input_tokens or 0)
    read, written = data.usage_cache_read_input_tokens or 0, data.usage_cache_write_input_tokens or 0
    size = data.usage_input_tokens or 0
    if data.provider_name == "aws.bedrock":
        size += read + written  # Bedrock's instrumentor hands on what excludes them
    return pricing.Usage(size, data.usage_output_tokens or 0, read, written)


def silence_botocore() -> None:
    """Bedrock's own instrumentor traces its model calls; botocore's would make a second span of each."""
    extensions = import_module("opentelemetry.instrumentation.botocore.extensions")
    if find_spec("opentelemetry.instrumentation.genai.bedrock") is not None:
        extensions._BOTOCORE_EXTENSIONS.pop("bedrock-runtime", None)


def _suspend(cls: Any) -> None:
    init = cls.__init__

    def begun(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        try:
            invocation = self._self_invocation
            if isinstance(getattr(invocation, "_taximeter_call", None), ModelCall):
                invocation.suspend()
        except Exception as error:
            guard.caught("modelcalls.suspend", error)

    if not getattr(cls, "_taximeter", False):
        cls.__init__ = begun
        cls._taximeter = True
