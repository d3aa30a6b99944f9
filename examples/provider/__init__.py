"""A local stand-in for the model providers, with a ledger of its own.

The real OpenAI and Anthropic SDKs speak to it over HTTP and cannot tell the difference in
the wire format; it has a latency model, injected faults that retries overcome, prompt
caching, and a ledger that says what every HTTP attempt cost. Taximeter's books are held
against that ledger, so nothing here may import Taximeter or OpenTelemetry, and the rates are
typed by hand.
"""
