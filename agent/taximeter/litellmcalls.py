"""Model calls made through LiteLLM, for which there is no official instrumentor.

LiteLLM speaks HTTP to the providers itself, so the instrumentors of their SDKs see nothing of it. Its
functions are wrapped here, and what they do is told to util-genai as the official instrumentors tell it: one
call is one span, priced and counted like any other (:mod:`taximeter.modelcalls`), its HTTP tries too. Where
LiteLLM calls one of its own functions, or an SDK whose instrumentor is loaded, the inner call reports to the
outer one.

The provider is the one LiteLLM routes to, at the host it is given. An answer out of LiteLLM's own cache was
asked of nobody: it is a lookup of the cache ``litellm``, and no call.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import wrapt
from opentelemetry.util.genai.handler import get_telemetry_handler
from opentelemetry.util.genai.stream import AsyncStreamWrapper, SyncStreamWrapper

from taximeter import genai, guard, modelcalls, modelevidence, pricing, prompt
from taximeter import usage as usages

_FUNCTIONS: Final = ("completion", "responses", "embedding")


def install(book: pricing.PriceBook) -> None:
    """Wrap LiteLLM's functions; ``a...`` are the coroutines of the same names."""
    if not modelcalls.install(book):
        return
    library = import_module("litellm")
    for name in _FUNCTIONS:
        if hasattr(library, name) and hasattr(library, f"a{name}"):
            wrapt.wrap_function_wrapper(library, name, _calling(name == "embedding"))
            wrapt.wrap_function_wrapper(library, f"a{name}", _calling_async(name == "embedding"))
        else:
            guard.note("litellmcalls.install", f"litellm.{name} is not there: such calls are not seen.")


def _calling(embedding: bool) -> Callable[..., Any]:
    def call(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        invocation = _begun(args, kwargs, embedding)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            _failed(invocation, error)
            raise
        return _answered(invocation, result, _Stream)

    return call


def _calling_async(embedding: bool) -> Callable[..., Any]:
    async def call(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        invocation = _begun(args, kwargs, embedding)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            _failed(invocation, error)
            raise
        return _answered(invocation, result, _AsyncStream)

    return call


def _begun(args: tuple[Any, ...], kwargs: dict[str, Any], embedding: bool) -> Any:
    """The invocation of a call that begins; ``None`` where that fails."""
    try:
        asked = str(kwargs.get("model") or (args[0] if args else "unknown"))
        model, provider, host = _route(asked, kwargs)
        handler: Any = get_telemetry_handler()
        begin = handler.embedding if embedding else handler.inference
        invocation = begin(provider, request_model=model, server_address=host)
        more = args[1] if len(args) > 1 else None
        if embedding:
            modelevidence.take_inputs(invocation, kwargs.get("input", more))
        else:
            given = kwargs if more is None else {"messages": more, **kwargs}
            modelevidence.take_prompt(invocation, prompt.openai(given))
        return invocation
    except Exception as error:
        guard.caught("litellmcalls.begin", error)
        return None


def _route(model: str, kwargs: dict[str, Any]) -> tuple[str, str, str | None]:
    """Model, provider and host, as LiteLLM finds them."""
    address = kwargs.get("api_base") or kwargs.get("base_url")
    try:
        find: Any = vars(import_module("litellm"))["get_llm_provider"]
        model, provider, _, usual = find(
            model=model, custom_llm_provider=kwargs.get("custom_llm_provider"), api_base=address
        )
        address = address or usual
    except Exception:  # it does not know the model, and will say so itself
        provider = model.partition("/")[0] if "/" in model else "unknown"
    return model, genai.normal(provider), urlsplit(str(address)).hostname if address else None


def _failed(invocation: Any, error: BaseException) -> None:
    if invocation is None:
        return
    try:
        invocation.fail(error)
    except Exception as failure:
        guard.caught("litellmcalls.fail", failure)


def _answered(invocation: Any, result: Any, stream: type[Any]) -> Any:
    """What the caller is given for ``result``."""
    if invocation is None:
        return result
    try:
        if hasattr(result, "__anext__") or hasattr(result, "__next__"):
            return stream(result, invocation)
        _read(invocation, result)
        _vectors(invocation, result)
        if _cached(result):
            invocation._taximeter_call = None  # nothing to price, nothing to count
            _hit()
        invocation.stop()
    except Exception as error:
        guard.caught("litellmcalls.answer", error)
    return result


def _vectors(invocation: Any, result: Any) -> None:
    rows = getattr(result, "data", None)
    if isinstance(rows, list):  # of plain dictionaries
        vectors = [SimpleNamespace(embedding=row["embedding"]) for row in rows if isinstance(row, dict)]
        modelevidence.take_vectors(invocation, SimpleNamespace(data=vectors))


def _hit() -> None:
    import taximeter  # noqa: PLC0415  (whose public face imports what it needs when it is called)

    taximeter.record_cache("litellm", hit=True)


def _cached(result: Any) -> bool:
    hidden = getattr(result, "_hidden_params", None)
    return bool(hidden.get("cache_hit")) if isinstance(hidden, dict) else False


def _read(invocation: Any, answer: Any) -> None:
    """Take usage, model and reasons of ending from an answer, or from a part of one."""
    reading = usages.read(answer)
    if reading.usage is not None:
        usage = _written(reading.usage, answer.usage)
        invocation.input_tokens = usage.input
        if hasattr(invocation, "output_tokens"):
            invocation.output_tokens = usage.output
            invocation.cache_read_input_tokens = usage.cache_read or None
        call = getattr(invocation, "_taximeter_call", None)
        if call is not None:
            call.reading = reading._replace(usage=usage)
    if reading.model:
        invocation.response_model_name = reading.model
    reasons = [reason for each in getattr(answer, "choices", None) or () if (reason := each.finish_reason)]
    if reasons:
        invocation.finish_reasons = [str(reason) for reason in reasons]


def _written(usage: pricing.Usage, told: Any) -> pricing.Usage:
    """LiteLLM's own names of what was written to a provider's cache."""
    written = usage.cache_write or _count(told, "cache_creation_input_tokens")
    details = getattr(getattr(told, "prompt_tokens_details", None), "cache_creation_token_details", None)
    return usage._replace(
        cache_write=written,
        cache_write_1h=usage.cache_write_1h or _count(details, "ephemeral_1h_input_tokens"),
        cache_read=usage.cache_read or _count(told, "cache_read_input_tokens"),
    )


def _count(told: Any, name: str) -> int:
    value = getattr(told, name, None)
    return value if isinstance(value, int) else 0


class _Telling:
    """What both kinds of streams do with what passes."""

    _self_invocation: Any

    def _process_chunk(self, chunk: Any) -> None:
        _read(self._self_invocation, chunk)

    def _on_stream_end(self) -> None:
        self._self_invocation.stop()

    def _on_stream_error(self, error: BaseException) -> None:
        self._self_invocation.fail(error)


class _Stream(_Telling, SyncStreamWrapper[Any]):
    """The stream that ``completion`` returns."""


class _AsyncStream(_Telling, AsyncStreamWrapper[Any]):
    """The stream that ``acompletion`` returns."""
