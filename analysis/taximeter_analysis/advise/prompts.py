"""Prompts: the part that is the same each time, and what the provider's cache could have read of it.

Blocks are a chain of hashes, so two prompts share what lies before the first block that differs. Where the
blocks after it have the same sizes in every variant, what differs is likely a name in an otherwise equal
text: put last, it would let all variants share one cached prefix. Prices come from the table of `taximeter
prices`; minimum and time to live are dated data (November 2026).
"""

from __future__ import annotations

import time as clock
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from taximeter import pricing
from taximeter_analysis.advise.material import Block, Call, Material, Request
from taximeter_analysis.advise.model import Estimate, Finding, shares
from taximeter_analysis.render.units import compact, count, money, percent

#: provider -> shortest prefix that is cached, the steps it grows in (tokens), how long unused ones live (s)
CACHING = {"openai": (1024, 128, 300.0), "anthropic": (1024, 1, 300.0)}
_USUAL = (1024, 1, 300.0)
_MIN_SAVED = 0.01  # of the route's money
_LONG_SHARE = 0.4  # of the input tokens
_LONG_TOKENS = 700  # a page of text: what is shorter has hardly a half that could go
_MIN_CALLS = 10
_FORK = 0.2  # of the calls: so many different continuations end what is the same
_INSTRUCTIONS = "ts"  # tools and system


@dataclass(slots=True)
class _Sent:
    request: Request
    call: Call
    scale: float  # tokens as billed / tokens as estimated from bytes

    def tokens(self, blocks: Sequence[Block]) -> float:
        return sum(block.tokens for block in blocks) * self.scale

    @property
    def head(self) -> tuple[Block, ...]:
        """The instructions: the blocks before the first message."""
        found = []
        for block in self.call.blocks:
            if block.role not in _INSTRUCTIONS:
                break
            found.append(block)
        return tuple(found)


class _Rates(NamedTuple):
    """USD per input token: fresh, read from the cache, and fresh with a mark (which writes to the cache)."""

    plain: float
    read: float
    marked: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """The calls of one route to one model."""

    service: str | None
    label: str
    model: str
    code: str
    sent: list[_Sent]
    rates: _Rates


def find(material: Material) -> Iterator[Finding]:
    """Per route and model: a prefix that could be shared, then instructions that weigh much."""
    groups: dict[tuple[str | None, str, str], list[_Sent]] = defaultdict(list)
    for request, call in material.calls("model"):
        estimated = sum(block.tokens for block in call.blocks)
        if estimated and call.input_tokens and call.model:
            groups[request.service, request.label, call.model].append(
                _Sent(request, call, call.input_tokens / estimated)
            )
    for (service, label, model), sent in groups.items():
        if len(sent) < _MIN_CALLS:
            continue
        rates = _rates(sent[0].call.provider or "", model)
        if rates is None:
            continue
        kind = _Kind(service, label, model, material.place(sent[0].call), sent, rates)
        yield from _missed(kind)
        yield from _long(kind)


@cache
def _book() -> pricing.PriceBook:
    return pricing.load()[0]


@cache
def _rates(provider: str, model: str) -> _Rates | None:
    """None where unknown."""

    def cost(usage: pricing.Usage) -> float | None:
        return _book().quote(provider, [model], usage, when=clock.time()).cost

    plain, read = cost(pricing.Usage(input=1000)), cost(pricing.Usage(input=1000, cache_read=1000))
    written = cost(pricing.Usage(input=1000, cache_write=1000))
    if plain is None or read is None:
        return None
    return _Rates(plain / 1000, read / 1000, (plain if written is None else written) / 1000)


