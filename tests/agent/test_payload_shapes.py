"""The payloads are what the providers' own SDKs take for an answer: every name and every type of them.

An SDK lets pass what it does not know, so a payload with a misspelt count would be priced 0 and nobody would
be the wiser. Here the SDK's own types judge: nothing missing, nothing of another type and, in
the usage, no name that the type does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import openai.types as openai_types
import pytest
from anthropic.types import Message
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.realtime import RealtimeResponse
from openai.types.responses import Response
from pydantic import BaseModel

from tests.agent.test_money import PAYLOADS

#: Names that the provider's documentation has, and the SDK's type (which is OpenAI's) has not.
BEYOND: dict[str, set[str]] = {
    "openrouter": {"cost", "cost_details", "is_byok"},
    "perplexity": {"cost"},
}
#: Parts that the payload leaves out since nothing reads them: a type of the SDK wants them.
_UNREAD: dict[type[BaseModel], dict[str, Any]] = {
    Response: {"tool_choice": "auto", "tools": []},
}

_BY_OBJECT: dict[str, type[BaseModel]] = {
    "chat.completion": ChatCompletion,
    "chat.completion.chunk": ChatCompletionChunk,
    "response": Response,
    "list": openai_types.CreateEmbeddingResponse,
    "realtime.response": RealtimeResponse,
}


def kind(response: Mapping[str, Any]) -> type[BaseModel] | None:
    """The type of the SDK that reads this answer; ``None`` for Bedrock, which has none."""
    if "usageMetadata" in response:
        return GenerateContentResponse
    if response.get("type") == "message":
        return Message
    if "created" in response and "data" in response:
        return openai_types.ImagesResponse
    return _BY_OBJECT.get(str(response.get("object")))


TYPED = [name for name, payload in PAYLOADS.items() if kind(payload["response"])]
CONVERSE = [name for name, payload in PAYLOADS.items() if "stopReason" in payload["response"]]


def unknown(model: BaseModel, path: str = "") -> Iterator[str]:
    """Names in ``model`` and below that its types do not have."""
    for name in model.model_extra or {}:
        yield f"{path}{name}"
    for name in type(model).model_fields:
        value = getattr(model, name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, BaseModel):
                yield from unknown(part, f"{path}{name}.")


@pytest.mark.parametrize("name", TYPED)
def test_an_sdk_takes_it_for_an_answer(name: str) -> None:
    response = PAYLOADS[name]["response"]
    wanted = kind(response)
    assert wanted is not None
    read = wanted.model_validate(_UNREAD.get(wanted, {}) | response)
    used: Any = getattr(read, "usage_metadata" if wanted is GenerateContentResponse else "usage")
    if "usage" in response and response["usage"] is None:
        assert used is None
        return
    beyond = next((names for who, names in BEYOND.items() if who in name), set())
    assert {path.partition(".")[0] for path in unknown(used)} <= beyond, name


@cache
def _converse() -> Any:
    model = Loader().load_service_model("bedrock-runtime", "service-2")
    return ServiceModel(model).operation_model("Converse").output_shape


@pytest.mark.parametrize("name", CONVERSE)
def test_bedrocks_own_description_takes_it_for_an_answer(name: str) -> None:
    response = PAYLOADS[name]["response"]
    report = ParamValidator().validate(response, _converse())
    assert not report.has_errors(), report.generate_report()
    usage = _converse().members["usage"].members
    assert set(response["usage"]) <= set(usage), set(response["usage"]) - set(usage)


def test_hardly_a_payload_is_left_out() -> None:
    assert set(PAYLOADS) - {*TYPED, *CONVERSE} == {"others: bedrock, Titan embedding"}


def test_a_wrong_name_or_type_would_be_found() -> None:
    good = PAYLOADS["openai: chat"]["response"]
    misspelt = ChatCompletion.model_validate(good | {"usage": good["usage"] | {"cached": 1}})
    assert misspelt.usage is not None and list(unknown(misspelt.usage)) == ["cached"]
    with pytest.raises(ValueError, match="prompt_tokens"):
        ChatCompletion.model_validate(good | {"usage": good["usage"] | {"prompt_tokens": "many"}})
