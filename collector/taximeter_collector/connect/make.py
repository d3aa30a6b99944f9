"""From a configured component to its connector."""

from __future__ import annotations

from taximeter_collector.config.loader import Component
from taximeter_collector.connect.connector import Connector
from taximeter_collector.connect.requests import RequestMetrics
from taximeter_collector.connect.spans import SpanMetrics
from taximeter_collector.log import Log


def make_connector(component: Component, target: Log) -> Connector:
    """The connector ``connectors.<id>``, which writes to this log."""
    kind = {"request_metrics": RequestMetrics, "span_metrics": SpanMetrics}[component.type]
    return kind(component.id, component.values, target)
