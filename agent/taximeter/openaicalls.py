"""A plain chat or embedding call of the OpenAI SDK: begun in one step, told of in another.

Most calls ask for a whole answer and nothing else. For these the official instrumentor builds an
invocation, with a field for all that any call of any provider may have, and hands it through some sixty
functions; each costs ten times as much in a service at work, whose caches hold something else, as it does in
a loop. Here the same span, the same measurements, price, evidence and account come of what is known of one
model at one server, and of what this answer says.

Streams, raw answers, ``parse()`` with a class, a call inside another instrumentor's invocation, content,
events and hooks stay with the official instrumentor, and so does every call whose arguments are not as known:
that is decided before the call. ``TAXIMETER_OFFICIAL=models`` brings it back for all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Final

from taximeter import guard, modelcalls, settings
from taximeter.openaiplain import Calls, Chats, Embeddings

_OFFICIAL: Final = "opentelemetry.instrumentation.genai.openai"

_Create = Callable[..., Any]


def install(pricer: modelcalls.Pricer) -> None:
    """Have the official instrumentor's functions made with a short way; call before it instruments."""
    if settings.official("models"):
        return
    module = import_module(_OFFICIAL)
    for name, kind, wrap in (
        ("chat_completions_create_v_new", Chats, _sync),
        ("async_chat_completions_create_v_new", Chats, _async),
        ("embeddings_create", Embeddings, _sync),
        ("async_embeddings_create", Embeddings, _async),
    ):
        make = getattr(module, name, None)
        if make is None:
            guard.note("openaicalls", f"{_OFFICIAL} has no {name}: these calls cost more.")
        elif not getattr(make, "_taximeter", False):
            setattr(module, name, _making(make, kind, wrap, pricer))


def _making(
    make: Callable[[Any], _Create],
    kind: type[Calls],
    wrap: Callable[[_Create, Calls], _Create],
    pricer: modelcalls.Pricer,
) -> Callable[[Any], _Create]:
    def made(handler: Any) -> _Create:
        official = make(handler)
        try:
            return official if _asks_for_more(handler) else wrap(official, kind(handler, pricer))
        except Exception as error:
            guard.caught("openaicalls.make", error)
            return official

    made._taximeter = True  # type: ignore[attr-defined]
    return made


def _asks_for_more(handler: Any) -> bool:
    """Whether content, events or a hook are wanted."""
    from opentelemetry.util.genai import _inference_invocation as inference  # noqa: PLC0415

    return bool(handler.should_capture_content()) or inference._should_emit_event(
        handler._content_capturing_mode
    )


def _sync(official: _Create, calls: Calls) -> _Create:
    def create(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        call = calls.begin(instance, args, kwargs)
        if call is None:
            return official(wrapped, instance, args, kwargs)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            call.end(None, error)
            raise
        call.end(result)
        return result

    return create


def _async(official: _Create, calls: Calls) -> _Create:
    async def create(wrapped: Callable[..., Awaitable[Any]], instance: Any, args: Any, kwargs: Any) -> Any:
        call = calls.begin(instance, args, kwargs)
        if call is None:
            return await official(wrapped, instance, args, kwargs)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            call.end(None, error)
            raise
        call.end(result)
        return result

    return create
