"""What a span says of a plain call's arguments, and of the tokens that its answer reports.

The words are the official instrumentor's. Arguments that are not as known are left to it: ``None``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from taximeter import plainusage, pricing, semconv
from taximeter import usage as usages

Attributes = dict[str, Any]

REASONS: Final = "gen_ai.response.finish_reasons"
_STOP: Final = "gen_ai.request.stop_sequences"
_FORMATS: Final = "gen_ai.request.encoding_formats"
_USUAL: Final = {
    each: (each,) for each in ("stop", "length", "tool_calls", "content_filter", "function_call")
}
DIMENSIONS: Final = "gen_ai.embeddings.dimension.count"
_MOST: Final = "gen_ai.request.max_tokens"
_ASKED_OF_EMBEDDINGS: Final = (
    ("dimensions", int, DIMENSIONS),
    ("encoding_format", str, _FORMATS),
)


def of_chat(arguments: Attributes) -> Attributes | None:
    """What is asked of a chat."""
    attributes: Attributes = {}
    for name, value in arguments.items():
        if name in _NUMBERS:
            kind = type(value)
            if kind is int or kind is float:
                attributes[_NUMBERS[name]] = value
            elif not _left_out(value):
                return None
        elif name in _OTHERS and not _left_out(value):
            if (told := _OTHERS[name](value)) is None:
                return None
            attributes |= told
    if "max_completion_tokens" in arguments and type(most := arguments["max_completion_tokens"]) is int:
        attributes[_MOST] = most  # whichever of the two comes last
    return attributes


def of_embeddings(arguments: Attributes) -> Attributes | None:
    """What is asked of embeddings."""
    attributes: Attributes = {}
    for name, kind, attribute in _ASKED_OF_EMBEDDINGS:
        value = arguments.get(name)
        if type(value) is kind:
            attributes[attribute] = [value] if kind is str else value
        elif not _left_out(value):
            return None
    return attributes


def reasons(choices: Any) -> tuple[str, ...] | list[Any]:
    """Why each choice ended; a tuple where it is one choice and a usual reason."""
    first = choices[0].finish_reason
    if len(choices) == 1 and type(first) is str and (usual := _USUAL.get(first)) is not None:
        return usual
    return [each.finish_reason or "error" for each in choices]


def of_usage(usage: Any, attributes: Attributes) -> usages.Reading:
    """Read a chat's usage, and put what a span says of it into ``attributes``."""
    plain = plainusage.of_chat(usage)
    if plain is None:
        attributes |= _details(usage)
        return usages.read({"usage": usage})
    attributes[semconv.GEN_AI_USAGE_INPUT_TOKENS] = plain[0]
    attributes[semconv.GEN_AI_USAGE_OUTPUT_TOKENS] = plain[1]
    for position, attribute in _COUNTS:
        if count := plain[position]:
            attributes[attribute] = count
    return usages.Reading(plain)


def _left_out(value: Any) -> bool:
    """Whether an argument is none, also as the SDK says it."""
    return value is None or type(value).__name__ in {"Omit", "NotGiven"}


_NUMBERS: Final[dict[str, str]] = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": _MOST,
    "max_completion_tokens": _MOST,
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "seed": "gen_ai.request.seed",
}


def _stop(value: Any) -> Attributes | None:
    if isinstance(value, str):
        return {_STOP: [value]}
    return {_STOP: list(value)} if isinstance(value, list) else None


def _choices(value: Any) -> Attributes | None:
    return {"gen_ai.request.choice.count": value} if isinstance(value, int) and value != 1 else {}


def _tier(value: Any) -> Attributes | None:
    if not isinstance(value, str):
        return None
    return {"openai.request.service_tier": value} if value != "auto" else {}


def _format(value: Any) -> Attributes | None:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        return None  # a class
    return {"gen_ai.output.type": "json" if kind in {"json_object", "json_schema"} else kind}


#: Arguments that are more than a number; ``None`` of one is what the official instrumentor is to read.
_OTHERS: Final[dict[str, Callable[[Any], Attributes | None]]] = {
    "stop": _stop,
    "n": _choices,
    "service_tier": _tier,
    "response_format": _format,
    "extra_body": lambda value: None if value else {},
    "p": lambda _: None,
}
_SENT, _MADE = "prompt_tokens_details", "completion_tokens_details"
#: Details of a usage: where they are told, the field of ours, and their attribute.
_DETAILS: Final = (
    (_SENT, "cached_tokens", "cache_read", semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS),
    (_SENT, "cache_write_tokens", "cache_write", semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS),
    (_MADE, "reasoning_tokens", "reasoning", semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS),
    (_SENT, "audio_tokens", "input_audio", "gen_ai.usage.audio.input_tokens"),
    (_MADE, "audio_tokens", "output_audio", "gen_ai.usage.audio.output_tokens"),
)
_COUNTS: Final = [(pricing.Usage._fields.index(ours), attribute) for *_, ours, attribute in _DETAILS]


def _details(usage: Any) -> Attributes:
    """What the official instrumentor reads of a usage that is not as most are."""
    counts = usage.prompt_tokens, usage.completion_tokens
    names = (semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.GEN_AI_USAGE_OUTPUT_TOKENS)
    found = {name: count for name, count in zip(names, counts, strict=True) if count is not None}
    for side, name, _, attribute in _DETAILS:
        value = _field(_field(usage, side), name)
        if name == "audio_tokens" and (type(value) is not int or value < 0):
            continue
        if value:
            found[attribute] = value
    return found


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
