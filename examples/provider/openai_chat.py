"""OpenAI ``POST /v1/chat/completions``: whole or streamed, with usage and automatic prompt caching."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from . import answers, tokens
from .attempts import Answer, ApiError, Body, positive_int, sse
from .models import Model
from .openai_common import INSTRUCTIONS, OpenAIEndpoint, identifier, prompt_tokens, text_of
from .rates import Usage
from .tokens import PrefixCache

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def _messages(body: Body) -> list[tuple[str, str]]:
    raw = body.get("messages")
    if not isinstance(raw, list) or not raw:
        raise ApiError(400, "Invalid 'messages': expected a non-empty array.", param="messages")
    messages = []
    for index, message in enumerate(raw):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise ApiError(400, f"Invalid value: '{where}.role' must be one of {sorted(_ROLES)}.", where)
        messages.append((message["role"], text_of(message.get("content"), f"{where}.content", ["text"])))
    return messages


class Chat(OpenAIEndpoint):
    operation = "chat"

    def validate(self, body: Body, model: Model) -> None:
        _messages(body)
        positive_int(body, "max_tokens")
        positive_int(body, "max_completion_tokens")
        if body.get("n") not in (None, 1):
            raise ApiError(400, f"This stand-in serves n=1 only, got {body['n']!r}.", param="n")
        options = body.get("stream_options")
        if options is not None and (body.get("stream") is not True or not isinstance(options, dict)):
            raise ApiError(
                400,
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                "stream_options",
            )

    def answer(self, body: Body, model: Model, prefixes: PrefixCache) -> Answer:
        messages = _messages(body)
        prompt = prompt_tokens(messages, model)
        limit = positive_int(body, "max_completion_tokens") or positive_int(body, "max_tokens")
        conversation = "\n".join(f"{role}: {text}" for role, text in messages if role not in INSTRUCTIONS)
        text, cut_short = answers.answer(model.name, conversation, limit)
        usage = Usage(
            input=len(prompt),
            output=tokens.count(text),
            cache_read=tokens.openai_cached_tokens(prefixes, model.name, model.cache_minimum, prompt),
        )
        base = {
            "id": identifier("chatcmpl-", model.name, conversation),
            "created": int(time.time()),
            "model": model.snapshot,
            "service_tier": "default",
            "system_fingerprint": "fp_local",
        }
        finish = "length" if cut_short else "stop"
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": finish,
        }
        whole = base | {"object": "chat.completion", "choices": [choice], "usage": _usage(usage)}
        options = body.get("stream_options") or {}
        with_usage = options.get("include_usage") is True
        return Answer(usage, whole, lambda: _events(base, text, finish, usage, with_usage))


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _events(
    base: Body, text: str, finish: str, usage: Usage, with_usage: bool
) -> Iterator[tuple[bytes, int]]:
    chunk = base | {"object": "chat.completion.chunk"}
    if with_usage:
        chunk["usage"] = None  # every chunk but the last says so

    def event(delta: Body, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse(chunk | {"choices": [choice]})

    yield event({"role": "assistant", "content": "", "refusal": None}), 0
    produced = 0
    for piece, produced in answers.pieces_of(text):
        yield event({"content": piece}), produced
    yield event({}, finish), produced
    if with_usage:
        yield sse(chunk | {"choices": [], "usage": _usage(usage)}), produced
    yield b"data: [DONE]\n\n", produced
