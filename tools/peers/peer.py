"""``python -m tools.peers.peer openlit|logfire PAYLOADS.json [PRICES.json]``: what the peer says each costs.

Prints a JSON object, payload -> USD or null. Runs in an environment of its own with the peer in it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tools.peers.calls import call_for
from tools.peers.replay import replaying

_COSTS = ("gen_ai.usage.cost", "operation.cost", "gen_ai.usage.cost.amount")


def main() -> None:
    peer, path, *prices = sys.argv[1:]
    payloads: dict[str, Any] = json.loads(Path(path).read_text())
    exporter = InMemorySpanExporter()
    _start(peer, exporter, prices[0] if prices else None)
    found: dict[str, float | None] = {}
    with replaying(payloads) as url:
        for name, payload in payloads.items():
            call = call_for(name, payload)
            if call is None:
                continue
            exporter.clear()
            try:
                call(url)
            except ImportError:
                continue
            except Exception as error:  # what it priced before it failed still counts
                sys.stderr.write(f"{peer}, {name}: {type(error).__name__}: {error}\n")
            costs = [
                float(value)
                for span in exporter.get_finished_spans()
                for key, value in (span.attributes or {}).items()
                if key in _COSTS and isinstance(value, int | float)
            ]
            found[name] = sum(costs) if costs else None
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # whatever the peer still wants to send


def _start(peer: str, exporter: InMemorySpanExporter, prices: str | None) -> None:
    processor = SimpleSpanProcessor(exporter)
    if peer == "logfire":
        import logfire

        logfire.configure(
            send_to_logfire=False,
            console=False,
            additional_span_processors=[processor],
            inspect_arguments=False,
        )
        logfire.instrument_openai()
        logfire.instrument_anthropic()
        return
    import openlit

    provider = TracerProvider()
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    openlit.init(
        pricing_json=prices, disable_metrics=True, disable_events=True
    )  # it takes the provider that is there


if __name__ == "__main__":
    main()
