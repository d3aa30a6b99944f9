"""``make prove-curves``: are the hit-rate curves right, and quick? Held against caches that are really run.

Five streams of 400,000 lookups (Zipf of three kinds, a cycle, a drifting one). For each: the curve's time;
the size for 80 % (or "no size does") against live caches of that size and of one entry less; and in twelve
settings of size, time to live and instances. The live caches are cachetools', which shares no line with
the advisor.
"""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

from cachetools import Cache, LRUCache, TTLCache

from taximeter_analysis.advise.curves import Curve, curve, replay

LOOKUPS = 400_000
TARGET = 0.8
POINT = 0.01


def streams(dice: random.Random) -> Iterator[tuple[str, list[int]]]:
    """(name, keys)."""
    for name, different, power in (("popular", 2_000, 1.1), ("broad", 60_000, 0.9), ("flat", 300_000, 0.3)):
        weights = [1 / rank**power for rank in range(1, different + 1)]
        yield (
            f"Zipf {power:g} over {different:,} ({name})",
            dice.choices(range(different), weights, k=LOOKUPS),
        )
    yield "a cycle of 5,000", [number % 5_000 for number in range(LOOKUPS)]
    drift = [number // 40 + int(dice.paretovariate(0.8)) for number in range(LOOKUPS)]
    yield "a drifting one (news)", drift


def live(keys: list[int], size: int, ttl: float | None = None, instances: int = 1) -> float:
    """The hit rate of cachetools' own cache; one lookup a second, instances in turn."""
    now = [0.0]
    caches: dict[int, Cache[int, bool]] = defaultdict(
        lambda: LRUCache(size) if ttl is None else TTLCache(size, ttl, timer=lambda: now[0])
    )
    hits = 0
    for at, key in enumerate(keys):
        now[0] = float(at)
        cache = caches[at % instances]
        if cache.get(key):
            hits += 1
        else:
            cache[key] = True
    return hits / len(keys)


def main() -> int:
    dice = random.Random(5)
    wrong = 0

    def tell(holds: bool, text: str) -> None:
        nonlocal wrong
        wrong += not holds
        print(f"{'holds' if holds else 'DOES NOT HOLD'}  {text}", flush=True)

    kept: list[int] = []
    for name, keys in streams(dice):
        begun = time.process_time()
        found: Curve = curve(keys)
        took = time.process_time() - begun
        tell(took <= 5.0, f"{name}: curve of {len(keys):,} lookups in {took:.1f} CPU seconds (5 wanted)")
        size = found.size_for(TARGET)
        if size is None:
            most = live(keys, found.different)
            tell(most < TARGET, f"  no size reaches 80 %: one that holds every key hits {most:.2%}")
        else:
            reached, smaller = live(keys, size), live(keys, size - 1) if size > 1 else 0.0
            told = found.rate(size)
            tell(
                smaller < TARGET <= reached and abs(reached - told) <= POINT,
                f"  {size:,} entries for 80 % ({told:.3%} by the curve): a live cache of it hits "
                f"{reached:.3%}, of one less {smaller:.3%}",
            )
        kept = kept or keys
    for size in (50, 500):
        for ttl in (None, 600.0, 20_000.0):
            for instances in (1, 3):
                hits = replay(((float(at), at % instances, key) for at, key in enumerate(kept)), size, ttl)
                ours, theirs = sum(hits) / len(kept), live(kept, size, ttl, instances)
                limit = "no limit of time" if ttl is None else f"{ttl:g} s"
                text = f"{size} entries, {limit}, {instances} instance(s)"
                tell(abs(ours - theirs) <= POINT, f"{text}: replay {ours:.2%}, live {theirs:.2%}")
    print("All hold." if not wrong else f"{wrong} do not hold.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
