"""The ``pricing`` processor: money for model calls that arrive without it, from any language and dialect.

A span that its sender priced is left alone. Otherwise the tokens it reports are priced as the agent
would: ``taximeter.cost.amount`` (the convention's own name is for the instrumentation that made the
call), ``taximeter.cost.currency`` and, where no price is known, ``taximeter.cost.unpriced`` with
the reason, never 0. Rates are those of the day the call ended.

Only what one call's span says is counted: outer spans that repeat the sums of their calls (agents,
chains, the AI SDK's) are no calls, and of two nested spans for one call (an SDK's own under an
instrumentor's) the inner is left unpriced when both came in one request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taximeter import genai, pricefile, pricing, semconv
from taximeter_collector.errors import ConfigError
from taximeter_collector.process.chain import Processor, resources
from taximeter_collector.values import plain

_MARKS = (b"gen_ai.", b"openinference.span.kind", b"llm.", b"ai.operationId")


class Pricing(Processor):
    """``prices_file``: contract prices, which win over the built-in table (the agent's format).

    ``hosts``: who serves the models at a host nobody knows; empty: whoever the span names.
    """

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        tables = [pricefile.read(pricing.builtin_path(), trusted=True)]
        if values["prices_file"]:
            try:
                tables.insert(0, pricefile.read(Path(values["prices_file"])))
            except pricing.PriceFileError as error:
                raise ConfigError(f"processors.{name}.prices_file: {error}") from error
        self._book = pricing.PriceBook(*tables)
        self._hosts: Mapping[str, str] = values["hosts"]

    def concerns(self, payload: bytes) -> bool:
        return any(mark in payload for mark in _MARKS)

    def change(self, request: Any) -> None:
        calls: dict[bytes, tuple[Any, genai.Call]] = {}
        for resource in resources(request):
            for scope in getattr(resource, "scope_spans", ()):
                for span in scope.spans:
                    call = genai.read({p.key: plain(p.value) for p in span.attributes}, self._hosts)
                    if call is not None:
                        calls[span.span_id] = (span, call)
        for span, call in calls.values():
            outer = calls.get(span.parent_span_id)
            if call.cost is None and not (outer is not None and _same(call, outer[1])):
                self._price(span, call)

    def _price(self, span: Any, call: genai.Call) -> None:
        when = (span.end_time_unix_nano or span.start_time_unix_nano) / 1e9
        if call.usage is None:
            failed = span.status.code == 2
            cost, reason = None, "" if failed else "no_usage"
        else:
            cost, reason, *_ = self._book.quote(call.provider, call.models, call.usage, when=when)
        if cost is not None:
            span.attributes.add(key=semconv.COLLECTOR_COST_AMOUNT).value.double_value = cost
            span.attributes.add(key=semconv.COLLECTOR_COST_CURRENCY).value.string_value = "USD"
        elif reason:
            span.attributes.add(key=semconv.COLLECTOR_COST_UNPRICED).value.string_value = reason


def _same(inner: genai.Call, outer: genai.Call) -> bool:
    """Whether two nested spans tell of one call: the same tokens of the same operation."""
    return inner.operation == outer.operation and inner.usage is not None and inner.usage == outer.usage
