"""``make prove-gate``: is the gate honest? False alarms, power and missing data, on recorded requests.

Every row is trials of the real `taximeter budget check` (its `check`, not a copy). Durations are
drawn from the recorded ones of 15 routes of the example; replays are the recorded ones themselves.
Exit code 1 when a stated promise does not hold.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice, permutations

from benchmarks.gate import (
    CHANGES,
    NOT_SLOWER,
    SAME_COUNTS,
    Durations,
    Tally,
    latency_trials,
    replay_trials,
)
from benchmarks.recorded import Recording, recording, report_of, resample
from taximeter_analysis.budget.check import check
from taximeter_analysis.budget.loader import parse_budget
from taximeter_analysis.budget.suggest import suggest
from taximeter_analysis.inference import quantiles, tails
from taximeter_analysis.inference.distributions import z

SEED = 2026
ROUTES = 15


class Prover:
    """Prints the tables and remembers which promises did not hold."""

    def __init__(self, recorded: Recording, scale: float) -> None:
        self.recorded = recorded
        self.scale = scale
        self.all_durations = recorded.durations()
        self.source: Durations = dict(list(self.all_durations.items())[:ROUTES])
        self.broken: list[str] = []

    def trials(self, wanted: int) -> int:
        """Fewer of them in a quick run."""
        return max(5, round(wanted * self.scale))

    def promise(self, text: str, holds: bool) -> None:
        """State a promise and whether it holds."""
        print(f"  {'holds' if holds else 'DOES NOT HOLD'}: {text}")
        if not holds:
            self.broken.append(text)

    def false_alarms(self) -> None:
        print(f"\n1. Unchanged builds (A/A): budgets of {ROUTES} routes that failed though nothing changed\n")
        print("| requests a route and run | trials | Taximeter | P95 grew by 10 % | Mann-Whitney, p < 0.05 |")
        print("| ---: | ---: | ---: | ---: | ---: |")
        worst = 0.0
        for count, wanted in ((120, 1000), (500, 1000), (2000, 1000)):
            found = latency_trials(self.source, trials=self.trials(wanted), count=count, seed=f"{SEED}:aa")
            worst = max(worst, found.ours / found.trials)
            print(f"| {count:,} | {found.trials:,} | {_rates(found)} |")
        print()
        self.promise(f"at most 5 % false failures per whole budget of {ROUTES} routes", worst <= 0.05)

    def power(self) -> None:
        print("\n2. P95 of one route up by 20 %, 2,000 requests on each route and run: how often caught\n")
        print("| gated routes | trials | Taximeter | P95 grew by 10 % | Mann-Whitney, p < 0.05 |")
        print("| ---: | ---: | ---: | ---: | ---: |")
        names = list(self.source)
        each = {name: self._alone(name) for name in names}
        one = Tally()
        for found in each.values():
            for what in ("trials", "ours", "p95_rule", "mann_whitney"):
                setattr(one, what, getattr(one, what) + getattr(found, what))
        print(f"| 1 | {one.trials:,} | {_rates(one)} |")
        for routes, wanted in ((15, 300), (74, 100)):
            many = dict(islice(zip(_names(names), cycle(self.source.values()), strict=False), routes))
            found = latency_trials(
                many, trials=self.trials(wanted), count=2000, seed=f"{SEED}:{routes}", slower=names
            )
            print(f"| {routes} | {found.trials:,} | {_rates(found)} |")
        print("\nOne gated route, by route (the tail of its own durations decides):\n")
        print("| route | recorded | trials | caught | 95 % caught from n = |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name, found in each.items():
            caught, needs = found.ours / found.trials, requests_for(self.source[name])
            print(f"| `{name}` | {len(self.source[name])} | {found.trials} | {caught:.0%} | {needs:,} |")
        print()
        self.promise(
            f"+20 % P95 of one gated route is caught in 95 % or more ({one.ours / one.trials:.1%} of trials)",
            one.ours >= 0.95 * one.trials,
        )
        rates = {name: found.ours / found.trials for name, found in each.items()}
        worst = min(rates, key=lambda name: rates[name])
        print(
            f"  Route by route: {sum(rate >= 0.95 for rate in rates.values())} of {len(rates)} reach 95 %; "
            f"the lowest is {rates[worst]:.0%} (`{worst}`)."
        )

    def _alone(self, name: str) -> Tally:
        alone = {name: self.source[name]}
        return latency_trials(
            alone, trials=self.trials(100), count=2000, seed=f"{SEED}:{name}", slower=[name]
        )

    def few(self) -> None:
        print("\n3. 50 requests a route and run\n")
        print("| gated routes | P95 | trials | verdict |\n| ---: | --- | ---: | --- |")
        good = True
        for routes in (1, ROUTES):
            source = dict(list(self.source.items())[:routes])
            for what, slower in (("unchanged", ()), ("+20 %", tuple(source)[:1])):
                found = latency_trials(
                    source, trials=self.trials(100), count=50, seed=f"{SEED}:few",
                    slower=slower, peers=False,
                )  # fmt: skip
                good &= found.no_data == found.trials
                needs = ", ".join(map(str, sorted(found.needs)))
                verdict = f"{found.no_data} x not enough data (needs n = {needs})"
                print(f"| {routes} | {what} | {found.trials} | {verdict} |")
        print()
        self.promise("at 50 requests the verdict is 'not enough data (needs n = ...)', never a guess", good)

    def replays(self) -> None:
        replays = self.recorded.replays
        print(
            f"\n4. Seeded replay with caches reset: pairs of {len(replays)} real replays, one route changed\n"
        )
        print("| change in one route | trials | failed against the baseline | against a suggested budget |")
        print("| --- | ---: | ---: | ---: |")
        for change in CHANGES:
            trials = self.trials(100)
            against = replay_trials(replays, change, trials=trials, seed=SEED, budget=lambda _: SAME_COUNTS)
            suggested = replay_trials(
                replays, change, trials=trials, seed=SEED,
                budget=lambda replay: parse_budget(_counts_only(suggest(report_of(replay), replay=True))),
            )  # fmt: skip
            print(f"| {change} | {trials} | {against} | {suggested} |")
            wanted = 0 if change == "unchanged" else trials
            if (against, suggested) != (wanted, wanted):
                self.broken.append(change)
        print()
        self.promise("every added query, call and token is caught, and nothing else",
                     not set(CHANGES) & set(self.broken))  # fmt: skip

    def drift(self) -> None:
        pairs = list(permutations(self.recorded.replays, 2))
        failed = sum(
            check(NOT_SLOWER, report_of(after), report_of(before)).state == "fail" for before, after in pairs
        )
        room = parse_budget("version: 1\ndefaults: {latency_p95: {max_increase: 20%}}")
        roomy = sum(
            check(room, report_of(after), report_of(before)).state == "fail" for before, after in pairs
        )
        print(
            f"\n5. What requests cannot know: whole replays against each other ({len(pairs)} ordered pairs)\n"
        )
        print(f"  failed with max_increase: 0 {failed}, with max_increase: 20% {roomy}.")
        print(
            "  Runs also differ as runs (the machine was busy with other work): leave latency some room, or"
        )
        print(
            "  send both builds in turn and compare block by block (taximeter compare, taximeter loadtest)."
        )


def requests_for(durations: Sequence[float], growth: float = 0.2, power: float = 0.95) -> int:
    """About how many requests a run show such a growth of P95, so often: from the test's own bounds."""
    dice, count = random.Random(SEED), 2000
    errors = []
    for _ in range(9):
        before, after = (quantiles.ranked(0.95, resample(durations, count, dice)) for _ in range(2))
        errors.append(tails.shift(before, after).error)
    wanted = math.log1p(growth) / (z(0.95) + z(power))
    about = count * (statistics.median(errors) / wanted) ** 2
    return max(quantiles.needed(0.95), math.ceil(about / 100) * 100 if about > 100 else math.ceil(about))