def _missed(kind: _Kind) -> Iterator[Finding]:
    sent, rates, model = kind.sent, kind.rates, kind.model
    minimum, step, ttl = CACHING.get(sent[0].call.provider or "", _USUAL)
    variants = _variants(sent)
    if variants is None:
        return
    at, heads = variants
    cost = 0.0
    tenants: dict[str | None, float] = defaultdict(float)
    last = float("-inf")
    for each in sent:
        shared = each.tokens([block for index, block in enumerate(each.head) if index != at])
        now = each.request.start_ns / 1e9
        warm, last = now - last < ttl, now
        if not warm or shared < minimum:
            continue
        more = max(0.0, minimum + (shared - minimum) // step * step - each.call.cached_tokens)
        marked = any(block.marked for block in each.head)
        cost += more * ((rates.marked if marked else rates.plain) - rates.read)
        tenants[each.request.tenant] += more
    spent = sum(each.call.cost_usd for each in sent)
    if cost < _MIN_SAVED * spent:
        return
    block = heads[0][at]
    before = sum(each.tokens for each in heads[0][:at])
    yield Finding(
        kind="prompt_cache",
        service=kind.service,
        route=kind.label,
        title=f"{model}: the prompt's beginning differs, so its cache is shared by few",
        what=f"{len(heads)} variants of the instructions; the first block that differs is number {at + 1} "
        f"({block.role}"
        f"{block.tokens}, after {before} estimated tokens), and all blocks behind it are of equal size. "
        f"{compact(sum(each.call.cached_tokens for each in sent))} of "
        f"{compact(sum(each.call.input_tokens for each in sent))} input tokens were read from the cache.",
        remedy="Put what differs (a name, a date) behind what is the same, and mark the end of the "
        "common part "
        "where the provider wants a mark (Anthropic: cache_control).",
        assumption=f"the text behind the differing block is the same in all variants; prefixes live "
        f"{ttl:.0f} s, "
        f"shortest {minimum} tokens; a cached token costs {percent(rates.read / rates.plain)} of a fresh one",
        requests=len({each.request.trace for each in sent}),
        savings={"cost_usd": Estimate(cost, 0.0, cost * 1.15)},
        traces=tuple(each.request.trace for each in sent if not each.call.cached_tokens)[:3],
        code=kind.code,
        tenants=shares(tenants),
    )


def _fixed(sent: list[_Sent]) -> list[tuple[Block, ...]]:
    """Of each call, the instructions that are the same each time.

    They end at the last block that is followed by many different ones: what comes behind it, such as
    texts found for one question, is the call's own even where the question was asked twice.
    """
    calls: Counter[str] = Counter()
    following: dict[str, set[str]] = defaultdict(set)
    for each in sent:
        chains = [block.chain for block in each.call.blocks]
        calls.update(chains)
        for chain, after in zip(chains, [*chains[1:], ""], strict=True):
            following[chain].add(after)
    found = []
    for each in sent:
        ends = [
            index + 1
            for index, block in enumerate(each.head)
            if len(following[block.chain]) >= max(2, _FORK * calls[block.chain])
        ]
        found.append(each.head[: max(ends, default=0)])
    return found


def _variants(sent: list[_Sent]) -> tuple[int, list[tuple[Block, ...]]] | None:
    """Where the instructions of different calls first differ, and one of each kind; None: nothing to move."""
    heads = {head[-1].chain: head for head in _fixed(sent) if head}
    kinds = list(heads.values())
    if len(kinds) < 2:
        return None
    length = min(map(len, kinds))
    at = next((i for i in range(length) if len({head[i].chain for head in kinds}) > 1), None)
    if at is None or at + 1 >= length:
        return None
    sizes = {tuple(block.tokens for block in head[at + 1 : length - 1]) for head in kinds}
    return (at, kinds) if len(sizes) == 1 else None


def _long(kind: _Kind) -> Iterator[Finding]:
    sent, rates, model = kind.sent, kind.rates, kind.model
    fixed = [each.tokens(head) for each, head in zip(sent, _fixed(sent), strict=True)]
    whole = sum(each.call.input_tokens for each in sent)
    if sum(fixed) < max(_LONG_SHARE * whole, _LONG_TOKENS * len(sent)):
        return
    minimum = CACHING.get(sent[0].call.provider or "", _USUAL)[0]

    def spent(kept: float) -> float:
        """What the input would cost with this share of the instructions kept."""
        found = 0.0
        for each, instructions in zip(sent, fixed, strict=True):
            size = each.call.input_tokens - (1 - kept) * instructions
            cached = max(0.0, each.call.cached_tokens - (1 - kept) * instructions)
            cached = cached if size >= minimum else 0.0  # too short a prompt is not cached at all
            found += size * rates.plain - cached * (rates.plain - rates.read)
        return found

    less = {share: spent(1) - spent(1 - share) for share in (0.25, 0.5, 0.75)}
    tokens, cost = sum(fixed), spent(1) - spent(0)
    yield Finding(
        kind="long_prompt",
        service=kind.service,
        route=kind.label,
        title=f"{model}: {percent(tokens / whole)} of the input are the same instructions each time",
        what=f"{count(tokens / len(sent))} tokens a call, {money(cost)} of "
        f"{money(sum(e.call.cost_usd for e in sent))} "
        f"in {count(len(sent))} calls, the provider's cache counted",
        remedy="Shorten the instructions; send rules only to the calls that need them. Judge the answers "
        "side by "
        "side before all guests get them.",
        assumption="half of the instructions can go (bounds: a quarter, three quarters); a prompt below "
        "the provider's "
        f"minimum of {minimum} tokens is not cached, and its tokens cost full price",
        requests=len({each.request.trace for each in sent}),
        savings={
            "input_tokens": Estimate(tokens / 2, tokens / 4, tokens * 3 / 4),
            "cost_usd": Estimate(less[0.5], min(less.values()), max(less.values())),
        },
        traces=tuple(each.request.trace for each in sent[:3]),
        code=kind.code,
        tenants=shares(Counter(each.request.tenant for each in sent)),
        ceiling=True,
    )
