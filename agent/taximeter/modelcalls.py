"""Model calls: prices each one, and adds it to the account of the request that made it.

The official genai instrumentors make the spans. Three small wrappers on the shared
``opentelemetry-util-genai`` do the rest, and are left out (with one message) on a version
they were not written for:

* where an invocation begins, the current account is put into its context, so that HTTP tries
  made under it are counted and a stream that ends after the handler returned still lands on
  its request's account;
* where it finishes, the usage is priced;
* where a stream is handed to the caller, the invocation is suspended (the Anthropic
  instrumentor forgets to): otherwise what the handler does next would be parented under it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from opentelemetry.context import create_key, get_value, set_value
from opentelemetry.trace import Span

from taximeter import account as accounts
from taximeter import guard, meters, pricing, semconv

WRITTEN_FOR: Final = ("1.3b",)  # versions of opentelemetry-util-genai
_CALL: Final = create_key("taximeter.model_call")
_UNKNOWN: Final = "unknown"


class ModelCall:
    """One running call: whose it is, where it goes, and how often it was tried."""

    __slots__ = ("account", "attempts", "host")

    def __init__(self, account: accounts.Account, host: str | None) -> None:
        self.account = account
        self.host = host
        self.attempts = 0


def install(book: pricing.PriceBook) -> bool:
    """Hook into util-genai; returns whether its version is known."""
    from opentelemetry.util.genai import invocation, stream, version  # noqa: PLC0415

    if not version.__version__.startswith(WRITTEN_FOR):
        guard.note(
            "modelcalls.install",
            f"opentelemetry-util-genai {version.__version__} is not one Taximeter knows "
            f"({', '.join(WRITTEN_FOR)}): model calls are traced but not priced. Install the "
            "version that taximeter requires.",
        )
        return False
    _wrap(invocation.InferenceInvocation, "data", book, embedding=False)
    _wrap(invocation.EmbeddingInvocation, "_data", book, embedding=True)
    _suspend(stream.SyncStreamWrapper)
    _suspend(stream.AsyncStreamWrapper)
    return True


def _wrap(cls: Any, data: str, book: pricing.PriceBook, *, embedding: bool) -> None:
    if getattr(cls, "_taximeter", False):
        return
    init, finish = cls.__init__, cls._apply_finish

    def begun(self: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("start_span", True):  # an inner one only reports to the outer
            try:
                call = ModelCall(accounts.running(), kwargs.get("server_address"))
                kwargs["context"] = set_value(_CALL, call, kwargs.get("context"))
                self._taximeter_call = call
            except Exception as error:
                guard.caught("modelcalls.begin", error)
        init(self, *args, **kwargs)

    def finished(self: Any, error: Any = None) -> None:
        finish(self, error)
        try:
            _finish(self, getattr(self, data), book, failed=error is not None, embedding=embedding)
        except Exception as failure:
            guard.caught("modelcalls.finish", failure)

    cls.__init__ = begun
    cls._apply_finish = finished
    cls._taximeter = True


def _finish(invocation: Any, data: Any, book: pricing.PriceBook, *, failed: bool, embedding: bool) -> None:
    call: ModelCall | None = getattr(invocation, "_taximeter_call", None)
    instruments = meters.get()
    if call is None or instruments is None:
        return
    usage = pricing.Usage(
        input=data.usage_input_tokens or 0,
        output=0 if embedding else data.usage_output_tokens or 0,
        cache_read=0 if embedding else data.usage_cache_read_input_tokens or 0,
        cache_write=0 if embedding else data.usage_cache_write_input_tokens or 0,
    )
    provider = data.provider_name or _UNKNOWN
    operation = semconv.EMBEDDINGS if embedding else data.operation_name or "chat"
    used = bool(usage.input or usage.output)
    cost = book.price(provider, (data.response_model, data.request_model), usage) if used else None
    payer = accounts.Payer(
        provider, instruments.model(data.request_model or data.response_model or _UNKNOWN), operation
    )
    attributes: dict[str, Any] = {semconv.MODEL_ATTEMPTS: call.attempts}
    unpriced = cost is None and (used or not failed)
    if cost is not None:
        attributes[semconv.GEN_AI_USAGE_COST_AMOUNT] = cost
        attributes[semconv.GEN_AI_USAGE_COST_CURRENCY] = "USD"
        attributes[semconv.GEN_AI_USAGE_COST_SOURCE] = "local"
        instruments.operation_cost.record(
            cost, invocation._get_metric_attributes(), context=invocation._span_context
        )
    elif unpriced:
        instruments.unpriced.add(
            1,
            {
                semconv.GEN_AI_PROVIDER_NAME: provider,
                semconv.GEN_AI_REQUEST_MODEL: payer.model,
                "reason": "unknown_model" if used else "no_usage",
            },
        )
    if call.account.tenant is not None:
        attributes[semconv.TENANT] = call.account.tenant
    if call.account.feature is not None:
        attributes[semconv.FEATURE] = call.account.feature
    invocation.span.set_attributes(attributes)
    call.account.model_call(
        payer,
        embedding=embedding,
        tokens=(usage.input, usage.output, usage.cache_read),
        cost=cost,
        unpriced=unpriced,
    )


def count_attempt(_: Span, request: Any) -> None:
    """Request hook of the httpx instrumentors: one HTTP try, if it belongs to a model call."""
    try:
        call = get_value(_CALL)
        if isinstance(call, ModelCall) and (call.host is None or _host(request) == call.host):
            call.attempts += 1
            call.account.attempt()
    except Exception as error:
        guard.caught("modelcalls.attempt", error)


async def count_attempt_async(span: Span, request: Any) -> None:
    """The same for asynchronous clients."""
    count_attempt(span, request)


HOOKS: Final[dict[str, Callable[[Span, Any], None] | Callable[[Span, Any], Awaitable[None]]]] = {
    "request_hook": count_attempt,
    "async_request_hook": count_attempt_async,
}


def _host(request: Any) -> str | None:
    host = getattr(request.url, "host", None)
    return host if isinstance(host, str) else None


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
