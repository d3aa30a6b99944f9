"""Embedding calls that need not be: the same text again, or the same but for spelling.

Where the service reports lookups in its cache (`taximeter.record_cache(..., key=...)`), the stream of
lookups is replayed, so hits of today's cache count; else the stream is that of the inputs embedded. The
finding says what a cache keyed by normalised text would have hit at the size that is worth it, and the
ceiling that no size goes beyond: the first time a text comes, it must be embedded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from taximeter_analysis.advise.curves import Curve, curve, replay
from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.render.units import count, percent

TARGET = 0.8
_MIN_SAVED = 0.05  # of the calls: less is not worth a change
_SHARED = " {} instances: a cache they share would also spare the first call of each."
_ENOUGH = 0.005  # a size that comes this near to the ceiling is as good as a larger one


@dataclass(slots=True)
class _Use:
    """One text that was wanted: found in a cache (``call`` is None) or embedded."""

    request: Request
    exact: str
    normalised: str
    call: Call | None
    share: float = 1.0  # of the call, where that had several inputs


def find(material: Material) -> Iterator[Finding]:
    """Per service: a cache, or a better one."""
    for service in dict.fromkeys(request.service for request in material.requests):
        uses = _uses([request for request in material.requests if request.service == service])
        if not any(use.call for use in uses):
            continue
        found = _cache(material, service, uses)
        if found:
            yield found


def _uses(requests: list[Request]) -> list[_Use]:
    """What was wanted, in order of time; a lookup that missed and the call that followed are one."""
    uses = []
    for request in requests:
        calls = {}
        for call in request.of("embedding"):
            for exact, normal in zip(call.exact, call.normalised, strict=False):
                calls[exact] = (normal, call)
        caches = {each.cache for each in request.lookups if not each.hit and each.exact in calls}
        caches |= {each.cache for each in request.lookups if each.hit and "embed" in each.cache.lower()}
        for each in request.lookups:
            if each.cache in caches:
                _, made = calls.pop(each.exact, (None, None))
                uses.append(_Use(request, each.exact, each.normalised, made, _share(made)))
        uses += [_Use(request, exact, normal, call, _share(call)) for exact, (normal, call) in calls.items()]
    return uses


def stream_curve(requests: list[Request]) -> Curve:
    """The hit-rate curve of all texts wanted, by normalised key."""
    return curve([use.normalised for use in _uses(requests) if use.exact])


def _share(call: Call | None) -> float:
    return 1 / max(1, len(call.exact)) if call else 1.0


def _cache(material: Material, service: str | None, uses: list[_Use]) -> Finding | None:
    stream = [use for use in uses if use.exact]
    exact, normal = curve([use.exact for use in stream]), curve([use.normalised for use in stream])
    size = _size(normal)
    made = [use for use in stream if use.call]
    # Each instance has a cache of its own, as today.
    hits = replay(
        [(use.request.start_ns / 1e9, use.request.instance, use.normalised) for use in stream], size
    )
    calls = time = cost = racing = 0.0
    tenants: dict[str | None, float] = defaultdict(float)
    pending: dict[str, int] = {}
    again: list[str] = []
    for use, hit in zip(stream, hits, strict=True):
        if use.call is None:
            continue
        begun = pending.setdefault(use.normalised, use.call.end_ns)
        if not hit:
            continue
        calls += use.share
        racing += use.share * (use.call.start_ns < begun)  # another request was still asking for the same
        time += use.share * use.call.duration_ns / 1e9
        cost += use.share * use.call.cost_usd
        tenants[use.request.tenant] += use.share
        again.append(use.request.trace)
    if calls < max(1.0, _MIN_SAVED * len(made)):
        return None
    today = 1 - len(made) / len(stream)
    reached = sum(hits) / len(hits)
    instances = len({use.request.instance for use in stream})
    fuzzy = 0.03 * calls + 1  # what the order of concurrent requests can change
    part = 1 - racing / calls / 2
    return Finding(
        kind="embedding_cache",
        service=service,
        route=None,
        title="Texts are embedded again that were embedded before",
        what=(
            f"{count(len(stream))} texts wanted, {count(len(made))} embedded (hit rate {percent(today)}). "
            f"{count(normal.different)} are different once spelling is normalised, "
            f"{count(exact.different)} as they were typed. {_curve_text(normal, exact)}"
        ),
        remedy=f"Keep {count(size)} vectors, least recently used out first, keyed by the text in lower case, "
        "without the spaces and marks around it (docs/evidence.md says exactly how)."
        + (_SHARED.format(instances) if instances > 1 else ""),
        assumption=f"traffic repeats itself as it did; hit rate {percent(reached)} by replay of each lookup",
        requests=len({use.request.trace for use in made}),
        savings={
            "embedding_calls": Estimate(calls * part, max(0.0, calls - racing - fuzzy), calls + fuzzy),
            "duration_s": Estimate(time * part, time * 0.8 * part, time * 1.2),
            **({"cost_usd": Estimate(cost * part, cost * 0.9 * part, cost * 1.1)} if cost else {}),
        },
        traces=tuple(again)[:3],
        code=material.place(made[0].call) if made[0].call else "",
        tenants=shares(tenants),
    )


def _size(found: Curve) -> int:
    """The size worth having: the least that comes near the ceiling, rounded up to a round number."""
    enough = found.size_for(max(0.0, found.ceiling - _ENOUGH)) or 1
    step = 10 ** max(1, len(str(enough)) - 1)
    return int(-(-enough // step) * step)


def _curve_text(normal: Curve, exact: Curve) -> str:
    points = ", ".join(
        f"{size}: {percent(normal.rate(size))}"
        for size in (50, 100, 200, 500, 1000, 5000)
        if size < 2 * normal.different
    )
    goal = normal.size_for(TARGET)
    reaches = (
        f"no size reaches {percent(TARGET)}: the ceiling is {percent(normal.ceiling)}"
        if goal is None
        else f"{count(goal)} entries reach {percent(TARGET)}; the ceiling is {percent(normal.ceiling)}"
    )
    return f"Hit rate by size, normalised keys: {points}; {reaches} ({percent(exact.ceiling)} with raw keys)."
