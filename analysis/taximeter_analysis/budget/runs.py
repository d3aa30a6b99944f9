"""One side of a check: a report, or those of several runs of the same thing, put together by route."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from taximeter_analysis.budget.judge import together
from taximeter_analysis.model import Report, Route, Usage

Key = tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class Runs:
    """Reports of one side, one or more."""

    reports: tuple[Report, ...]

    @classmethod
    def of(cls, found: Report | Sequence[Report]) -> Runs:
        """A side from what a caller has.

        Raises:
            ValueError: no report at all.
        """
        reports = (found,) if isinstance(found, Report) else tuple(found)
        if not reports:
            raise ValueError("no report to check; give at least one run")
        return cls(reports)

    @property
    def name(self) -> str:
        """Where they come from."""
        return ", ".join(report.store for report in self.reports)

    @property
    def services(self) -> set[str]:
        """All service names."""
        return {service for report in self.reports for service in report.services}

    @property
    def totals(self) -> Usage:
        """All requests of all runs."""
        return together([report.totals for report in self.reports])

    @property
    def outside_cost_usd(self) -> float:
        """Money spent outside of requests."""
        return math.fsum(report.totals_from_spans.outside_cost_usd for report in self.reports)

    @property
    def observed_s(self) -> float:
        """Time that was seen, of all runs together."""
        return math.fsum(report.window.observed_s for report in self.reports)

    def routes(self) -> dict[Key, list[Route]]:
        """Each route in every run that has it."""
        found: dict[Key, list[Route]] = {}
        for report in self.reports:
            for route in report.routes:
                found.setdefault((route.service, route.method, route.route), []).append(route)
        return found

    def tenants(self) -> dict[str, Usage]:
        """What each named tenant caused."""
        found: dict[str, list[Usage]] = {}
        for report in self.reports:
            for item in report.tenants:
                if item.tenant is not None:
                    found.setdefault(item.tenant, []).append(item.usage)
        return {tenant: together(usages) for tenant, usages in found.items()}
