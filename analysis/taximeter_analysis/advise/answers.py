"""Model calls that need not be: questions answered before, or nearly, and simple ones sent to a dear model.

*An answer cache*: the first question of a conversation (nothing said before it), asked again by anybody
of the same tenant. Questions with a history are refused: their answer depends on it. *Near
duplicates*: of those that it would not answer, the ones whose vector lies near an earlier question's. *A
cheaper model*: questions asked so often that they must be common ones, priced at the cheaper sibling's
rates. Whether such answers will do is for people to judge, so the last two are upper bounds.
"""

from __future__ import annotations

import time as clock
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache

from taximeter import pricing
from taximeter.signature import cosine
from taximeter_analysis.advise.curves import replay
from taximeter_analysis.advise.material import Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.render.units import count, money, percent

SIZE = 500
NEAR = 0.95  # cosine from which two questions may have one answer
_MAX_COMPARED = 1_500  # questions
#: prefix of a model's name -> a cheaper one of the same maker (November 2026); longer prefixes first
CHEAPER = {
    "gpt-4o-mini": None,
    "gpt-4o": "gpt-4o-mini",
    "gpt-5-mini": "gpt-5-nano",
    "gpt-5-nano": None,
    "gpt-5": "gpt-5-mini",
    "claude-sonnet": "claude-haiku-4-5",
    "claude-opus": "claude-sonnet-4-6",
}
_COMMON = 3  # times a question is asked to be a common one
_COMMON_SHARE = 0.05  # of the requests: for fewer nobody keeps a list of known questions
_MIN_HITS = 3
_MIN_SHARE = 0.03
_MIN_MONEY = 0.02  # of the route's


def find(material: Material) -> Iterator[Finding]:
    """Per route that asks a model."""
    asked = Counter(question for request in material.requests if (question := _question(request)))
    for (service, label), requests in material.by_route.items():
        asking = [request for request in requests if request.of("model") and not request.failed]
        if asking:
            able = [(request, text) for request in asking if (text := _opening(request))]
            yield from _again(material, service, label, asking, able)
            yield from _near(material, service, label, asking, able)
            yield from _cheaper(material, service, label, asking, asked)


def _question(request: Request) -> str | None:
    """The text that the request had embedded or looked up, normalised; None where it had several or none."""
    texts = {each.normalised for each in request.lookups if "embed" in each.cache.lower()}
    texts |= {text for call in request.of("embedding") for text in call.normalised}
    return texts.pop() if len(texts) == 1 else None


def _first(call: Call) -> bool:
    """Whether the prompt holds one message of the user and no answer: a conversation's beginning."""
    roles = [block.role for block in call.blocks if block.role not in "ts"]
    return bool(roles) and set(roles) == {"u"} and len(roles) == 1


def _opening(request: Request) -> str | None:
    """The question with which the request begins a conversation, if it does."""
    return _question(request) if all(_first(call) for call in request.of("model")) else None


def _again(
    material: Material,
    service: str | None,
    label: str,
    requests: list[Request],
    able: list[tuple[Request, str]],
) -> Iterator[Finding]:
    hits = replay(((r.start_ns / 1e9, r.instance, (r.tenant, question)) for r, question in able), SIZE)
    saved = [request for (request, _), hit in zip(able, hits, strict=True) if hit]
    if len(saved) < max(_MIN_HITS, _MIN_SHARE * len(requests)):
        return
    calls = [call for request in saved for call in request.of("model")]
    time = sum(call.duration_ns for call in calls) / 1e9
    cost = sum(call.cost_usd for call in calls)
    racing = _racing(able, hits) / len(saved)
    part, least = 1 - racing / 2, 1 - racing
    tenants: dict[str | None, float] = defaultdict(float)
    for request in saved:
        tenants[request.tenant] += 1
    yield Finding(
        kind="answer_cache",
        service=service,
        route=label,
        title="Questions that had been answered before go to the model again",
        what=f"{count(len(saved))} of {count(len(requests))} requests began a conversation with a "
        f"question that "
        f"the same tenant's guests had begun one with; {count(len(requests) - len(able))} have a history or "
        "no question that can be told, and are left out",
        remedy=f"Remember {SIZE} answers by tenant and normalised question, for conversations without a "
        f"history; "
        "drop them when what they are drawn from changes.",
        assumption="the answer to one guest will do for the next",
        requests=len(saved),
        savings={
            "model_calls": Estimate(
                part * len(calls), max(0.0, least * 0.85 * len(calls) - 1), 1.1 * len(calls) + 1
            ),
            "cost_usd": Estimate(cost * part, cost * 0.75 * least, cost * 1.25),
            "duration_s": Estimate(time * part, time * 0.7 * least, time * 1.2),
        },
        traces=tuple(request.trace for request in saved[:3]),
        code=material.place(calls[0]),
        tenants=shares(tenants),
    )


