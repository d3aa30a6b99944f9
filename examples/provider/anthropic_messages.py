"""Anthropic ``POST /v1/messages``: whole or streamed, with explicit prompt caching.

Anthropic's ``input_tokens`` leaves out what was read from or written to the cache; the ledger's
input includes both, and this is the one place where the two are converted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from . import answers, tokens
from .attempts import Answer, ApiError, Body, positive_int, sse
from .models import Model
from .openai_common import INSTRUCTIONS, identifier
from .rates import Usage
from .tokens import PrefixCache, prefix_hashes

_TTL_S = {"5m": 300.0, "1h": 3600.0}
_MAX_BREAKPOINTS = 4
_ERROR_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
}


@dataclass(slots=True)
class _Prompt:
    """The prompt as tokens, the text of the conversation, and where cache breakpoints end."""

    tokens: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    breakpoints: list[tuple[int, str]] = field(default_factory=list)  # (prefix tokens, ttl)

    def add(self, content: Any, role: str, where: str) -> None:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list) or not blocks:
            raise ApiError(400, f"{where}: expected a non-empty string or list of content blocks")
        self.tokens += ("<|start|>", role)
        for index, block in enumerate(blocks):
            if (
                not isinstance(block, dict)
                or block.get("type") != "text"
                or not isinstance(block.get("text"), str)
            ):
                raise ApiError(400, f"{where}.{index}: Input tag found does not match 'text'")
            self.tokens += tokens.tokenize(block["text"])
            if role not in INSTRUCTIONS:
                self.texts.append(f"{role}: {block['text']}")
            self._breakpoint(block.get("cache_control"), f"{where}.{index}.cache_control")

    def _breakpoint(self, control: Any, where: str) -> None:
        if control is None:
            return
        if not isinstance(control, dict) or control.get("type") != "ephemeral":
            raise ApiError(400, f"{where}.type: Input should be 'ephemeral'")
        ttl = control.get("ttl", "5m")
        if ttl not in _TTL_S:
            raise ApiError(400, f"{where}.ttl: Input should be '5m' or '1h'")
        if len(self.breakpoints) == _MAX_BREAKPOINTS:
            raise ApiError(400, f"A maximum of {_MAX_BREAKPOINTS} blocks with cache_control may be provided.")
        self.breakpoints.append((len(self.tokens), ttl))


def _prompt(body: Body) -> _Prompt:
    prompt = _Prompt()
    if body.get("system"):
        prompt.add(body["system"], "system", "system")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise ApiError(400, f"messages.{index}.role: Input should be 'user' or 'assistant'")
        prompt.add(message.get("content"), message["role"], f"messages.{index}.content")
    return prompt


def _cached(prompt: _Prompt, model: Model, prefixes: PrefixCache) -> Usage:
    """Input side of the usage: the longest cached breakpoint is read, later ones are written."""
    marks = [(end, ttl) for end, ttl in prompt.breakpoints if end >= model.cache_minimum]
    hashes = prefix_hashes(prompt.tokens, [end for end, _ in marks])
    keyed = [
        (f"anthropic:{model.name}:{key}", end, ttl) for (end, ttl), key in zip(marks, hashes, strict=True)
    ]
    read = next((end for key, end, ttl in reversed(keyed) if prefixes.hit(key, _TTL_S[ttl])), 0)
    written = {"5m": 0, "1h": 0}
    done = read
    for key, end, ttl in keyed:
        if end > done:
            written[ttl] += end - done
            done = end
            prefixes.store(key, _TTL_S[ttl])
    return Usage(len(prompt.tokens), 0, read, written["5m"], written["1h"])


class Messages:
    api = "anthropic"
    operation = "messages"

    def authorised(self, request: Request) -> bool:
        return bool(request.headers.get("x-api-key") or request.headers.get("authorization"))

    def error(self, problem: ApiError) -> Body:
        kind = _ERROR_TYPES.get(problem.status, "invalid_request_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": problem.message},
            "request_id": "req_local",
        }

    def validate(self, body: Body, model: Model) -> None:
        _prompt(body)
        limit = positive_int(body, "max_tokens")
        if limit is None:
            raise ApiError(400, "max_tokens: Field required")
        if limit > model.max_output_tokens:
            raise ApiError(
                400, f"max_tokens: {limit} > {model.max_output_tokens}, the maximum for {model.snapshot}"
            )

    def answer(self, body: Body, model: Model, prefixes: PrefixCache) -> Answer:
        prompt = _prompt(body)
        if len(prompt.tokens) > model.context_tokens:
            raise ApiError(
                400,
                f"prompt is too long: {len(prompt.tokens)} tokens > {model.context_tokens} maximum",
            )
        conversation = "\n".join(prompt.texts)
        text, cut_short = answers.answer(model.name, conversation, body["max_tokens"])
        given = _cached(prompt, model, prefixes)
        usage = Usage(
            given.input, tokens.count(text), given.cache_read, given.cache_write_5m, given.cache_write_1h
        )
        whole = {
            "id": identifier("msg_", model.name, conversation),
            "type": "message",
            "role": "assistant",
            "model": model.snapshot,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "max_tokens" if cut_short else "end_turn",
            "stop_sequence": None,
            "usage": _usage(usage, usage.output),
        }
        return Answer(usage, whole, lambda: _events(whole, usage, text))


def _usage(usage: Usage, output: int) -> Body:
    return {
        "input_tokens": usage.fresh,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }


def _events(whole: Body, usage: Usage, text: str) -> Iterator[tuple[bytes, int]]:
    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, event=kind)

    start = whole | {"content": [], "stop_reason": None, "usage": _usage(usage, 1)}
    yield event("message_start", message=start), 0
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""}), 0
    yield event("ping"), 0
    produced = 0
    for piece, produced in answers.pieces_of(text):
        yield (
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}),
            produced,
        )
    yield event("content_block_stop", index=0), produced
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    final = {
        name: value
        for name, value in _usage(usage, usage.output).items()
        if name.endswith("_tokens")  # the delta carries the totals, not the split
    }
    yield event("message_delta", delta=delta, usage=final), produced
    yield event("message_stop"), produced
