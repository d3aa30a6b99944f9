"""Why a row differs, as far as the figures themselves show it.

Each rule is a small test on numbers; it speaks only when the numbers fit. What no rule fits is said to
be unexplained, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from taximeter_analysis.reconcile.exports import ALL
from taximeter_analysis.reconcile.model import Key, Side
from taximeter_analysis.reconcile.ours import Seen
from taximeter_analysis.render.units import clock, count

if TYPE_CHECKING:
    from taximeter_analysis.reconcile.match import Pair

_COUNTS = ("requests", "input_tokens", "output_tokens")
_CLOSE = 0.002
OFFSETS = tuple(half / 2 for half in range(-24, 29) if half)


@dataclass(frozen=True)
class Context:
    """All rows, and what they were made from."""

    pairs: Mapping[Key, Pair]
    theirs: Mapping[Key, Side]
    told: Mapping[tuple[str, date], set[str]]
    seen: Seen
    tolerance: float
    now: float


def row(key: Key, found: Pair, differing: tuple[str, ...], context: Context) -> list[str]:
    """What explains this row; a differing row has at least one sentence."""
    told = list(_alias(found))
    if not differing:
        return told
    reasons = [
        *_coverage(key, context),
        *_one_side(found),
        *_batch(found),
        *_cached(found),
        *_unpriced(key, found, differing),
        *_midnight(key, found, differing, context),
        *_rates(key, found, differing, context),
    ]
    if not reasons:
        reasons = list(_others(found)) or ["unexplained: no rule fits these figures"]
    return told + reasons


def _alias(found: Pair) -> Iterator[str]:
    ours, theirs = found.ours.names, found.theirs.names
    if ours and theirs and ours != theirs:
        one, two = ", ".join(sorted(ours)), ", ".join(sorted(theirs))
        yield f"Taximeter says {one}, the provider {two}: taken as one model"


def _coverage(key: Key, context: Context) -> Iterator[str]:
    first, last = context.seen.first, context.seen.last
    begin = datetime(key[1].year, key[1].month, key[1].day, tzinfo=UTC)
    start, end = begin.timestamp(), (begin + timedelta(days=1)).timestamp()
    if first is None or last is None or last < start or first >= end:
        yield "the store holds nothing of this day"
    elif first > start + 60:
        at = clock(first, date=False)
        yield f"the store begins on this day at {at} UTC: earlier calls are the provider's only"
    if start <= context.now < end:
        yield "this day is not over, and exports lag behind by minutes to hours"


def _one_side(found: Pair) -> Iterator[str]:
    ours, theirs = found.ours.figures, found.theirs.figures
    if ours.nothing and not theirs.nothing:
        yield "Taximeter saw no such call: other API keys, services or tools of the same organization"
    elif theirs.nothing and not ours.nothing:
        yield (
            "the export has none: another organization's key, a gateway or host that bills by itself, or an "
            "export that is not complete yet"
        )


def _gap(found: Pair, name: str) -> float:
    return (getattr(found.theirs.figures, name) or 0.0) - (getattr(found.ours.figures, name) or 0.0)


def _near(one: float, two: float) -> bool:
    return abs(one - two) <= _CLOSE * max(abs(one), abs(two), 1e-9)


def _batch(found: Pair) -> Iterator[str]:
    batch = found.theirs.batch
    gap = _gap(found, "input_tokens")
    if batch.input_tokens and gap > 0 and _near(gap, batch.input_tokens):
        requests = f"{count(batch.requests)} request(s), " if batch.requests else ""
        yield (
            f"the batch tier: {requests}{count(batch.input_tokens)} input tokens came through the batch API, "
            "which no request of the service waits for"
        )


def _cached(found: Pair) -> Iterator[str]:
    gap = _gap(found, "input_tokens")
    if not gap:
        return
    read = found.ours.figures.cached_tokens or 0.0
    for tokens, what in ((read, "read from"), (found.ours.cache_written, "written to"),
                         (read + found.ours.cache_written, "read from and written to")):  # fmt: skip
        if tokens and _near(abs(gap), tokens):
            side = "leaves out" if gap < 0 else "counts twice, or Taximeter leaves out,"
            yield f"cached tokens: the provider's input {side} the {count(tokens)} tokens {what} its cache"
            return


def _unpriced(key: Key, found: Pair, differing: tuple[str, ...]) -> Iterator[str]:
    if "cost_usd" in differing and found.ours.unpriced and _gap(found, "cost_usd") > 0:
        yield (
            f"{found.ours.unpriced} call(s) have no price in Taximeter: `taximeter prices {key[2]}` says "
            "why, and TAXIMETER_PRICES names a file of your own"
        )


def _midnight(key: Key, found: Pair, differing: tuple[str, ...], context: Context) -> Iterator[str]:
    """A day's surplus is the neighbour's lack: calls counted on the other side of midnight."""
    provider, day, model = key
    for near, word in ((day - timedelta(days=1), "before"), (day + timedelta(days=1), "after")):
        other = context.pairs.get((provider, near, model))
        names = [name for name in _COUNTS if name in differing]
        if other is not None and names and all(_cancels(_gap(found, n), _gap(other, n)) for n in names):
            much = f"{count(abs(_gap(found, names[0])))} {names[0].replace('_', ' ')}"
            yield (
                f"the day's boundary: the day {word} differs by as much the other way ({much}): calls around "
                "midnight UTC, or an export cut in another time zone"
            )


def _cancels(one: float, two: float) -> bool:
    return bool(one) and one * two < 0 and _near(abs(one), abs(two))


def _rates(key: Key, found: Pair, differing: tuple[str, ...], context: Context) -> Iterator[str]:
    ours, theirs = found.ours.figures.cost_usd, found.theirs.figures.cost_usd
    if set(differing) != {"cost_usd"} or not ours or not theirs or found.ours.unpriced or key[2] == ALL:
        return
    ratio = theirs / ours
    if _near(ratio, 0.5):
        yield "half the price for the same tokens: the batch or flex tier"
        return
    others = [
        (other.theirs.figures.cost_usd or 0.0) / other.ours.figures.cost_usd
        for name, other in context.pairs.items()
        if name[0] == key[0] and name != key and other.ours.figures.cost_usd and other.theirs.figures.cost_usd
    ]
    if others and all(_near(ratio, other) for other in others):
        yield f"{ratio:.1%} of the list price, as in every other row of {key[0]}: a discount or a tax"
    else:
        yield f"the same tokens at {ratio:.3g} times the price: `taximeter prices {key[2]}` shows the rates"


def _others(found: Pair) -> Iterator[str]:
    gap = _gap(found, "requests") if "requests" in found.told else _gap(found, "output_tokens")
    more = abs(gap)
    what = "request(s)" if "requests" in found.told else "output tokens"
    if gap > 0:
        yield (
            f"{count(more)} more {what} at the provider: other API keys, services or tools that Taximeter "
            "does not see"
        )
    elif gap < 0:
        yield f"{count(more)} more {what} in Taximeter: another organization's key, or an incomplete export"


def all_rows(context: Context) -> Iterator[str]:
    """What holds of the whole: a time zone in which every count agrees."""
    from taximeter_analysis.reconcile.match import pair  # noqa: PLC0415  (it asks us, we ask it once)

    def wrong(pairs: Mapping[Key, Pair]) -> int:
        return sum(
            not found.agrees(name, context.tolerance)
            for found in pairs.values()
            for name in _COUNTS
            if name in found.told
        )

    here = wrong(context.pairs)
    if not here:
        return
    for offset in sorted(OFFSETS, key=abs):
        if not wrong(pair(context.theirs, context.told, context.seen.days(offset))):
            hours, minutes = divmod(round(abs(offset) * 60), 60)
            zone = f"UTC{'+' if offset > 0 else '-'}{hours:02d}:{minutes:02d}"
            yield f"with days cut at midnight {zone} every count agrees: export it in UTC, it is in that zone"
            return
