"""The keys of the connectors, and what they need of the pipelines they join."""

from __future__ import annotations

from taximeter_collector.config.fields import Key, Section, boolean, duration, whole

CONNECTORS: dict[str, Section] = {
    "request_metrics": Section(  # Taximeter's own
        {
            "metrics_flush_interval": Key(duration, 5.0),
            "aggregation_cardinality_limit": Key(whole, 2000),  # series per resource, then one for the rest
            "resource_metrics_cache_size": Key(whole, 1000),
            # false where the services send http.server.request.duration themselves
            "server_duration": Key(boolean, True),
        }
    ),
}

#: connector -> (signals it takes, signals it makes)
CONNECTOR_SIGNALS = {"request_metrics": (("traces",), ("metrics",))}
