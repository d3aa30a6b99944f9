"""The usage of most answers of the OpenAI SDK, in one step: tokens in the SDK's own objects, and no more.

Whatever is, or has, anything else gives ``None``, and is read by :mod:`taximeter.usage`. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from taximeter.pricing import Usage
from taximeter.usage import MAX

#: Fields of a chat's usage and of its details, where nothing but tokens is told.
_PLAIN: Final = frozenset(
    {
        *("prompt_tokens", "completion_tokens", "total_tokens"),
        *("prompt_tokens_details", "completion_tokens_details"),
    }
)
_PLAIN_INPUT: Final = frozenset(
    {"audio_tokens", "cache_write_tokens", "cached_tokens", "image_tokens", "text_tokens"}
)
_PLAIN_OUTPUT: Final = frozenset(
    {
        *("accepted_prediction_tokens", "audio_tokens", "reasoning_tokens"),
        *("rejected_prediction_tokens", "text_tokens"),
    }
)


_READ_OF_INPUT: Final = ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens")
_PLAIN_EMBEDDING: Final = frozenset({"data", "model", "object", "usage", "_request_id"})


def of_chat(usage: Any) -> Usage | None:
    """The usage of a chat."""
    told = _own(usage, _PLAIN)
    if told is None:
        return None
    sent, made = told.get("prompt_tokens"), told.get("completion_tokens")
    found: list[Any] = [sent, made]
    of_input, of_output = told.get("prompt_tokens_details"), told.get("completion_tokens_details")
    if of_input is None:
        found += (0, 0, 0, 0)
    else:
        details = _own(of_input, _PLAIN_INPUT)
        if details is None:
            return None
        found += [details.get(name) or 0 for name in _READ_OF_INPUT]
    if of_output is None:
        found += (0, 0)
    else:
        details = _own(of_output, _PLAIN_OUTPUT)
        if details is None:
            return None
        found += (details.get("audio_tokens") or 0, details.get("reasoning_tokens") or 0)
    for count in found:
        if type(count) is not int or not 0 <= count <= MAX:
            return None
    size, output, cached, written, heard, seen, spoken, thought = found
    return Usage(size, output, cached, written, 0, heard, 0, spoken, seen, reasoning=thought)


def of_embeddings(response: Any) -> Usage | None:
    """The usage of an answer with embeddings."""
    told = _own(response, _PLAIN_EMBEDDING)
    counted = None if told is None else _own(told.get("usage"), _PLAIN)
    count = None if counted is None else counted.get("prompt_tokens")
    return Usage(count) if type(count) is int and 0 <= count <= MAX else None


def _own(value: Any, known: frozenset[str]) -> dict[str, Any] | None:
    """The fields of an SDK's object, where it has no others than ``known``."""
    if value is None or getattr(value, "__pydantic_extra__", True):
        return None
    fields: dict[str, Any] = value.__dict__
    return fields if known.issuperset(fields) else None
