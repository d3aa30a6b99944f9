"""What the OpenAI operations share: the key, the error shape, text parts, ids and prompt caching."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from . import tokens
from .attempts import ApiError, Body
from .models import Model

#: Roles whose text shapes an answer but makes no other conversation: runs with longer and shorter
#: instructions get the same answers, and can be compared.
INSTRUCTIONS = frozenset({"system", "developer"})
_TYPES = {401: "invalid_request_error", 404: "invalid_request_error", 429: "requests", 500: "server_error"}


class OpenAIEndpoint:
    """Base of the OpenAI operations."""

    api = "openai"

    def authorised(self, request: Request) -> bool:
        return request.headers.get("authorization", "").startswith("Bearer ")

    def error(self, problem: ApiError) -> Body:
        kind = _TYPES.get(problem.status, "invalid_request_error")
        return {
            "error": {
                "message": problem.message,
                "type": kind,
                "param": problem.param,
                "code": problem.code,
            }
        }


def text_of(content: Any, param: str, kinds: Sequence[str]) -> str:
    """The text of a message's content: a string, or a list of text parts of the given types."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(400, f"Invalid type for '{param}': expected a string or an array.", param=param)
    texts = []
    for index, part in enumerate(content):
        if (
            not isinstance(part, dict)
            or part.get("type") not in kinds
            or not isinstance(part.get("text"), str)
        ):
            raise ApiError(
                400, f"Invalid value: '{param}[{index}]' must be a text part ({', '.join(kinds)}).", param
            )
        texts.append(part["text"])
    return "\n".join(texts)


def prompt_tokens(messages: Sequence[tuple[str, str]], model: Model) -> list[str]:
    """Tokens of (role, text) messages, with 3 a message and 3 for the answer's start.

    Raises ``ApiError`` 400 when the model's context is too short for them.
    """
    prompt: list[str] = []
    for role, text in messages:
        prompt += ("<|start|>", role, "<|message|>")
        prompt += tokens.tokenize(text)
    prompt += ("<|start|>", "assistant", "<|message|>")
    if len(prompt) > model.context_tokens:
        raise ApiError(
            400,
            f"This model's maximum context length is {model.context_tokens} tokens. "
            f"However, your messages resulted in {len(prompt)} tokens.",
            param="messages",
            code="context_length_exceeded",
        )
    return prompt


def identifier(prefix: str, *parts: str) -> str:
    """An id that repeats with its parts: the stand-in has no other state to make one from."""
    return prefix + hashlib.blake2b("\x00".join(parts).encode(), digest_size=12).hexdigest()
