"""OpenAI ``POST /v1/embeddings``: strings or token arrays in, floats or base64 out."""

from __future__ import annotations

import base64
from typing import Any

from . import tokens
from .attempts import Answer, ApiError, Body, positive_int
from .models import Model
from .openai_common import OpenAIEndpoint
from .rates import Usage
from .tokens import PrefixCache
from .vectors import DIMENSIONS, embed

_MAX_INPUTS = 2048
_MAX_TOTAL_TOKENS = 300_000


def _inputs(body: Body) -> list[tuple[str, int]]:
    """The inputs as (text, tokens); token arrays are embedded as the text of their numbers."""
    raw = body.get("input")
    if isinstance(raw, str) or (isinstance(raw, list) and raw and _is_token(raw[0])):
        raw = [raw]
    if not isinstance(raw, list) or not 1 <= len(raw) <= _MAX_INPUTS:
        raise ApiError(400, f"'$.input' is invalid: expected a text or 1 to {_MAX_INPUTS} of them.", "input")
    inputs = []
    for index, value in enumerate(raw):
        if isinstance(value, str) and value:
            inputs.append((value, tokens.count(value)))
        elif isinstance(value, list) and value and all(map(_is_token, value)):
            inputs.append((" ".join(map(str, value)), len(value)))
        else:
            raise ApiError(400, f"'$.input[{index}]' is invalid: empty, or not a text.", param="input")
    return inputs


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Embeddings(OpenAIEndpoint):
    operation = "embeddings"

    def validate(self, body: Body, model: Model) -> None:
        inputs = _inputs(body)
        longest = max(count for _, count in inputs)
        if longest > model.context_tokens or sum(count for _, count in inputs) > _MAX_TOTAL_TOKENS:
            raise ApiError(
                400,
                f"This model's maximum context length is {model.context_tokens} tokens per input and "
                f"{_MAX_TOTAL_TOKENS} per request.",
                param="input",
            )
        dimensions = positive_int(body, "dimensions")
        if dimensions is not None and dimensions > DIMENSIONS:
            raise ApiError(400, f"Invalid 'dimensions': at most {DIMENSIONS}.", param="dimensions")
        if body.get("encoding_format", "float") not in ("float", "base64"):
            raise ApiError(400, "Invalid 'encoding_format': float or base64.", param="encoding_format")

    def answer(self, body: Body, model: Model, prefixes: PrefixCache) -> Answer:
        inputs = _inputs(body)
        dimensions = positive_int(body, "dimensions") or DIMENSIONS
        as_base64 = body.get("encoding_format") == "base64"
        data = []
        for index, (text, _) in enumerate(inputs):
            vector = embed(text, dimensions)
            # Little-endian 32-bit floats, as the SDK decodes them; every machine we run on is.
            value = base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist()
            data.append({"object": "embedding", "index": index, "embedding": value})
        total = sum(count for _, count in inputs)
        return Answer(
            Usage(input=total),
            {
                "object": "list",
                "data": data,
                "model": model.snapshot,
                "usage": {"prompt_tokens": total, "total_tokens": total},
            },
        )