def _near(
    material: Material,
    service: str | None,
    label: str,
    requests: list[Request],
    able: list[tuple[Request, str]],
) -> Iterator[Finding]:
    seen: dict[str | None, dict[str, str]] = defaultdict(dict)  # tenant -> its questions' signatures
    saved = []
    compared = 0
    for request, text in able:
        known, signed = seen[request.tenant], material.signature(text)
        if signed is None or text in known or compared >= _MAX_COMPARED:
            continue
        compared += 1
        if any(cosine(signed, other) >= NEAR for other in known.values()):
            saved.append(request)
        known[text] = signed
    if len(saved) < max(_MIN_HITS, _MIN_SHARE * len(requests)):
        return
    calls = [call for request in saved for call in request.of("model")]
    time, cost = sum(call.duration_ns for call in calls) / 1e9, sum(call.cost_usd for call in calls)
    yield Finding(
        kind="near_duplicates",
        service=service,
        route=label,
        title="Questions that differ in words but hardly in meaning go to the model",
        what=f"{count(len(saved))} of {count(compared)} different questions have an earlier one of the same "
        f"tenant at a cosine of {NEAR} or more (estimated from signatures; off by 0.02 typically)",
        remedy="Look for the answer to a near question before the model is asked (a cache by similarity); "
        "the embedding is needed to look.",
        assumption="upper bound: that a near question has the same answer must be judged by a person",
        requests=len(saved),
        savings={
            "model_calls": Estimate(len(calls), 0, len(calls)),
            "cost_usd": Estimate(cost, 0, cost),
            "duration_s": Estimate(time, 0, time),
        },
        traces=tuple(request.trace for request in saved[:3]),
        code=material.place(calls[0]),
        tenants=shares(Counter(request.tenant for request in saved)),
        ceiling=True,
    )


def _racing(able: list[tuple[Request, str]], hits: list[bool]) -> int:
    """Hits that came while the first to ask still waited: there the answer may be there in time or not."""
    ends: dict[tuple[str | None, str | None, str], int] = {}
    racing = 0
    for (request, question), hit in zip(able, hits, strict=True):
        key = (request.instance, request.tenant, question)
        if hit:
            racing += request.start_ns < ends[key]
        else:
            ends[key] = request.start_ns + request.duration_ns
    return racing


@cache
def _book() -> pricing.PriceBook:
    return pricing.load()[0]


def _sibling(model: str | None) -> str | None:
    return next((CHEAPER[name] for name in CHEAPER if (model or "").startswith(name)), None)


def _cheaper(
    material: Material, service: str | None, label: str, requests: list[Request], asked: Counter[str]
) -> Iterator[Finding]:
    common = everything = spent = 0.0
    several: set[str] = set()
    simple: list[Request] = []
    for request in requests:
        for call in request.of("model"):
            spent += call.cost_usd
            other = _sibling(call.model)
            if other is None:
                continue
            usage = pricing.Usage(call.input_tokens, call.output_tokens, call.cached_tokens)
            price = _book().price(call.provider or "", [other], usage, clock.time())
            if price is None or price >= call.cost_usd:
                continue
            several.add(f"{call.model} to {other}")
            everything += call.cost_usd - price
            if asked[_question(request) or ""] >= _COMMON:
                common += call.cost_usd - price
                simple.append(request)
    if len(simple) < max(_COMMON, _COMMON_SHARE * len(requests)) or common < _MIN_MONEY * spent:
        return
    yield Finding(
        kind="cheaper_model",
        service=service,
        route=label,
        title="Common questions go to a dear model",
        what=f"{percent(len(simple) / len(requests))} of the requests ask what was asked {_COMMON} times "
        f"or more; "
        f"at the cheaper rates ({', '.join(sorted(several))}) they would cost {money(common)} less, "
        f"all requests {money(everything)}",
        remedy="Send what a rule or a list of known questions recognises to the cheaper model; compare "
        "its answers "
        "side by side first.",
        assumption="upper bound: as many tokens at the other model's rates, and answers that will do",
        requests=len(simple),
        savings={"cost_usd": Estimate(common, 0.0, everything)},
        traces=tuple(request.trace for request in simple[:3]),
        code=material.place(simple[0].of("model")[0]),
        tenants=shares(Counter(request.tenant for request in simple)),
        ceiling=True,
    )
