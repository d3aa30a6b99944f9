"""What a dashboard is, before Grafana's JSON: rows of panels, each with queries, unit and advice.

Kept apart from the Grafana SDK so that tests, lint rules and ``taximeter verify`` can read the
queries without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["timeseries", "stat", "table", "bars"]
TAG = "taximeter"
PREFIX = "taximeter-"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression. ``$job``, ``$route`` and the like are the dashboard's variables."""

    expr: str
    legend: str = ""
    empty_when_healthy: str = ""
    """Why it has no data when all is well; empty: under load it must have some."""
    needs: str = ""
    """What else must run for it to have data: ``prometheus-postgres-exporter``, ``tempo``."""
    exemplars: bool = False
    """Show exemplars, which lead to traces; only where the expression reads a histogram's buckets."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold line, in the panel's unit. ``worse`` says which side of it is bad."""

    value: float
    source: str
    """Where it comes from, for the description: ``budget: defaults.latency_p95``, or the plan."""
    worse: Literal["above", "below"] = "above"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``description`` says what it shows and what to do when it looks wrong."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    limit: Limit | None = None
    width: int = 12
    height: int = 8
    stacked: bool = False
    decimals: int | None = None
    ends: tuple[float, float | None] = (0.0, None)
    """Of bars: where they begin and end; None: at the largest value."""
    units_by_column: dict[str, str] = field(default_factory=dict)
    """Of a table: column (a query's legend) to unit."""
    headings: dict[str, str] = field(default_factory=dict)
    """Of a table: label to heading."""
    sort_by: str = ""
    """Of a table: the column whose largest values stand on top."""
    see: tuple[str, ...] = ()
    """Names of the dashboards to go to next, without the prefix."""


@dataclass(frozen=True, slots=True)
class Row:
    """A headed group of panels."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of the dashboard, filled by ``label_values(metric, label)``."""

    name: str
    title: str
    metric: str
    label: str
    many: bool = True
    options: tuple[str, ...] = ()
    """Fixed choices in place of a query, the first one chosen."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard. Its uid is ``taximeter-`` and the name, which alert annotations link to."""

    name: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    since: str = "now-6h"

    @property
    def uid(self) -> str:
        return f"{PREFIX}{self.name}"

    def panels(self) -> Iterator[Panel]:
        """Every panel, in order."""
        for row in self.rows:
            yield from row.panels
