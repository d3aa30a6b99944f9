"""``make prove-variants``: services that nobody wrote the advisor for, drawn from a seed.

Each variant has some of the example's weaknesses and not the others, a few faults, its own distances,
latencies, mix of requests and guests. The advisor sees its span store alone. Then the draw is opened: was
each weakness found, and is each finding of a weakness that was planted? Of the fixes that were advised the
one with most to say is applied, the same guests come again, and calls and money are held against the
prediction.

The last variant is clean: all fixes applied, no fault, and no finding expected.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.loop.fixes import FIXES, assign
from examples.loop.measure import Load, Run, run
from taximeter_analysis import open_store
from taximeter_analysis.advise import Advice, Estimate, Finding, advise

#: A fault of the example -> the finding that should tell of it.
FAULTS: Mapping[str, Callable[[Finding], bool]] = {
    "fault.n_plus_one_rooms": lambda each: (
        each.kind == "n_plus_one" and each.route == "GET /hotels/{hotel}/rooms"
    ),
    "fault.ask_twice": lambda each: each.kind == "asked_twice",
    "fault.small_pool": lambda each: each.kind == "pool_wait",
}
#: Fixes whose weakness this short a run does not show for certain: applied in every variant.
APPLIED = frozenset({"fix.quote_cache", "fix.stats_query"})
#: True of every variant, whatever was drawn: the provider fails now and then, and guests word things alike.
ALWAYS = frozenset({"retries", "near_duplicates"})
METRICS = ("db_calls", "embedding_calls", "model_calls", "cost_usd")


@dataclass(frozen=True)
class Variant:
    """What was drawn."""

    number: int
    fixed: frozenset[str]
    faults: frozenset[str]
    load: Load

    @property
    def weaknesses(self) -> dict[str, Callable[[Finding], bool]]:
        """What should be found."""
        left = {name: told for name, told in FIXES.items() if name not in self.fixed}
        return left | {name: told for name, told in FAULTS.items() if name in self.faults}


@dataclass
class Outcome:
    """What the advisor said of a variant, and what became of it."""

    variant: Variant
    found: list[str]
    missed: list[str]
    false: list[Finding]
    errors: dict[str, tuple[Estimate, float]]  # metric -> predicted by all advised fixes, measured


def draw(seed: int, number: int, clean: bool, duration_s: float) -> Variant:
    """Variant ``number`` of a seed; the same for the same seed."""
    rng = random.Random(f"{seed}:{number}")
    fixed = {name for name in FIXES if clean or rng.random() < 0.5}
    faults = {name for name in FAULTS if not clean and rng.random() < 0.3}
    load = Load(
        duration_s=duration_s,
        rate=rng.uniform(8, 14),
        guests=rng.choice((30, 60, 120, 200)),
        seed=rng.randrange(1, 1_000_000),
        latency_scale=rng.uniform(0.1, 0.5),
        distance_ms=rng.choice((1.0, 3.0, 8.0, 15.0)),
        scale="demo",
        spread=rng.uniform(0.0, 0.5),
    )
    return Variant(number, frozenset(fixed) | APPLIED, frozenset(faults), load)


def outcome(variant: Variant, folder: Path) -> Outcome:
    """Run it, advise, and run it again with all that was advised."""
    flags = sorted(variant.fixed | variant.faults)
    before = _run(variant.load, flags, folder / "before")
    with open_store(before.store) as store:
        advice = advise(store)
    told = variant.weaknesses
    found = [name for name, is_told in told.items() if any(map(is_told, advice.findings))]
    false = [
        each
        for each in advice.findings
        if each.kind not in ALWAYS and not any(is_told(each) for is_told in told.values())
    ]
    errors = dict(_errors(variant, advice, before, folder))
    return Outcome(variant, found, sorted(set(told) - set(found)), false, errors)


def _run(load: Load, flags: list[str], keep: Path) -> Run:
    done = run(load, flags, keep)
    wrong = [str(row) for row in done.books if not row.balanced]
    if wrong:
        raise RuntimeError(f"the books of {keep.name} do not balance: {'; '.join(wrong)}")
    return done


def _errors(
    variant: Variant, advice: Advice, before: Run, folder: Path
) -> Iterator[tuple[str, tuple[Estimate, float]]]:
    """One fix alone, the one that is said to save most: fixes overlap, so their sums do not add up."""
    by_flag, _ = assign(advice.findings)
    able = {flag: each for flag, each in by_flag.items() if flag not in variant.fixed}
    if not able:
        return
    flag = max(able, key=lambda name: sum(_worth(each) for each in able[name]))
    flags = sorted(variant.fixed | variant.faults | {flag})
    after = _run(variant.load, flags, folder / "after")
    for metric in METRICS:
        findings = [each for each in able[flag] if metric in each.savings and not each.ceiling]
        if findings:
            routes = {each.route for each in findings}
            chosen: set[str | None] = {None} if None in routes else set(routes)
            predicted = sum((each.savings[metric] for each in findings), Estimate(0, 0, 0))
            measured = sum(before.total(metric, route) - after.total(metric, route) for route in chosen)
            yield f"{flag} {metric}", (predicted, measured)


def _worth(finding: Finding) -> float:
    return sum(1.0 for metric in METRICS if metric in finding.savings) + finding.requests / 1e6


def main() -> int:
    """Run ``make prove-variants``; 0 where precision and recall are as wanted and the clean one is silent."""
    parser = argparse.ArgumentParser(prog="python -m examples.loop.variants", description=__doc__)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--count", type=int, default=20, help="variants, the clean one beside (default 20)")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of load a run")
    options = parser.parse_args()
    begun = time.monotonic()
    outcomes = []
    for number in range(options.count + 1):
        clean = number == options.count
        variant = draw(options.seed, number, clean, options.duration)
        with tempfile.TemporaryDirectory(prefix="taximeter-variant-") as folder:
            each = outcome(variant, Path(folder))
        outcomes.append(each)
        _print(each, clean, time.monotonic() - begun)
    return _summary(outcomes)


def _print(each: Outcome, clean: bool, seconds: float) -> None:
    load = each.variant.load
    print(
        f"{'clean' if clean else each.variant.number}: database {load.distance_ms:g} ms away, models at "
        f"{load.latency_scale:.2f}, {load.rate:.1f} requests/s of {load.guests} guests ({seconds:.0f} s)",
        flush=True,
    )
    print(f"    found   {', '.join(each.found) or '-'}\n    missed  {', '.join(each.missed) or '-'}")
    for finding in each.false:
        print(f"    false   {finding.kind}, {finding.route or 'all routes'}: {finding.what[:120]}")
    for name, (predicted, measured) in each.errors.items():
        inside = "inside" if predicted.holds(measured) else "OUTSIDE"
        print(
            f"    {name}: predicted {predicted.value:.6g} ({predicted.low:.6g} to {predicted.high:.6g}), "
            f"measured {measured:.6g}, {inside}"
        )
    sys.stdout.flush()


def _summary(outcomes: list[Outcome]) -> int:
    drawn, clean = outcomes[:-1], outcomes[-1]
    found = sum(len(each.found) for each in drawn)
    missed = sum(len(each.missed) for each in drawn)
    false = sum(len(each.false) for each in drawn)
    pairs = [pair for each in drawn for pair in each.errors.values()]
    errors = [abs(predicted.value - real) / abs(real) for predicted, real in pairs if real]
    inside = sum(predicted.holds(real) for predicted, real in pairs)
    precision, recall = found / max(1, found + false), found / max(1, found + missed)
    print(
        f"\n{len(drawn)} variants: precision {precision:.2f} ({false} false), recall {recall:.2f} "
        f"({missed} of {found + missed} missed)"
    )
    if errors:
        print(
            f"{len(pairs)} predictions of calls and money: median error {statistics.median(errors):.0%}, "
            f"{inside / len(pairs):.0%} inside their bounds"
        )
    print(f"the clean variant: {len(clean.false)} findings")
    return 0 if not clean.false and precision >= 0.9 and recall >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
