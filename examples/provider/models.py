"""The models served: names, limits and speed.

A request may name the alias or the dated snapshot; responses name the snapshot, as the real
services do, and the ledger the alias, under which the rate is published.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """One model. Times are medians at ``--latency-scale 1``, in seconds."""

    name: str
    snapshot: str  # what responses call it
    api: str  # openai, anthropic
    embedding: bool
    context_tokens: int  # a longer prompt is refused
    max_output_tokens: int
    cache_minimum: int  # shortest prompt prefix that is cached, in tokens
    first_token_s: float
    tokens_per_s: float


MODELS = (
    Model("gpt-4o", "gpt-4o-2024-08-06", "openai", False, 128_000, 16_384, 1024, 0.45, 85.0),
    Model("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai", False, 128_000, 16_384, 1024, 0.35, 110.0),
    Model("text-embedding-3-small", "text-embedding-3-small", "openai", True, 8_192, 0, 0, 0.11, 0.0),
    Model(
        "claude-sonnet-4-6",
        "claude-sonnet-4-6",
        "anthropic",
        False,
        200_000,
        64_000,
        1024,
        0.8,
        70.0,
    ),
    Model(
        "claude-haiku-4-5", "claude-haiku-4-5-20251001", "anthropic", False, 200_000, 64_000, 4096, 0.4, 140.0
    ),
)

BY_NAME = {name: model for model in MODELS for name in (model.name, model.snapshot)}
