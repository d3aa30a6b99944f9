"""Model calls that other instrumentors traced (OpenInference, OpenLLMetry, ...) are priced too.

A span processor in front of the exporters reads each ended span in its own dialect
(:mod:`taximeter.genai`), puts the price on it and adds the call to the running account. It
keeps out of the way of the official instrumentors: a span of theirs, one inside a call of
theirs, and one around a call of theirs are theirs to count. Of two nested foreign spans that
tell of one call, the inner counts.

A span that is not sampled is not recorded and cannot be read: unlike the official instrumentors'
calls, foreign ones are exact only where every span is sampled.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span

from taximeter import account as accounts
from taximeter import genai, guard, meters, modelcalls, pricing, semconv, spans
from taximeter import usage as usages
from taximeter.otlp import plain

_MAX: Final = 1024
#: Attributes that say the least a model call's span says; a span without any is looked at no further.
_MARKS: Final = frozenset(
    (
        *(semconv.GEN_AI_OPERATION_NAME, "gen_ai.system", "openinference.span.kind"),
        *("llm.request.type", "ai.operationId"),
    )
)


class ForeignCalls(spans.ForForeign):
    """Prices model calls that are told of by nothing but a span."""

    def __init__(self, book: Callable[[], pricing.PriceBook]) -> None:
        self.book = book  # loaded when the first foreign call is seen
        #: Spans inside a call of an official instrumentor.
        self._inside: OrderedDict[int, None] = OrderedDict()
        #: Parents of calls that were counted -> the usage of the call.
        self._counted: OrderedDict[int, pricing.Usage | None] = OrderedDict()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        try:
            if modelcalls.within(parent_context) and span.context is not None and not _official(span):
                _remember(self._inside, span.context.span_id, None)
        except Exception as error:
            guard.caught("foreign.start", error)

    def on_end(self, span: ReadableSpan) -> None:
        try:
            # What is fixed on a light span tells of no model.
            attributes = span._more if type(span) is spans.Span else plain(span._attributes)
            if _MARKS.isdisjoint(attributes):
                return
            context = span.context
            if context is None or _official(span):
                return
            inside = self._inside.pop(context.span_id, _ABSENT) is None
            if inside or modelcalls.contains_call(context.span_id):
                return
            call = genai.read(attributes)
            if call is None:
                return
            inner = self._counted.pop(context.span_id, _ABSENT)
            if span.parent is not None:
                _remember(self._counted, span.parent.span_id, call.usage)
            if inner is _ABSENT or inner != call.usage:
                self._count(span, call)
        except Exception as error:
            guard.caught("foreign.end", error)

    def _count(self, span: ReadableSpan, call: genai.Call) -> None:
        instruments = meters.get()
        if instruments is None:
            return
        attributes = dict(span.attributes or {})
        usage = call.usage or pricing.Usage()
        embedding = call.operation == semconv.EMBEDDINGS
        model = call.models[1] or call.models[0] or "unknown"
        payer = accounts.Payer(instruments.model(call.provider), instruments.model(model), call.operation)
        failed = not span.status.is_ok
        cost, reason = call.cost, ""
        if cost is None and any(usage):
            tier = usages.tier_of(attributes.get(semconv.OPENAI_RESPONSE_SERVICE_TIER))
            cost, reason, *_ = self.book().quote(call.provider, call.models, usage, tier=tier)
        elif cost is None:
            reason = "no_usage"
        unpriced = cost is None and (any(usage) or not failed)
        if cost is not None and call.cost is None:
            # What every later processor is handed; the span itself has ended and takes no more.
            span._attributes = {
                **attributes,
                semconv.GEN_AI_USAGE_COST_AMOUNT: cost,
                semconv.GEN_AI_USAGE_COST_CURRENCY: "USD",
                semconv.GEN_AI_USAGE_COST_SOURCE: "local",
            }
        if cost is not None:
            instruments.operation_cost.record(cost, _labels(payer))
        elif unpriced:
            instruments.unpriced.add(
                1,
                {
                    semconv.GEN_AI_PROVIDER_NAME: payer.provider,
                    semconv.GEN_AI_REQUEST_MODEL: payer.model,
                    "reason": reason,
                },
            )
        accounts.running().model_call(
            payer,
            embedding=embedding,
            tokens=(usage.input, usage.output, usage.cache_read),
            cost=cost,
            unpriced=unpriced,
        )

    def shutdown(self) -> None:
        """Nothing is held back."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


_ABSENT: Final = object()


def _official(span: Any) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and spans.official(scope.name)


def _labels(payer: accounts.Payer) -> dict[str, str]:
    return {
        semconv.GEN_AI_PROVIDER_NAME: payer.provider,
        semconv.GEN_AI_REQUEST_MODEL: payer.model,
        semconv.GEN_AI_OPERATION_NAME: payer.operation,
    }


def _remember(found: OrderedDict[int, Any], key: int, value: Any) -> None:
    found[key] = value
    if len(found) > _MAX:
        with suppress(KeyError):  # another thread was quicker
            found.popitem(last=False)
