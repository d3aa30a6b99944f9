"""The dashboards' queries made executable: variables replaced as Grafana would, with short windows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.model import Panel, Query

EVERYTHING = dict.fromkeys(("job", "route", "model", "tenant", "cache", "collector"), ".*")


@dataclass(frozen=True)
class Placed:
    """A query with its place."""

    dashboard: str
    panel: Panel
    query: Query

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel.title} / {self.query.legend or 'all'}"


def every_query() -> Iterator[Placed]:
    """Each query of each panel of each dashboard."""
    for dashboard in dashboards():
        for panel in dashboard.panels():
            for query in panel.queries:
                yield Placed(dashboard.name, panel, query)


def filled(expression: str, values: Mapping[str, str]) -> str:
    """The expression with every variable replaced; an unknown one is an error."""

    def value(found: re.Match[str]) -> str:
        return {**EVERYTHING, **values}[found[1]]

    return re.sub(r"\$(\w+)", value, expression)
