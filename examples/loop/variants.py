"""``make prove-variants``: services that nobody wrote the advisor for, drawn from a seed.

Each variant has some of the example's weaknesses and not the others, its own distances, latencies, mix of
requests and guests. The advisor sees its span store alone. Then the draw is opened: was each weakness found,
and is each finding of a weakness that was planted? One of those found is taken away, the same guests come
again, and calls and money are held against the prediction.

The last variant is clean: nothing planted, and no finding expected.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from examples.guests.plan import make_plan
from examples.hotel_chat.flags import FLAGS
from examples.loop.measure import Load, Run, run
from examples.loop.weaknesses import APPLIED, WEAKNESSES, absent
from taximeter_analysis import open_store
from taximeter_analysis.advise import Advice, Estimate, Finding, advise

METRICS = ("db_calls", "embedding_calls", "model_calls", "cost_usd")
REFUSAL = "provider refuses"
_REFUSED = 0.2  # of the model calls, by a provider that refuses
_FAULT = 0.3  # chance of each fault; a fix is missing in every second variant


@dataclass(frozen=True)
class Variant:
    """What was drawn. ``number`` is None for the clean one."""

    number: int | None
    planted: frozenset[str]
    load: Load

    @property
    def absent(self) -> dict[str, str]:
        """What was planted in vain, with the reason."""
        load = self.load
        plan = make_plan(
            seed=load.seed, guests=load.guests, rate=load.rate, duration_s=load.duration_s, spread=load.spread
        )
        return dict(absent(self.planted, plan))

    def flags(self, without: str | None = None) -> list[str]:
        """What is switched on; ``without`` one weakness."""
        left = self.planted - {without}
        on = {
            flag
            for name, each in WEAKNESSES.items()
            if each.fault == (name in left)
            for flag in each.flags
            if flag in FLAGS
        }
        return sorted(on | APPLIED)


@dataclass(frozen=True)
class Check:
    """A weakness that is taken away, and what that is said to save on its routes (None: on all)."""

    weakness: str
    routes: frozenset[str | None]
    predicted: Mapping[str, Estimate]


@dataclass
class Outcome:
    """What the advisor said of a variant, and what became of it."""

    variant: Variant
    found: list[str]
    missed: list[str]
    false: list[Finding]
    check: Check | None
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def pairs(self) -> Iterator[tuple[str, Estimate, float]]:
        """(metric, predicted, measured)."""
        for metric, value in self.measured.items():
            if self.check:
                yield metric, self.check.predicted[metric], value


def draw(seed: int, number: int | None, duration_s: float) -> Variant:
    """Variant ``number`` of a seed; the same for the same seed."""
    rng = random.Random(f"{seed}:{number}")
    chance = {name: _FAULT if each.fault else 0.5 for name, each in WEAKNESSES.items()}
    planted = frozenset(name for name in WEAKNESSES if rng.random() < chance[name] and number is not None)
    load = Load(
        duration_s=duration_s,
        rate=rng.uniform(8, 14),
        guests=rng.choice((30, 60, 120, 200)),
        seed=rng.randrange(1, 1_000_000),
        latency_scale=rng.uniform(0.1, 0.5),
        distance_ms=rng.choice((1.0, 3.0, 8.0, 15.0)),
        scale="demo",
        spread=rng.uniform(0.0, 0.5),
        fail_rate=_REFUSED if REFUSAL in planted else 0.0,
    )
    return Variant(number, planted, load)


def outcome(variant: Variant, folder: Path) -> Outcome:
    """Run it, advise, and run it again without one of the weaknesses that were found."""
    before = _run(variant, None, folder / "before")
    with open_store(before.store) as store:
        judged = judge(variant, advise(store))
    if judged.check:
        after = _run(variant, judged.check.weakness, folder / "after")
        judged.measured = {
            metric: sum(before.total(metric, at) - after.total(metric, at) for at in judged.check.routes)
            for metric in judged.check.predicted
        }
    return judged


def _run(variant: Variant, without: str | None, keep: Path) -> Run:
    load = replace(variant.load, fail_rate=0.0) if without == REFUSAL else variant.load
    done = run(load, variant.flags(without), keep)
    wrong = [str(row) for row in done.books if not row.balanced]
    if wrong:
        raise RuntimeError(f"variant {variant.number}: the books do not balance: {'; '.join(wrong)}")
    return done


def judge(variant: Variant, advice: Advice) -> Outcome:
    """Open the draw."""
    told = {name: WEAKNESSES[name].told for name in variant.planted}
    found = sorted(name for name, tells in told.items() if any(map(tells, advice.findings)))
    false = [each for each in advice.findings if not any(tells(each) for tells in told.values())]
    missed = sorted(set(told) - set(found) - set(variant.absent))
    checks = [check for name in found if (check := _check(name, advice))]
    chosen = random.Random(variant.load.seed).choice(checks) if checks else None
    return Outcome(variant, found, missed, false, chosen)


def _check(name: str, advice: Advice) -> Check | None:
    """What the findings of a weakness predict in calls and money; None: nothing but upper bounds."""
    findings = [each for each in advice.findings if WEAKNESSES[name].told(each) and not each.ceiling]
    predicted = {
        metric: sum(savings, Estimate(0, 0, 0))
        for metric in METRICS
        if (savings := [each.savings[metric] for each in findings if metric in each.savings])
    }
    routes = frozenset(each.route for each in findings)
    return Check(name, frozenset({None}) if None in routes else routes, predicted) if predicted else None


def main() -> int:
    """Run ``make prove-variants``; 0 where precision and recall are as wanted and the clean one is silent."""
    parser = argparse.ArgumentParser(prog="python -m examples.loop.variants", description=__doc__)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--count", type=int, default=20, help="variants, the clean one beside (default 20)")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of load a run")
    parser.add_argument("--jobs", type=int, default=2, help="variants at once (default 2)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the span stores there")
    options = parser.parse_args()
    begun = time.monotonic()
    outcomes: list[Outcome] = []

    def one(variant: Variant) -> None:
        name = "clean" if variant.number is None else str(variant.number)
        with tempfile.TemporaryDirectory(prefix="taximeter-variant-") as folder:
            each = outcome(variant, options.keep / name if options.keep else Path(folder))
        outcomes.append(each)
        print(f"{_text(each)}\n    {len(outcomes)} done after {time.monotonic() - begun:.0f} s", flush=True)

    numbers = [None, *range(options.count)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(one, [draw(options.seed, number, options.duration) for number in numbers]):
            pass
    return _summary(outcomes)


def _text(each: Outcome) -> str:
    variant, load = each.variant, each.variant.load
    lines = [
        f"{'clean' if variant.number is None else variant.number}: database {load.distance_ms:g} ms away, "
        f"models at {load.latency_scale:.2f}, {load.rate:.1f} requests/s of {load.guests} guests",
        f"    found   {', '.join(each.found) or '-'}",
        f"    missed  {', '.join(each.missed) or '-'}",
    ]
    lines += [f"    absent  {name}: {why}" for name, why in variant.absent.items() if name not in each.found]
    lines += [f"    FALSE   {e.kind}, {e.route or 'all routes'}: {e.what[:150]}" for e in each.false]
    for metric, predicted, real in each.pairs:
        lines.append(
            f"    without {each.check.weakness if each.check else ''}, {metric}: predicted "
            f"{predicted.value:.6g} ({predicted.low:.6g} to {predicted.high:.6g}), measured {real:.6g}"
            f"{'' if predicted.holds(real) else ', OUTSIDE'}"
        )
    return "\n".join(lines)


def _summary(outcomes: list[Outcome]) -> int:
    drawn = [each for each in outcomes if each.variant.number is not None]
    found, missed, false = (
        sum(len(each) for each in lists)
        for lists in zip(*((each.found, each.missed, each.false) for each in drawn), strict=True)
    )
    silent = not any(each.false for each in outcomes if each.variant.number is None)
    pairs = [(predicted, real) for each in drawn for _, predicted, real in each.pairs]
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
    print(f"the clean variant: {'no finding' if silent else 'FINDINGS'}")
    return 0 if silent and precision >= 0.9 and recall >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
