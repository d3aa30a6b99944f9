"""What a provider says one call used, in the provider's own words, as one :class:`pricing.Usage`.

The official instrumentors put the common counts on a span and leave out what money depends
on: the service tier, Anthropic's split of cache writes, server tools, audio and image tokens,
a price that the provider itself reports. So the response is read here, as an SDK's object or
as parsed JSON, and each provider's way of counting is undone:

* Anthropic's ``input_tokens`` *exclude* cached ones, OpenAI's and Gemini's include them;
* Gemini's ``candidatesTokenCount`` excludes thoughts, OpenAI's output includes reasoning;
* Bedrock's Converse counts like Anthropic.

Pure: imports no SDK, and never raises on a response of another shape: what is not there is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from taximeter.pricing import Usage

#: What providers call the tier that the plain price is for.
_STANDARD: Final = frozenset({"", "default", "auto", "standard", "standard_only", "on_demand", "unspecified"})
_ABSENT: Final = object()
MAX: Final = 10**12  # more tokens than any call has: a count beyond it is no count
NONE: Final = Usage()


class Reading(NamedTuple):
    """One response, read. ``usage`` of ``None``: it reports none."""

    usage: Usage | None
    tier: str = ""  # "" is the standard one; else batch, flex, priority, fast
    model: str | None = None
    cost: float | None = None  # USD, where the provider reports the price itself
    factor: float = 1.0  # of every token rate: Anthropic's US-only inference costs a tenth more


def read(response: Any, *, tier: str = "") -> Reading:
    """Read a whole response of any known provider. ``tier`` is what the response cannot say (batch)."""
    usage = _get(response, "usage")
    metadata = _first(_get(response, "usage_metadata"), _get(response, "usageMetadata"))
    model = _first(_get(response, "model"), _get(response, "model_version"), _get(response, "modelVersion"))
    said = tier_of(_get(response, "service_tier"), _get(usage, "service_tier"), _get(usage, "speed"))
    tier = tier_of(tier) or said
    if metadata is not None:
        found: Usage | None = _gemini(metadata)
        traffic = _text(_first(_get(metadata, "traffic_type"), _get(metadata, "trafficType")))
        tier = tier or ("priority" if "PRIORITY" in traffic else "flex" if "FLEX" in traffic else "")
    elif usage is None:
        found = _embeddings_of_bedrock(response)
    elif _get(usage, "prompt_tokens") is not None:
        found = _chat(usage)
    elif _get(usage, "inputTokens") is not None:
        found = _converse(usage)
    elif _get(usage, "input_tokens") is None:
        found = None
    elif _is_anthropic(usage, response):
        found = _anthropic(usage)
    else:
        found = _responses(usage, response)
    return Reading(found, tier, model if isinstance(model, str) else None, _reported(usage), _factor(usage))


def _chat(usage: Any) -> Usage:
    """OpenAI chat and embeddings, and all who speak like it (DeepSeek, Groq, Mistral, OpenRouter)."""
    usage = _fields(usage)
    of_input = _fields(_get(usage, "prompt_tokens_details"))
    of_output = _fields(_get(usage, "completion_tokens_details"))
    cached = (
        _int(of_input, "cached_tokens")
        or _int(usage, "prompt_cache_hit_tokens")
        or _int(usage, "cached_tokens")
    )
    return Usage(
        input=_int(usage, "prompt_tokens"),
        output=_int(usage, "completion_tokens"),
        cache_read=cached,
        cache_write=_int(of_input, "cache_write_tokens"),
        input_audio=_int(of_input, "audio_tokens"),
        cache_read_audio=_int(_get(of_input, "cached_tokens_details"), "audio_tokens"),
        output_audio=_int(of_output, "audio_tokens"),
        input_image=_int(of_input, "image_tokens"),
        output_image=_int(of_output, "image_tokens"),
        web_search=_int(_get(usage, "server_tool_use"), "web_search_requests"),
        reasoning=_int(of_output, "reasoning_tokens"),
    )


def _responses(usage: Any, response: Any) -> Usage:
    """OpenAI responses, images and realtime."""
    of_input = _first(_get(usage, "input_tokens_details"), _get(usage, "input_token_details"))
    of_output = _first(_get(usage, "output_tokens_details"), _get(usage, "output_token_details"))
    of_cached = _get(of_input, "cached_tokens_details")
    kinds = [_text(_get(item, "type")) for item in _sequence(_get(response, "output"))]
    return Usage(
        input=_int(usage, "input_tokens"),
        output=_int(usage, "output_tokens"),
        cache_read=_int(of_input, "cached_tokens"),
        cache_write=_int(of_input, "cache_write_tokens") or _int(of_input, "cache_creation_input_tokens"),
        input_audio=_int(of_input, "audio_tokens"),
        cache_read_audio=_int(of_cached, "audio_tokens"),
        output_audio=_int(of_output, "audio_tokens"),
        input_image=_int(of_input, "image_tokens"),
        cache_read_image=_int(of_cached, "image_tokens"),
        output_image=_int(of_output, "image_tokens"),
        web_search=kinds.count("web_search_call"),
        file_search=kinds.count("file_search_call"),
        reasoning=_int(of_output, "reasoning_tokens"),
    )


def _is_anthropic(usage: Any, response: Any) -> bool:
    if _get(response, "type") == "message" or _get(usage, "cache_creation_input_tokens") is not None:
        return True
    return _get(usage, "cache_read_input_tokens") is not None


def _anthropic(usage: Any) -> Usage:
    read, written = _int(usage, "cache_read_input_tokens"), _int(usage, "cache_creation_input_tokens")
    split = _get(usage, "cache_creation")
    return Usage(
        input=_int(usage, "input_tokens") + read + written,
        output=_int(usage, "output_tokens"),
        cache_read=read,
        cache_write=written,
        cache_write_1h=_int(split, "ephemeral_1h_input_tokens"),
        web_search=_int(_get(usage, "server_tool_use"), "web_search_requests"),
        reasoning=_int(_get(usage, "output_tokens_details"), "thinking_tokens"),
    )


def _converse(usage: Any) -> Usage:
    """Bedrock's Converse; by its ``cacheDetails`` the writes kept for an hour."""
    read, written = _int(usage, "cacheReadInputTokens"), _int(usage, "cacheWriteInputTokens")
    hour = sum(
        _int(part, "inputTokens")
        for part in _sequence(_get(usage, "cacheDetails"))
        if _get(part, "ttl") == "1h"
    )
    return Usage(
        input=_int(usage, "inputTokens") + read + written,
        output=_int(usage, "outputTokens"),
        cache_read=read,
        cache_write=written,
        cache_write_1h=hour,
    )


