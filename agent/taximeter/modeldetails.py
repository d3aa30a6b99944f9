"""Shows each provider's response to :mod:`taximeter.usage` as the official instrumentor reads it.

The instrumentors copy the common counts to the span; what else money depends on (tier, kinds of
cache writes, server tools, audio, a price the provider reports) is only in the response. So the
functions in which they read one are wrapped, by name, where they exist: one that is gone costs
that detail and one message, never a call.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple

from taximeter import guard, usage

_OPENAI: Final = "opentelemetry.instrumentation.genai.openai."
_ANTHROPIC: Final = "opentelemetry.instrumentation.genai.anthropic."


class _Reader(NamedTuple):
    """A function of an instrumentor that is given a response, and where."""

    module: str
    function: str
    invocation: int = 0  # position of the invocation among the arguments
    response: int = 1
    usage_only: bool = False  # it is given the response's usage alone


_READERS: Final[dict[str, tuple[_Reader, ...]]] = {
    "openai": (
        _Reader(_OPENAI + "patch", "set_chat_usage", usage_only=True),
        _Reader(_OPENAI + "chat_wrappers", "set_chat_usage", usage_only=True),
        _Reader(_OPENAI + "patch", "_set_embeddings_response_properties"),
        _Reader(_OPENAI + "patch_responses", "set_invocation_response_attributes"),
        _Reader(_OPENAI + "response_wrappers", "set_invocation_response_attributes"),
    ),
    "anthropic": (_Reader(_ANTHROPIC + "wrappers", "set_invocation_response_attributes"),),
    "google-genai": (
        _Reader(
            "opentelemetry.instrumentation.google_genai.generate_content", "_apply_response_attributes", 2, 0
        ),
    ),
    "bedrock": (
        _Reader("opentelemetry.instrumentation.genai.bedrock.patch", "extract_converse_response", 1, 0),
    ),
}

Took = Callable[[Any, usage.Reading], None]


def install(library: str, took: Took) -> None:
    """Have ``took(invocation, reading)`` called for each response that ``library`` answers."""
    for reader in _READERS.get(library, ()):
        try:
            module = import_module(reader.module)
            function = getattr(module, reader.function)
            if not getattr(function, "_taximeter", False):
                setattr(module, reader.function, _wrapped(function, reader, took))
        except (ImportError, AttributeError) as error:
            guard.note(
                "modeldetails.install",
                f"{reader.module}.{reader.function} is not there ({error}): service tiers and other details "
                f"of {library}'s prices are not seen. Install the version that taximeter requires.",
            )


def _wrapped(function: Callable[..., Any], reader: _Reader, took: Took) -> Callable[..., Any]:
    def reading(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        try:
            values = (*args, *kwargs.values())  # keyword arguments are given in order
            invocation, response = values[reader.invocation], values[reader.response]
            if response is not None:
                took(invocation, _read(response, usage_only=reader.usage_only))
        except Exception as error:
            guard.caught("modeldetails.read", error)
        return result

    reading._taximeter = True  # type: ignore[attr-defined]
    return reading


def _read(response: Any, *, usage_only: bool) -> usage.Reading:
    if usage_only:
        return usage.read({"usage": response})
    raw = getattr(response, "http_response", None)  # the SDK's with_raw_response
    if raw is not None and not getattr(response, "usage", None):
        try:
            return usage.read(json.loads(raw.content))
        except (AttributeError, ValueError, RuntimeError):  # not read yet, or no JSON
            return usage.Reading(None)
    return usage.read(response)
