"""Makes each payload's call with the provider's own SDK, through a proxy that replays the answer.

Used under Taximeter and under its peers; runs in environments that hold no Taximeter, so it imports
neither. The client is pointed at the provider's own host, over plain HTTP so that a proxy can answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any
from urllib.parse import quote

Call = Callable[[str], object]  # given the address of the replaying server
HELLO: Any = [{"role": "user", "content": "hello"}]


def call_for(name: str, payload: Mapping[str, Any]) -> Call | None:
    """How to get this payload as an answer; ``None`` where no call of an SDK brings it."""
    response = payload["response"]
    if payload.get("tier") or not (response.get("usage") or response.get("usageMetadata")):
        return None  # a batch's answers come in a file, and a stream's in many pieces
    kind = response.get("object") or response.get("type")
    if "usageMetadata" in response:
        kind = "gemini"
    elif "inputTokens" in response["usage"]:
        kind = "converse"
    make = _MAKERS.get(kind)
    if make is None or (kind == "message" and payload["provider"] != "anthropic"):
        return None
    model = payload.get("request") or response.get("model") or response.get("modelVersion")
    return partial(make, name, model, payload.get("host"))


def _chat(name: str, model: str, host: str | None, url: str) -> object:
    return _openai(url, host).chat.completions.create(
        model=model, messages=HELLO, extra_headers={"x-case": name}
    )


def _responses(name: str, model: str, host: str | None, url: str) -> object:
    return _openai(url, host).responses.create(model=model, input="hello", extra_headers={"x-case": name})


def _embeddings(name: str, model: str, host: str | None, url: str) -> object:
    return _openai(url, host).embeddings.create(
        model=model, input="hello", encoding_format="float", extra_headers={"x-case": name}
    )


@cache
def _openai(url: str, host: str | None) -> Any:
    import openai

    return openai.OpenAI(
        base_url=f"http://{host or 'api.openai.com'}/v1",
        api_key="x",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(proxy=url),
    )


def _message(name: str, model: str, _: str | None, url: str) -> object:
    return _anthropic(url).messages.create(
        model=model, max_tokens=99, messages=HELLO, extra_headers={"x-case": name}
    )


@cache
def _anthropic(url: str) -> Any:
    import anthropic

    return anthropic.Anthropic(
        base_url="http://api.anthropic.com",
        api_key="x",
        max_retries=0,
        http_client=anthropic.DefaultHttpxClient(proxy=url),
    )


def _gemini(name: str, model: str, _: str | None, url: str) -> object:
    options: Any = {"http_options": {"headers": {"x-case": name}}}
    return _google(url).models.generate_content(model=model, contents="hello", config=options)


@cache
def _google(url: str) -> Any:
    from google import genai

    return genai.Client(api_key="x", http_options={"base_url": url})


def _converse(name: str, model: str, _: str | None, url: str) -> object:
    import boto3

    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=f"{url}/{quote(name, safe='')}",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    return client.converse(modelId=model, messages=[{"role": "user", "content": [{"text": "hello"}]}])


_MAKERS: dict[Any, Callable[[str, str, str | None, str], object]] = {
    "chat.completion": _chat,
    "response": _responses,
    "list": _embeddings,
    "message": _message,
    "gemini": _gemini,
    "converse": _converse,
}
