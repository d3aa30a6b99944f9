"""All dashboards, in the order in which an operator meets them."""

from __future__ import annotations

from taximeter_dashboards import caches, collector, compare, database, money, overview, streaming
from taximeter_dashboards.limits import Limits, from_budget
from taximeter_dashboards.model import Dashboard


def dashboards(limits: Limits | None = None) -> list[Dashboard]:
    """Every dashboard, with its threshold lines from ``limits`` (of the default budget, if not given)."""
    chosen = limits or from_budget()
    return [
        module.dashboard(chosen)
        for module in (overview, database, money, caches, streaming, compare, collector)
    ]