def _embeddings_of_bedrock(response: Any) -> Usage | None:
    """A Titan embedding says no more than how many tokens it read."""
    count = _int(response, "inputTextTokenCount")
    return Usage(input=count) if count else None


def _gemini(metadata: Any) -> Usage:
    def count(snake: str, camel: str) -> int:
        return _int(metadata, snake) or _int(metadata, camel)

    def details(snake: str, camel: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in _sequence(_first(_get(metadata, snake), _get(metadata, camel))):
            kind = _text(_get(part, "modality")).rpartition(".")[2].upper()
            found[kind] = found.get(kind, 0) + (_int(part, "token_count") or _int(part, "tokenCount"))
        return found

    cached = count("cached_content_token_count", "cachedContentTokenCount")
    thoughts = count("thoughts_token_count", "thoughtsTokenCount")
    of_input = details("prompt_tokens_details", "promptTokensDetails")
    of_cached = details("cache_tokens_details", "cacheTokensDetails")
    of_output = details("candidates_tokens_details", "candidatesTokensDetails")
    tools = count("tool_use_prompt_token_count", "toolUsePromptTokenCount")
    return Usage(
        input=count("prompt_token_count", "promptTokenCount") + tools,
        output=count("candidates_token_count", "candidatesTokenCount") + thoughts,
        cache_read=cached,
        input_audio=of_input.get("AUDIO", 0),
        cache_read_audio=of_cached.get("AUDIO", 0),
        output_audio=of_output.get("AUDIO", 0),
        input_image=of_input.get("IMAGE", 0) + of_input.get("DOCUMENT", 0),
        cache_read_image=of_cached.get("IMAGE", 0) + of_cached.get("DOCUMENT", 0),
        output_image=of_output.get("IMAGE", 0),
        input_video=of_input.get("VIDEO", 0),
        reasoning=thoughts,
    )


def _reported(usage: Any) -> float | None:
    """The price that the provider reports, in USD: OpenRouter's ``cost``, Perplexity's ``total_cost``.

    With a key of one's own, OpenRouter charges its fee in ``cost`` and the rest is due upstream.
    """
    cost = _get(usage, "cost")
    if cost is not None and not isinstance(cost, int | float):
        cost = _get(cost, "total_cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < 1e6:
        return None
    upstream = _get(_get(usage, "cost_details"), "upstream_inference_cost")
    own_key = _get(usage, "is_byok") is True and isinstance(upstream, int | float)
    return float(cost) + (float(upstream) if own_key else 0.0)


def _factor(usage: Any) -> float:
    return 1.1 if _get(usage, "inference_geo") == "us" else 1.0


def tier_of(*said: Any) -> str:
    """The first of ``said`` that is not the standard tier, else ``""``."""
    for value in said:
        if isinstance(value, str) and value.lower() not in _STANDARD:
            return value.lower()[:32]
    return ""


def _get(value: Any, name: str) -> Any:
    if value is None:
        return None
    if type(value) is dict:
        return value.get(name)
    extra: Any = getattr(value, "__pydantic_extra__", _ABSENT)
    if extra is not _ABSENT:  # its own way of saying that there is no such field takes ten microseconds
        found = value.__dict__.get(name)
        return extra.get(name) if found is None and extra else found
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def _fields(value: Any) -> Any:
    """An SDK's object as the dictionary of what it has, which is quicker to ask."""
    extra: Any = getattr(value, "__pydantic_extra__", _ABSENT)
    if extra is _ABSENT:
        return value
    return {**(extra or {}), **{name: each for name, each in value.__dict__.items() if each is not None}}


def _int(value: Any, name: str) -> int:
    if value is None:
        return 0
    found = value.get(name) if type(value) is dict else _get(value, name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= MAX:
        return 0
    return int(found)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(getattr(value, "value", "") or "")


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
