"""``make prove-variants``: services that nobody wrote the advisor for, drawn from a seed.

Each variant has some of the example's weaknesses and not the others, its own distances, latencies, mix of
requests and guests. The advisor sees its span store alone. Then the draw is opened: was each weakness found,
and is each finding of a weakness that was planted? One finding is acted upon, the same guests come again, and
calls and money are held against its prediction.

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
from dataclasses import dataclass, field
from pathlib import Path

from examples.guests.plan import make_plan
from examples.hotel_chat.flags import FLAGS
from examples.loop.measure import Load, Run, run
from examples.loop.weaknesses import APPLIED, WEAKNESSES, absent
from taximeter_analysis import open_store
from taximeter_analysis.advise import Advice, Estimate, Finding, advise
from taximeter_analysis.selection import select
from taximeter_analysis.store import Store
from taximeter_analysis.window import Filters

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

    def absent(self, cached: float) -> dict[str, str]:
        """What was planted in vain, with the reason; ``cached``: the share of the models' input that was."""
        load = self.load
        plan = make_plan(
            seed=load.seed, guests=load.guests, rate=load.rate, duration_s=load.duration_s, spread=load.spread
        )
        return dict(absent(self.planted, plan, cached))

    def flags(self, without: frozenset[str] = frozenset()) -> list[str]:
        """What is switched on; ``without`` some weaknesses, as one would take them away."""
        on = set(APPLIED)
        for name, each in WEAKNESSES.items():
            if each.fault:
                on.update(each.flags if name in self.planted - without else ())
            elif name not in self.planted:
                on.update(each.flags)
            elif name in without:
                on.add(each.flags[0])
        return sorted(on & set(FLAGS))


@dataclass(frozen=True)
class Check:
    """A finding that is acted upon: the weaknesses that it tells of are taken away."""

    finding: Finding
    weaknesses: frozenset[str]

    @property
    def predicted(self) -> Mapping[str, Estimate]:
        """What it says of calls and money."""
        return {metric: each for metric, each in self.finding.savings.items() if metric in METRICS}

    def measured(self, before: Run, after: Run) -> dict[str, float]:
        """The same of two runs: on the finding's route, else of its statement, else of everything."""
        found = self.finding
        if found.route is None and found.statements:
            return {"db_calls": float(_sent(before, found.statements) - _sent(after, found.statements))}
        return {
            name: before.total(name, found.route) - after.total(name, found.route) for name in self.predicted
        }


def _sent(run: Run, statements: tuple[str, ...]) -> int:
    """How often statements were sent."""
    with open_store(run.store) as store:
        select(store, Filters())
        marks = ", ".join("?" for _ in statements)
        count: int = store.rows(
            f"SELECT count(*) FROM calls WHERE family = 'db' AND statement IN ({marks})", list(statements)
        )[0][0]
    return count


@dataclass
class Outcome:
    """What the advisor said of a variant, and what became of it."""

    variant: Variant
    found: list[str]
    missed: list[str]
    false: list[Finding]
    absent: dict[str, str]
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


def outcome(variant: Variant, folder: Path, checked: bool) -> Outcome:
    """Run it, advise, and run it again without one of the weaknesses that were found."""
    before = _run(variant, frozenset(), folder / "before")
    with open_store(before.store) as store:
        judged = judge(variant, advise(store), _cached(store))
    if judged.check and checked:
        after = _run(variant, judged.check.weaknesses, folder / "after")
        judged.measured = judged.check.measured(before, after)
    return judged


def _run(variant: Variant, without: frozenset[str], keep: Path) -> Run:
    load = variant.load
    done = run(load, variant.flags(without), keep)
    wrong = [str(row) for row in done.books if not row.balanced]
    if wrong:
        raise RuntimeError(f"variant {variant.number}: the books do not balance: {'; '.join(wrong)}")
    return done


def _cached(store: Store) -> float:
    """Share of the chats' input read from the provider's cache: by its ledger too, as the books balance."""
    [(cached, whole)] = store.rows(
        "SELECT coalesce(sum(ai_cache_read_tokens), 0), coalesce(sum(ai_input_tokens), 0) FROM spans "
        "WHERE prompt_blocks IS NOT NULL"
    )
    return float(cached / whole) if whole else 0.0


def judge(variant: Variant, advice: Advice, cached: float) -> Outcome:
    """Open the draw."""
    told = {name: WEAKNESSES[name].told for name in variant.planted}
    found = sorted(name for name, tells in told.items() if any(map(tells, advice.findings)))
    false = [each for each in advice.findings if not any(tells(each) for tells in told.values())]
    gone = {name: why for name, why in variant.absent(cached).items() if name not in found}
    missed = sorted(set(told) - set(found) - set(gone))
    able = [
        Check(each, removed)
        for each in advice.findings
        if not each.ceiling
        and set(METRICS) & set(each.savings)
        and (removed := frozenset(name for name, tells in told.items() if tells(each)))
        # Remembering a response is not what takes a fault away.
        and not (each.kind == "steady_response" and any(WEAKNESSES[name].fault for name in removed))
    ]
    check = random.Random(variant.load.seed).choice(able) if able else None
    return Outcome(variant, found, missed, false, gone, check)


def main() -> int:
    """Run ``make prove-variants``; 0 where precision and recall are as wanted and the clean one is silent."""
    parser = argparse.ArgumentParser(prog="python -m examples.loop.variants", description=__doc__)
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--count", type=int, default=20, help="variants, the clean one beside (default 20)")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of load a run")
    parser.add_argument("--jobs", type=int, default=2, help="variants at once (default 2)")
    parser.add_argument(
        "--checks", type=int, default=20, metavar="N", help="act upon a finding in the first N (default 20)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the span stores there")
    options = parser.parse_args()
    begun = time.monotonic()
    outcomes: list[Outcome] = []

    def one(variant: Variant) -> None:
        name = "clean" if variant.number is None else str(variant.number)
        with tempfile.TemporaryDirectory(prefix="taximeter-variant-") as folder:
            checked = variant.number is not None and variant.number < options.checks
            each = outcome(variant, options.keep / name if options.keep else Path(folder), checked)
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
    lines += [f"    absent  {name}: {why}" for name, why in each.absent.items()]
    lines += [f"    FALSE   {e.kind}, {e.route or 'all routes'}: {e.what[:150]}" for e in each.false]
    for metric, predicted, real in each.pairs:
        lines.append(
            f"    {each.check.finding.kind if each.check else ''}, {metric}: predicted "
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
