"""Who serves a model, and what another instrumentor's span says of a call. Pure.

Two things that the tools disagree about:

* **the provider**: an OpenAI SDK talks to anyone who speaks its API. The host decides
  (:func:`provider`), and an unknown host is a provider of its own, called by its name, whose
  price must be given: what answers at ``llm.internal`` under the name ``gpt-oss-20b`` is not
  OpenAI, and not free;
* **the names and the sums of tokens** (:func:`read`): OpenInference, OpenLLMetry, the AI SDK
  and older conventions use other attributes, and some count cached tokens beside the input
  where the convention counts them in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from taximeter import semconv
from taximeter.pricing import Usage

#: Host name, or its end where it begins with a dot -> ``gen_ai.provider.name``.
HOSTS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    ".api.openai.com": "openai",
    ".openai.azure.com": "azure.ai.openai",
    ".cognitiveservices.azure.com": "azure.ai.openai",
    ".services.ai.azure.com": "azure.ai.inference",
    ".models.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    ".aiplatform.googleapis.com": "gcp.vertex_ai",
    "-aiplatform.googleapis.com": "gcp.vertex_ai",
    ".amazonaws.com": "aws.bedrock",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral_ai",
    "api.x.ai": "x_ai",
    ".api.x.ai": "x_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.voyageai.com": "voyageai",
}
#: Providers that a host was found for.
KNOWN: Final = frozenset(HOSTS.values())
#: What an SDK says when it only means the protocol: then the host decides.
_PROTOCOLS: Final = frozenset({"openai", "anthropic", "azure.ai.openai"})
#: Older and other names -> the convention's.
_SYSTEMS: Final[Mapping[str, str]] = {
    **{"azure": "azure.ai.openai", "az.ai.openai": "azure.ai.openai", "azure_openai": "azure.ai.openai"},
    **{"az.ai.inference": "azure.ai.inference", "azure_ai": "azure.ai.inference"},
    **{
        "bedrock": "aws.bedrock",
        "aws": "aws.bedrock",
        "aws_bedrock": "aws.bedrock",
        "amazon-bedrock": "aws.bedrock",
    },
    **{
        "gemini": "gcp.gemini",
        "google": "gcp.gemini",
        "google_genai": "gcp.gemini",
        "gcp.gen_ai": "gcp.gemini",
    },
    **{"google_generative_ai": "gcp.gemini", "google.generative-ai": "gcp.gemini"},
    **{"vertex_ai": "gcp.vertex_ai", "vertexai": "gcp.vertex_ai", "google.vertex": "gcp.vertex_ai"},
    **{"mistral": "mistral_ai", "mistralai": "mistral_ai", "xai": "x_ai", "x-ai": "x_ai"},
    **{
        "moonshot": "moonshot_ai",
        "moonshotai": "moonshot_ai",
        "together_ai": "together",
        "togetherai": "together",
    },
}


def provider(name: str | None, host: str | None, known: Mapping[str, str] | None = None) -> str:
    """Who is paid: by ``known`` (host -> provider, given by the user), the host, then the SDK's word.

    An empty provider in ``known`` says that the SDK's word holds: the host passes calls on.

    A host that nobody knows is returned as it is, in lower case.
    """
    name = normal(name)
    if not host or (name and name not in _PROTOCOLS):
        return name or "unknown"
    host = host.lower().rstrip(".")[:128]
    if known and (given := known.get(host)) is not None:
        return given or name
    if found := HOSTS.get(host):
        return found
    for end, found in HOSTS.items():
        if end[0] in ".-" and host.endswith(end):
            return found
    return host


def hosts(text: str) -> Mapping[str, str]:
    """``TAXIMETER_MODEL_HOSTS``, comma-separated: ``host=provider``, or a ``host`` behind which the
    provider is the one that the SDK is for."""
    pairs = (pair.strip().partition("=") for pair in text.split(","))
    return {host.lower(): normal(name) for host, _, name in pairs if host}


def normal(name: str | None) -> str:
    """The convention's name of a provider; ``openai.chat`` and ``anthropic.messages`` are AI SDK's."""
    lowered = (name or "").strip().lower()[:128]
    if found := _SYSTEMS.get(lowered):
        return found
    head = lowered.partition(".")[0]
    if head in {"openai", "anthropic", "mistral", "xai", "groq", "deepseek", "cohere", "openrouter"}:
        return _SYSTEMS.get(head, head)
    if lowered.startswith(("google.", "vertex.")):
        return "gcp.vertex_ai" if "vertex" in lowered else "gcp.gemini"
    return lowered


class Call(NamedTuple):
    """One model call, as another instrumentor's span tells it."""

    provider: str
    models: tuple[str | None, str | None]  # the response's, the request's
    operation: str  # chat, embeddings, ...
    usage: Usage | None  # None: the span reports none
    cost: float | None = None  # USD, where the span carries one already


