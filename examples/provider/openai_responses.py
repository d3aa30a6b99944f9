"""OpenAI ``POST /v1/responses``: whole or as the event sequence that the SDK accumulates."""

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

_ROLES = frozenset({"system", "developer", "user", "assistant"})
_PARTS = ["input_text", "output_text"]


def _messages(body: Body) -> list[tuple[str, str]]:
    instructions = body.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise ApiError(400, "Invalid type for 'instructions': expected a string.", param="instructions")
    messages = [("system", instructions)] if instructions else []
    items = body.get("input")
    if isinstance(items, str) and items:
        return [*messages, ("user", items)]
    if not isinstance(items, list) or not items:
        raise ApiError(
            400, "Invalid 'input': expected a non-empty string or an array of messages.", param="input"
        )
    for index, item in enumerate(items):
        where = f"input[{index}]"
        if not isinstance(item, dict) or item.get("type", "message") != "message":
            raise ApiError(400, f"Invalid value: '{where}' must be a message.", param=where)
        if item.get("role") not in _ROLES:
            raise ApiError(400, f"Invalid value: '{where}.role' must be one of {sorted(_ROLES)}.", where)
        messages.append((item["role"], text_of(item.get("content"), f"{where}.content", _PARTS)))
    return messages


class Responses(OpenAIEndpoint):
    operation = "responses"

    def validate(self, body: Body, model: Model) -> None:
        _messages(body)
        positive_int(body, "max_output_tokens")

    def answer(self, body: Body, model: Model, prefixes: PrefixCache) -> Answer:
        messages = _messages(body)
        prompt = prompt_tokens(messages, model)
        conversation = "\n".join(f"{role}: {text}" for role, text in messages if role not in INSTRUCTIONS)
        limit = positive_int(body, "max_output_tokens")
        text, cut_short = answers.answer(model.name, conversation, limit)
        usage = Usage(
            input=len(prompt),
            output=tokens.count(text),
            cache_read=tokens.openai_cached_tokens(prefixes, model.name, model.cache_minimum, prompt),
        )
        base = {
            "id": identifier("resp_", model.name, conversation),
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": limit,
            "metadata": body.get("metadata") or {},
            "model": model.snapshot,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": body.get("store", True),
            "temperature": body.get("temperature", 1.0),
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": body.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": None,
            "user": None,
        }
        item_id = identifier("msg_", model.name, conversation)
        status = "incomplete" if cut_short else "completed"
        whole = base | {
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut_short else None,
            "output": [_item(item_id, status, [_part(text)])],
            "usage": _usage(usage),
        }
        return Answer(usage, whole, lambda: _events(base, whole, item_id, text))


def _part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(item_id: str, status: str, content: list[Body]) -> Body:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input + usage.output,
    }


def _events(base: Body, whole: Body, item_id: str, text: str) -> Iterator[tuple[bytes, int]]:
    sequence = -1

    def event(kind: str, **fields: Any) -> bytes:
        nonlocal sequence
        sequence += 1
        return sse({"type": kind, "sequence_number": sequence, **fields}, event=kind)

    item: Body = {"item_id": item_id, "output_index": 0, "content_index": 0}
    yield event("response.created", response=base), 0
    yield event("response.in_progress", response=base), 0
    added = _item(item_id, "in_progress", [])
    yield event("response.output_item.added", output_index=0, item=added), 0
    yield event("response.content_part.added", **item, part=_part("")), 0
    produced = 0
    for piece, produced in answers.pieces_of(text):
        yield event("response.output_text.delta", **item, delta=piece, logprobs=[]), produced
    yield event("response.output_text.done", **item, text=text, logprobs=[]), produced
    yield event("response.content_part.done", **item, part=_part(text)), produced
    yield event("response.output_item.done", output_index=0, item=whole["output"][0]), produced
    yield event(f"response.{whole['status']}", response=whole), produced
