"""What is worth saying: findings that save a stated share, ranked by what they save.

Whoever reads advice has a day for it, not a month: a read that takes three of a thousand milliseconds is no
finding, however true. What is left out is counted, with its reason, so that nothing vanishes in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from taximeter_analysis.advise.model import Finding
from taximeter_analysis.render.units import percent

OF_ALL = 0.02  # of the service's time or money
OF_ROUTE = 0.05  # of the time, the time to the first byte or the calls of its route
_OF_ROUTE = ("duration_s", "first_byte_s", "db_calls", "embedding_calls", "model_calls")
#: Signs of trouble that other requests, or later ones, pay for: said whatever they save.
ALWAYS = frozenset({"retries", "transaction_held"})

Totals = Mapping[str, float]


def too_little(finding: Finding, all_of_it: Totals, of_route: Totals) -> str:
    """Why a finding is not worth saying; "" where it is. ``of_route``: all, for one about no single route."""
    if finding.kind in ALWAYS:
        return ""
    for name, scope, floor in (
        *(("duration_s", all_of_it, OF_ALL), ("cost_usd", all_of_it, OF_ALL)),
        *((name, of_route, OF_ROUTE) for name in _OF_ROUTE),
    ):
        saved = finding.savings.get(name)
        if saved and scope[name] and saved.value >= floor * scope[name]:
            return ""
    return f"saves less than {percent(OF_ALL)} of all time and money, and {percent(OF_ROUTE)} of its route's"


def worth(finding: Finding, totals: Totals) -> float:
    """Shares of all money and all time saved, added up; an upper bound counts for half its middle."""
    found = 0.0
    for name, weight in (("cost_usd", 1.0), ("duration_s", 1.0), ("first_byte_s", 0.5), ("db_calls", 0.1)):
        estimate = finding.savings.get(name)
        if estimate and totals[name]:
            value = (estimate.low + estimate.value) / 2 if finding.ceiling else estimate.value
            found += weight * value / totals[name]
    return found
