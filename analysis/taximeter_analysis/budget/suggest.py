"""Writes a first budget from what was measured: the same service keeps it, one query more breaks it.

A count's limit is its mean plus headroom plus what another sample of the same traffic may differ by,
but never so much that one call more per request would fit; where the requests differ too much among
themselves for that, there is no limit and the file says how many requests would do. Latency gets its
upper confidence bound first, so that the baseline's own chance is not mistaken for room.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from taximeter_analysis.budget.judge import enough_for
from taximeter_analysis.budget.model import LIMITS, VERSION, Spec
from taximeter_analysis.model import Report, Route

HEADROOM = 0.05
#: Tokens and money follow what people ask, and requests of one conversation resemble each other: other
#: traffic differs by more than the spread over requests tells.
TRAFFIC_HEADROOM = 0.2
LATENCY_HEADROOM = 0.2
_MOST_CALLS = 0.5
_SIGMAS = 3.0 * math.sqrt(2)  # both the baseline's mean and the checked one vary
_SPARE = 1.5  # the checked run may have less traffic than the baseline
_LEAST_ERROR_RATE = 0.01
_GATED = ("db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens", "cost")
_COLUMN = {"cost": "cost_usd"}


def suggest(
    found: Report,
    headroom: float = HEADROOM,
    latency_headroom: float = LATENCY_HEADROOM,
    *,
    replay: bool = False,
) -> str:
    """The text of a ``budget.yaml`` that this report keeps.

    ``replay``: the checked runs send these very requests again, so that no room for others is needed.
    """
    named = [route for route in found.routes if route.route is not None and route.method is not None]
    tests = _tests(named)
    allowed = _up(max(_LEAST_ERROR_RATE, 2 * (found.error_rate or 0.0)), 2)
    lines = [
        "# A first budget, from what was measured: read it, and change what you know better.",
        "# yaml-language-server: $schema=budget.schema.json",
        f"# headroom: counts {headroom:.0%}, at most {_MOST_CALLS:g} calls; tokens and money "
        f"{headroom if replay else max(headroom, TRAFFIC_HEADROOM):.0%}; "
        f"latency {latency_headroom:.0%} over its upper 95 % bound.",
        f"version: {VERSION}",
    ]
    if allowed < 1 and found.totals.requests >= enough_for(1 - allowed, tests):
        lines += ["total:", f"  error_rate: {_plain(allowed)}"]
    lines.append("routes:" if named else "routes: []  # no request of a named route was measured")
    for route in named:
        limits = [
            *_latency(route, tests, latency_headroom),
            *_counts(route, headroom, replay=replay),
        ]
        head = [f"- match: {_quoted(route.label)}"]
        if len(found.services) > 1 and route.service:
            head.append(f"  service: {_quoted(route.service)}")
        empty = all(limit.startswith("#") for limit in limits)
        lines += [f"  {'# ' if empty else ''}{text}" for text in (*head, *(f"  {limit}" for limit in limits))]
    if named and not any(line.startswith("  - ") for line in lines):
        lines[lines.index("routes:")] = "routes: []"
    return "\n".join(lines) + "\n"


def _tests(routes: Sequence[Route]) -> int:
    """How many limits with chance in them fit: each one more makes all of them need more requests."""
    counts = sorted((route.latency.count for route in routes), reverse=True)
    return 1 + sum(count >= _SPARE * enough_for(0.95, place + 2) for place, count in enumerate(counts))


def _counts(route: Route, headroom: float, *, replay: bool) -> Iterator[str]:
    for name in _GATED:
        total = getattr(route.usage, _COLUMN.get(name, name))
        if total is None or (total == 0 and name in ("cost", "input_tokens", "output_tokens")):
            continue
        deviation = 0.0 if replay else getattr(route.spread, _COLUMN.get(name, name))
        spec = LIMITS[name]
        room = headroom if replay or spec.unit == "count" else max(headroom, TRAFFIC_HEADROOM)
        yield _count(spec, total / route.usage.requests, deviation, route, room)


def _latency(route: Route, tests: int, headroom: float) -> Iterator[str]:
    sample = next((item for item in route.ranked if item.q == LIMITS["latency_p95"].q), None)
    needs = math.ceil(_SPARE * enough_for(0.95, tests))
    if sample is not None and sample.high is not None and sample.count >= needs:
        yield f"latency_p95: {_up(sample.high * (1 + headroom) * 1e3, 2):g}ms"
    else:
        yield f"# no latency_p95: {route.latency.count} requests, a bound needs {needs}"


def _count(spec: Spec, mean: float, deviation: float | None, route: Route, headroom: float) -> str:
    requests = route.usage.requests
    if deviation is None:
        return f"# no {spec.name}: one request tells nothing of the others"
    chance = _SIGMAS * deviation / math.sqrt(requests)
    if spec.unit != "count":
        return f"{spec.name}: {_plain(_up(mean + max(mean * headroom, chance), 4))}"
    if chance > _MOST_CALLS:
        needs = math.ceil((_SIGMAS * deviation / _MOST_CALLS) ** 2)
        return f"# no {spec.name}: {mean:.3g} ± {deviation:.2g} over {requests} requests; needs {needs}"
    # rounded up to hundredths, but never so far that one call more would fit
    room = min(max(mean * headroom, chance), _MOST_CALLS)
    return f"{spec.name}: {math.ceil(round((mean + room) * 100, 6)) / 100:g}"


def _up(value: float, figures: int) -> float:
    """The value rounded up to so many significant figures."""
    if value <= 0:
        return 0.0
    scale = 10.0 ** (figures - 1 - math.floor(math.log10(value)))
    return math.ceil(round(value * scale, 6)) / scale


def _plain(value: float) -> str:
    """Without an exponent, which YAML would read as text."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    """A double-quoted YAML string; characters that shell patterns read are left as wildcards."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in text)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'