def _rates(tally: Tally) -> str:
    return " | ".join(
        f"{count / tally.trials:.1%}" for count in (tally.ours, tally.p95_rule, tally.mann_whitney)
    )


def _names(names: list[str]) -> list[str]:
    return [name if turn == 0 else f"{name}/{turn}" for turn in range(6) for name in names]


def _counts_only(text: str) -> str:
    """A suggested budget without its latency and error limits, which other tables judge."""
    unwanted = ("    latency_p95:", "  error_rate:", "total:")
    return "\n".join(line for line in text.splitlines() if not line.startswith(unwanted))


def main() -> int:
    """Run everything; exit code 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials (default %(default)s)")
    prover = Prover(recording(), parser.parse_args().scale)
    begin = time.monotonic()
    base = prover.recorded
    print(
        f"Recorded {base.recorded} from the example, {len(base.replays)} seeded replays of "
        f"{sum(map(len, base.replays[0].values())):,} requests ({base.machine}); seed {SEED}."
    )
    for part in (prover.false_alarms, prover.power, prover.few, prover.replays, prover.drift):
        part()
    print(
        f"\n{time.monotonic() - begin:.0f} s.",
        "Broken: " + "; ".join(prover.broken) if prover.broken else "All hold.",
    )
    return 1 if prover.broken else 0


if __name__ == "__main__":
    sys.exit(main())
