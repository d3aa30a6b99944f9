"""The faults that are rehearsed: how each is caused and ended, and what must arrive for it."""

from __future__ import annotations

from dataclasses import dataclass

from taximeter_collector.prometheus import catalogue as c

N_PLUS_ONE = "n-plus-one"


@dataclass(frozen=True)
class Fault:
    """``flag`` is switched in the running service; without one the collector is killed."""

    name: str
    alert: str
    flag: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    """What the alert must be about."""


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            N_PLUS_ONE,
            "TaximeterRepeatedStatements",
            "fault.n_plus_one_rooms",
            ((c.ROUTE, "/hotels/{hotel}/rooms"),),
        ),
        Fault("cost-spike", "TaximeterCostSpike", "fault.long_prompts", ((c.MODEL, "gpt-4o"),)),
        Fault("cold-cache", "TaximeterCacheHitRateDropped", "fault.cold_cache", ((c.CACHE, "embedding"),)),
        Fault("errors", "TaximeterErrorBudgetBurn", "fault.errors"),
        Fault("collector-killed", "TaximeterCollectorDown"),
    )
}
