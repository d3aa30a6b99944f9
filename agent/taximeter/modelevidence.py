"""Evidence of model calls: taken where the official instrumentors read a call's arguments.

The instrumentors pass the arguments and the result of each call through a few functions of
their own. Those are wrapped here, which costs no frame of the call itself and works for
streams and raw responses alike; on a version that lacks one, what it would have given is left
out, with one message. Nothing but hashes and numbers is kept, save an embedding's inputs
until the call has ended (to count the duplicates of a request).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from taximeter import evidence, guard, prompt
from taximeter.modelcalls import ModelCall

_OPENAI: Final = "opentelemetry.instrumentation.genai.openai.patch"
_RESPONSES: Final = "opentelemetry.instrumentation.genai.openai.patch_responses"
_ANTHROPIC: Final = "opentelemetry.instrumentation.genai.anthropic.patch"


def install_openai() -> None:
    """Take evidence of chat completions, responses and embeddings."""
    _after(_OPENAI, "create_chat_invocation", lambda made, args: take_prompt(made, prompt.openai(args[1])))
    _after(
        _OPENAI, "_create_embedding_invocation", lambda made, args: take_inputs(made, args[1].get("input"))
    )
    _after(
        _OPENAI, "_safe_set_embeddings_response_properties", lambda _, args: take_vectors(args[0], args[1])
    )
    _after(
        _RESPONSES,
        "apply_request_attributes",
        lambda _, args: take_prompt(args[0], prompt.openai(_params(args[1]))),
    )


def install_anthropic() -> None:
    """Take evidence of messages."""
    _after(_ANTHROPIC, "_create_invocation", lambda made, args: take_prompt(made, prompt.anthropic(args[3])))


def _after(module: str, name: str, hook: Callable[[Any, tuple[Any, ...]], None]) -> None:
    """Call ``hook`` with what the function ``name`` returned and its arguments."""
    owner = import_module(module)
    function = getattr(owner, name, None)
    if function is None:
        guard.note("modelevidence", f"{module} has no {name}: this evidence of model calls is left out.")
        return
    if getattr(function, "_taximeter", False):
        return

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        try:
            hook(made, (*args, *kwargs.values()))
        except Exception as error:
            guard.caught("modelevidence", error)
        return made

    wrapped._taximeter = True  # type: ignore[attr-defined]
    setattr(owner, name, wrapped)


def _recorded(invocation: Any) -> ModelCall | None:
    """The call, if its span is recorded."""
    call = getattr(invocation, "_taximeter_call", None)
    return call if isinstance(call, ModelCall) and invocation.span.is_recording() else None


def take_prompt(invocation: Any, parts: Any) -> None:
    """Of a chat: its prompt's parts."""
    if (call := _recorded(invocation)) is not None:
        call.evidence = {**evidence.of_prompt(parts), **evidence.of_code()}


def take_inputs(invocation: Any, given: Any) -> None:
    """Of an embedding call: what is to be embedded."""
    call = getattr(invocation, "_taximeter_call", None)
    if isinstance(call, ModelCall):
        call.inputs = evidence.inputs(given)
        if _recorded(invocation) is not None:
            call.evidence = {**evidence.of_inputs(call.inputs), **evidence.of_code()}


def take_vectors(invocation: Any, result: Any) -> None:
    """Of an embedding call: the vectors it returned."""
    if (call := _recorded(invocation)) is not None:
        data = getattr(result, "data", None) or ()
        call.evidence |= evidence.of_vectors([each.embedding for each in data])


def _params(params: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(params):
        return {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return dict(params)
