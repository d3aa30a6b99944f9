"""Model calls that the service itself tells of: answers of a batch, or of a client nobody instruments.

The answer is read as the provider wrote it and priced like any other; it becomes a span, and is
added to the account of the request that told of it, or to none.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from taximeter import __version__, meters, pricing, semconv
from taximeter import account as accounts
from taximeter import usage as usages


def record(
    book: pricing.PriceBook, response: Any, *, provider: str, model: str | None, tier: str, operation: str
) -> float | None:
    """Count one answered call; what it cost in USD, or ``None`` where that is not known."""
    instruments = meters.get()
    if instruments is None:
        return None
    reading = usages.read(response, tier=tier)
    usage = reading.usage or pricing.Usage()
    names = (reading.model, model)
    asked = model or reading.model or "unknown"
    payer = accounts.Payer(instruments.model(provider), instruments.model(asked), operation)
    cost, reason = reading.cost, ""
    if cost is None:
        quote = book.quote(provider, names, usage, tier=reading.tier, factor=reading.factor)
        cost, reason = (quote.cost, quote.reason) if any(usage) else (None, "no_usage")
    labels = {semconv.GEN_AI_PROVIDER_NAME: payer.provider, semconv.GEN_AI_REQUEST_MODEL: payer.model}
    attributes: dict[str, str | int | float] = {
        **labels,
        semconv.GEN_AI_OPERATION_NAME: operation,
        semconv.GEN_AI_USAGE_INPUT_TOKENS: usage.input,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: usage.output,
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.cache_read,
    }
    if reading.model:
        attributes[semconv.GEN_AI_RESPONSE_MODEL] = reading.model
    if cost is not None:
        attributes[semconv.GEN_AI_USAGE_COST_AMOUNT] = cost
        attributes[semconv.GEN_AI_USAGE_COST_CURRENCY] = "USD"
        attributes[semconv.GEN_AI_USAGE_COST_SOURCE] = "local" if reading.cost is None else "provider"
        instruments.operation_cost.record(cost, {**labels, semconv.GEN_AI_OPERATION_NAME: operation})
    else:
        instruments.unpriced.add(1, {**labels, "reason": reason})
    tracer = trace.get_tracer("taximeter", __version__)
    tracer.start_span(f"{operation} {payer.model}", kind=trace.SpanKind.CLIENT, attributes=attributes).end()
    accounts.running().model_call(
        payer,
        embedding=operation == semconv.EMBEDDINGS,
        tokens=(usage.input, usage.output, usage.cache_read),
        cost=cost,
        unpriced=cost is None,
    )
    return cost
