"""Makes every call of the payloads with the real SDKs, each under a span of its name; and foreign spans."""

from __future__ import annotations

from opentelemetry import trace

from tests.agent.test_money import PAYLOADS
from tools.peers.calls import call_for
from tools.peers.replay import replaying

FOREIGN: dict[str, dict[str, str | int]] = {
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o-mini",
        "llm.provider": "openai",
        "llm.token_count.prompt": 1000,
        "llm.token_count.completion": 200,
        "llm.token_count.prompt_details.cache_read": 400,
    },
    "openllmetry": {
        "gen_ai.system": "anthropic",
        "llm.request.type": "chat",
        "gen_ai.request.model": "claude-haiku-4-5",
        "gen_ai.usage.prompt_tokens": 100,  # excludes the cached ones
        "gen_ai.usage.completion_tokens": 50,
        "gen_ai.usage.cache_read_input_tokens": 1000,
    },
    "legacy": {
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4.1",
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 10,
    },
    "unknown": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "llama-of-mine",
        "llm.provider": "openai",
        "llm.token_count.prompt": 5,
    },
    "chain": {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 1000},
}


def main() -> None:
    tracer = trace.get_tracer("tests")
    with replaying(PAYLOADS) as url:
        for name, payload in PAYLOADS.items():
            call = call_for(name, payload)
            if call is not None and "at" not in payload:
                with tracer.start_as_current_span(name):
                    call(url)
        other = trace.get_tracer("openinference.instrumentation.something")
        for name, attributes in FOREIGN.items():
            with other.start_as_current_span(f"foreign {name}", attributes=attributes):
                pass
        # One call told of by two spans of one dialect, and one around a call of an official instrumentor.
        legacy = FOREIGN["legacy"]
        with other.start_as_current_span("foreign outer", attributes=legacy):  # noqa: SIM117
            with other.start_as_current_span("foreign inner", attributes=legacy):
                pass
        call = call_for("openai: chat", PAYLOADS["openai: chat"])
        assert call is not None
        with other.start_as_current_span("foreign around", attributes=FOREIGN["openinference"]):
            call(url)


if __name__ == "__main__":
    main()
