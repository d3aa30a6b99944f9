"""Routes whose guest waits for the whole answer of a model, and how much sooner the first words could come.

The wait until a model's first chunk is taken from streamed calls of the same model where there are any, else
worked out from how call times grow with the number of tokens. The whole answer takes as long as before.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator

from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.render.units import percent, seconds

_MIN_TOKENS = 20
_MIN_SHARE = 0.2  # of the time to the first byte
_MIN_S = 0.2
_MIN_CALLS = 5


def find(material: Material) -> Iterator[Finding]:
    """One finding per route that answers with a model's text, all at once."""
    streamed: dict[str | None, list[float]] = defaultdict(list)
    whole: dict[str | None, list[tuple[int, float]]] = defaultdict(list)
    for _, each in material.calls("model"):
        if each.first_chunk_s is not None:
            streamed[each.model].append(each.first_chunk_s)
        elif not each.failed and each.output_tokens:
            whole[each.model].append((each.output_tokens, each.duration_ns / 1e9))
    for (service, label), requests in material.by_route.items():
        waited = []
        for request in requests:
            call = _last_answer(request)
            if call is not None and (first := _first_chunk(call, streamed, whole)) is not None:
                gain = max(0.0, call.duration_ns / 1e9 - first) + max(0, _end(request) - call.end_ns) / 1e9
                waited.append((request, call, min(gain, request.duration_ns / 1e9)))
        if len(waited) >= _MIN_CALLS:
            yield from _finding(material, service, label, waited, bool(streamed[waited[0][1].model]))


def _end(request: Request) -> int:
    first = request.first_byte_s
    return request.start_ns + (request.duration_ns if first is None else round(first * 1e9))


def _last_answer(request: Request) -> Call | None:
    """The call whose answer the guest reads: a model's, not streamed, after which no other model is asked."""
    calls = request.of("model")
    if request.streamed or request.failed or not calls:
        return None
    last = calls[-1]
    waits = request.first_byte_s is None or _end(request) >= last.end_ns
    return last if waits and last.output_tokens >= _MIN_TOKENS and last.first_chunk_s is None else None


def _first_chunk(
    call: Call, streamed: dict[str | None, list[float]], whole: dict[str | None, list[tuple[int, float]]]
) -> float | None:
    if len(streamed[call.model]) >= _MIN_CALLS:
        return min(statistics.fmean(streamed[call.model]), call.duration_ns / 1e9)
    points = whole[call.model]
    if len(points) < 2 * _MIN_CALLS or len({tokens for tokens, _ in points}) < _MIN_CALLS:
        return None
    fit = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return max(0.0, min(fit.intercept, call.duration_ns / 1e9)) if fit.slope > 0 else None


def _finding(
    material: Material,
    service: str | None,
    label: str,
    waited: list[tuple[Request, Call, float]],
    known: bool,
) -> Iterator[Finding]:
    gain = sum(each for _, _, each in waited)
    before = sum((_end(request) - request.start_ns) / 1e9 for request, _, _ in waited)
    if gain < _MIN_SHARE * before or gain < _MIN_S * len(waited):
        return
    tenants: dict[str | None, float] = defaultdict(float)
    for request, _, each in waited:
        tenants[request.tenant] += each
    waited.sort(key=lambda each: -each[2])
    fuzzy = 0.12 if known else 0.3
    yield Finding(
        kind="streaming",
        service=service,
        route=label,
        title="The guest waits for the model's whole answer",
        what=f"first byte after {seconds(before / len(waited))}, of which {percent(gain / before)} pass "
        f"while the model "
        f"writes ({len(waited)} requests, {waited[0][1].model})",
        remedy="Stream the answer (`stream=True`, server-sent events), and do what is left to do, such "
        "as storing it, "
        "after the last piece.",
        assumption=(
            "the model's first chunk comes as soon as in its streamed calls"
            if known
            else "the model's first chunk comes when its time without a token would be over (a line through "
            "call times by tokens)"
        )
        + "; the whole takes as long as before",
        requests=len(waited),
        savings={"first_byte_s": Estimate(gain, gain * (1 - fuzzy), gain * (1 + fuzzy))},
        traces=tuple(request.trace for request, _, _ in waited[:3]),
        code=material.place(waited[0][1]),
        tenants=shares(tenants),
    )
