"""Model calls that are paid or waited for twice.

*Asked twice*: a request sends the same prompt to the same model again although it has been answered (a
retry around the SDK's own, a validation that asks anew). Both answers are paid. *Retried*: attempts
of the SDK beyond the first; they cost waiting, and money only where the provider had begun to answer.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator

from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.render.units import count, money, percent

_MIN_SHARE = 0.03  # of calls retried
_MIN_RETRIED = 5


def find(material: Material) -> Iterator[Finding]:
    """Per route, what was asked twice; per model, how often attempts failed."""
    for (service, label), requests in material.by_route.items():
        again = [(request, twice) for request in requests for twice in _twice(request)]
        if again:
            yield _asked_twice(material, service, label, again)
    by_model: dict[tuple[str | None, str | None], list[tuple[Request, Call]]] = defaultdict(list)
    for request, call in material.calls("model", "embedding"):
        by_model[request.service, call.model].append((request, call))
    for (service, model), calls in by_model.items():
        retried = [(request, call) for request, call in calls if call.attempts > 1]
        if len(retried) >= max(_MIN_RETRIED, _MIN_SHARE * len(calls)):
            yield _retried(material, service, model, calls, retried)


def _twice(request: Request) -> list[Call]:
    """Calls whose very prompt the request had asked before, save the last of each."""
    groups: dict[tuple[str | None, str], list[Call]] = defaultdict(list)
    for call in request.of("model"):
        if call.blocks:
            groups[call.model, call.blocks[-1].chain].append(call)
    return [call for group in groups.values() for call in group[:-1]]


def _asked_twice(
    material: Material, service: str | None, label: str, again: list[tuple[Request, Call]]
) -> Finding:
    cost = sum(call.cost_usd for _, call in again)
    time = sum(call.duration_ns for _, call in again) / 1e9
    tenants: dict[str | None, float] = defaultdict(float)
    for request, call in again:
        tenants[request.tenant] += call.cost_usd or call.duration_ns
    return Finding(
        kind="asked_twice",
        service=service,
        route=label,
        title="The same prompt is sent to the model again within a request",
        what=f"{count(len(again))} call(s) in {len({request.trace for request, _ in again})} request(s), "
        f"{money(cost)} for answers that were thrown away or asked for again",
        remedy="Ask once. Where the answer is checked, mend it or change the prompt; let the SDK alone "
        "retry.",
        assumption="the first answer would have done",
        requests=len({request.trace for request, _ in again}),
        savings={
            "model_calls": Estimate(len(again), len(again), len(again)),
            "cost_usd": Estimate(cost, cost * 0.8, cost * 1.2),
            "duration_s": Estimate(time, time * 0.7, time * 1.2),
        },
        traces=tuple(dict.fromkeys(request.trace for request, _ in again))[:3],
        code=material.place(again[0][1]),
        tenants=shares(tenants),
    )


def _retried(
    material: Material,
    service: str | None,
    model: str | None,
    calls: list[tuple[Request, Call]],
    retried: list[tuple[Request, Call]],
) -> Finding:
    usual = [call.duration_ns for _, call in calls if call.attempts == 1]
    typical = statistics.median(usual) if usual else 0.0
    lost = sum(max(0.0, call.duration_ns - typical) for _, call in retried) / 1e9
    extra = sum(call.attempts - 1 for _, call in retried)
    most = max(lost, sum(call.duration_ns for _, call in retried) / 1e9)
    return Finding(
        kind="retries",
        service=service,
        route=None,
        title=f"{model}: {percent(len(retried) / len(calls))} of the calls needed more than one attempt",
        what=f"{count(extra)} attempts beyond the first in {count(len(calls))} calls",
        remedy="See in the provider's log why they fail (rate limit: share one limit over all workers; "
        "time-out: longer).",
        assumption="a call without a retry takes as long as the others; failed attempts are not charged "
        "by the "
        "provider, save those that timed out at our end",
        requests=len({request.trace for request, _ in retried}),
        savings={"duration_s": Estimate(lost, 0.0, most)},
        traces=tuple(dict.fromkeys(request.trace for request, _ in retried))[:3],
        code=material.place(retried[0][1]),
        ceiling=True,
    )