#: Values that say a span is a model call, by the attribute that carries them.
_EMBEDDING: Final = frozenset({"embeddings", "embedding", "embed"})
_KINDS: Final[Mapping[str, frozenset[str]]] = {
    semconv.GEN_AI_OPERATION_NAME: frozenset(
        {"chat", "text_completion", "generate_content", "completion", "responses", "messages", *_EMBEDDING}
    ),
    "openinference.span.kind": frozenset({"llm", "embedding"}),
    "llm.request.type": frozenset({"chat", "completion", *_EMBEDDING}),
}
#: The AI SDK's outer spans repeat the sums of the inner ones, which end so.
_AI_SDK_CALLS: Final = (".dogenerate", ".dostream", ".doembed")
_INPUT: Final = (
    *(semconv.GEN_AI_USAGE_INPUT_TOKENS, "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    *("llm.usage.prompt_tokens", "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
)
_OUTPUT: Final = (
    *(semconv.GEN_AI_USAGE_OUTPUT_TOKENS, "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    *("llm.usage.completion_tokens", "ai.usage.outputTokens", "ai.usage.completionTokens"),
)
_READ: Final = (
    *(semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, "gen_ai.usage.cache_read_input_tokens"),
    *("llm.token_count.prompt_details.cache_read", "ai.usage.cachedInputTokens"),
)
_WRITE: Final = (
    *(semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS, semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS),
    *("gen_ai.usage.cache_creation_input_tokens", "llm.token_count.prompt_details.cache_write"),
)
#: Where Anthropic's input excludes cached tokens, as the provider itself counts.
_RAW_ANTHROPIC: Final = frozenset(
    {"gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "ai.usage.promptTokens"}
)


def read(attributes: Mapping[str, Any], hosts: Mapping[str, str] | None = None) -> Call | None:
    """The call that a span with these attributes is; ``None`` where it is none (an agent, a chain).

    ``hosts`` says who serves what at hosts of the user's own, as :func:`provider` takes it.
    """
    operation = _operation(attributes)
    if operation is None:
        return None
    response = _text(attributes, semconv.GEN_AI_RESPONSE_MODEL, "ai.response.model", "llm.response.model")
    request = _text(
        attributes,
        *(semconv.GEN_AI_REQUEST_MODEL, "llm.model_name", "embedding.model_name"),
        *("ai.model.id", "llm.request.model"),
    )
    named = _text(
        attributes,
        *(semconv.GEN_AI_PROVIDER_NAME, "gen_ai.system", "llm.provider", "llm.system"),
        *("ai.model.provider", "llm.vendor"),
    )
    who = provider(named, _text(attributes, "server.address"), hosts)
    source, amount = _count(attributes, _INPUT)
    _, output = _count(attributes, _OUTPUT)
    _, cached = _count(attributes, _READ)
    _, written = _count(attributes, _WRITE)
    usage = None
    if source is not None or output:
        excluded = source in _RAW_ANTHROPIC and who == "anthropic"
        if excluded or cached + written > amount:
            amount += cached + written
        audio = _count(attributes, ("llm.token_count.prompt_details.audio",))[1]
        spoken = _count(attributes, ("llm.token_count.completion_details.audio",))[1]
        usage = Usage(amount, output, cached, written, input_audio=audio, output_audio=spoken)
    return Call(who, (response, request), operation, usage, _cost(attributes))


def _operation(attributes: Mapping[str, Any]) -> str | None:
    for name, kinds in _KINDS.items():
        value = attributes.get(name)
        if isinstance(value, str):
            lowered = value.lower()
            if lowered not in kinds:
                return None  # an agent, a tool, a chain: its calls have spans of their own
            return semconv.EMBEDDINGS if lowered in _EMBEDDING else "chat"
    ai_sdk = attributes.get("ai.operationId")
    if isinstance(ai_sdk, str):
        lowered = ai_sdk.lower()
        if not lowered.endswith(_AI_SDK_CALLS):
            return None
        return semconv.EMBEDDINGS if lowered.endswith(".doembed") else "chat"
    if "gen_ai.system" in attributes and _count(attributes, _INPUT)[0] is not None:
        return "chat"
    return None


def _count(attributes: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str | None, int]:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            return name, int(value)
    return None, 0


def _text(attributes: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def _cost(attributes: Mapping[str, Any]) -> float | None:
    value = attributes.get(semconv.GEN_AI_USAGE_COST_AMOUNT)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
        return float(value)
    return None
