"""What an alert is, and what every one of them must have."""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_collector.prometheus import catalogue as c

PAGE = "critical"  # wakes somebody
TICKET = "warning"  # is looked at in working hours
SERVICE_TEAM = "service"  # who builds the service
PLATFORM_TEAM = "platform"  # who runs collector, Prometheus and Tempo
TEAMS = (SERVICE_TEAM, PLATFORM_TEAM)
HEARTBEAT = "none"  # always fires: silence is the alarm


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. ``summary`` and ``description`` are Prometheus templates."""

    name: str
    severity: str
    expr: str
    hold: str
    summary: str
    description: str
    dashboard: str
    """Uid of the dashboard that shows it, without the ``taximeter-`` prefix."""
    by: tuple[str, ...] = (c.JOB,)
    """Labels of the alert that the dashboard's link selects."""
    keep: str = "0s"
    traces: str = ""
    """TraceQL that finds the requests in question; labels as in a template."""
    empty_when_healthy: str = "nothing is wrong"


VARIABLES = {c.JOB: "job", c.ROUTE: "route", c.MODEL: "model", c.TENANT: "tenant", c.CACHE: "cache"}
"""Dashboard variable of each label that a link may select."""


def grown(counter: str, by: str, window: str) -> str:
    """A counter that rose within the window; a new series' first value is a rise that ``increase`` misses."""
    return (
        f"sum by ({by}) (increase({counter}[{window}])) > 0\n"
        f"or sum by ({by}) ({counter} unless {counter} offset {window}) > 0"
    )


def ref(label: str) -> str:
    """A label's value in a template."""
    return f"{{{{ $labels.{label} }}}}"


def encoded(label: str) -> str:
    """A label's value in the query part of a URL."""
    return f"{{{{ $labels.{label} | urlquery }}}}"
