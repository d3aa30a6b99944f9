"""``make prove-pages``: a normal day raises nothing, and each of twenty regressions is caught.

The rendered default rules, all of them, run in promtool over samples of `tests.alerts.simulation`.
The day has its rhythm, two deploys, two restarts and a restart of the collector; the day before it is
its history. Each regression begins after three hours and is watched for 75 minutes (longer where the
alert's windows are). Prints the table; exit code 1 if anything fired that should not, or did not.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from taximeter_alerts.model import HEARTBEAT, PAGE
from taximeter_alerts.rules import alerts_file, all_alerts, recording_file
from tests.alerts.simulation import Day, Effect, Life, notation

KINDS = {alert.name: "page" if alert.severity == PAGE else "ticket" for alert in all_alerts()}
HEARTBEATS = "|".join(alert.name for alert in all_alerts() if alert.severity == HEARTBEAT)
FIRING = f'ALERTS{{alertstate="firing",alertname!~"{HEARTBEATS}"}}'
FIRST = "first_fired"
"""A rule of the proof's own: the minute at which each alert first fired."""
START = 180
"""Minute at which a regression begins: after three hours of history, at two in the afternoon."""
_GOT = re.compile(r"\{(?P<labels>[^}]*)\} (?P<value>[-+.\dEe]+)")


@dataclass(frozen=True)
class Regression:
    """An effect, and the alerts of which one must tell of it."""

    name: str
    effect: Effect
    alerts: tuple[str, ...]
    hours: float = 1.25
    lives: Sequence[Life] = ()
    start: int = START


@dataclass
class Seen:
    """Alerts that fired, each with the minute at which it first did."""

    minutes: dict[str, float] = field(default_factory=dict)

    def first(self, names: Sequence[str]) -> tuple[str, float] | None:
        found = sorted((self.minutes[name], name) for name in names if name in self.minutes)
        return (found[0][1], found[0][0]) if found else None


def regressions() -> list[Regression]:
    """Twenty and some ways in which a service gets worse."""

    def worse(**what: object) -> Effect:
        return Effect(since=START, **what)  # type: ignore[arg-type]

    latency, database = "TaximeterLatencyRegression", "TaximeterDatabaseCallsRegression"
    burn, spike, cache = "TaximeterErrorBudgetBurn", "TaximeterCostSpike", "TaximeterCacheHitRateDropped"
    deploy = (Life(0, START, "a", "1"), Life(START, START + 75, "b", "2"))
    long_ago = START + 1440
    return [
        Regression("latency +50 %, every route", worse(latency=1.5), (latency,)),
        Regression("latency +50 %, /chat", worse(latency=1.5, routes=("/chat",)), (latency,)),
        Regression("latency +150 ms, /rooms", worse(added_seconds=0.15, routes=("/rooms",)), (latency,)),
        Regression(
            "latency +50 % with a new version",
            worse(latency=1.5),
            ("TaximeterLatencyRegressionNewVersion",),
            lives=deploy,
        ),
        Regression(
            "latency x 3, quiet routes",
            worse(latency=3, routes=("/sync", "/admin/stats")),
            ("TaximeterQuietRoutesLatencyRegression",),
        ),
        Regression("a fifth takes 4 s", worse(slow_share=0.2), ("TaximeterLatencyBudgetBurn",)),
        Regression("queries +1, /rooms", worse(statements=1, routes=("/rooms",)), (database,)),
        Regression("queries +1, /chat (6 to 7)", worse(statements=1, routes=("/chat",)), (database,)),
        Regression("N+1, /rooms", worse(repeated=12, routes=("/rooms",)), ("TaximeterRepeatedStatements",)),
        Regression(
            "N+1 deepens, /reservations",
            worse(repeated=9, routes=("/reservations",)),
            ("TaximeterRepeatedStatements",),
        ),
        Regression("errors 8 %", worse(errors=0.08), (burn,)),
        Regression("errors 3 %", worse(errors=0.03), ("TaximeterErrorBudgetSlowBurn",), hours=4.5),
        Regression("/rooms fails", worse(errors=1.0, routes=("/rooms",)), (burn,)),
        Regression("cost x 2", worse(cost=2), (spike,)),
        Regression(
            "a crawler: traffic x 4",
            Effect(since=long_ago, traffic=4),
            (spike,),
            start=long_ago,
        ),
        Regression("hit rate -30 points", worse(hit_rate=0.58), (cache,)),
        Regression("the cache never hits", worse(hit_rate=0.0), (cache,)),
        Regression("embeddings x 10 on a miss", worse(embeddings=10), ("TaximeterEmbeddingCallsSpike",)),
        Regression("first chunk x 8", worse(first_chunk=8), ("TaximeterFirstChunkSlow",)),
        Regression("a model without a price", worse(unpriced=True), ("TaximeterUnpricedModel",)),
        Regression("the service falls silent", worse(silent=True), ("TaximeterTelemetryAbsent",)),
        Regression("the collector is down", worse(collector_down=True), ("TaximeterCollectorDown",)),
    ]


def normal_day() -> tuple[Day, int]:
    """Two days, and the minute from which on nothing may fire."""
    lives = [
        Life(0, 1600, "a", "1"),
        Life(1598, 1950, "b", "2"),  # a deploy, with two minutes of both
        Life(1952, 2300, "b", "2"),  # a restart of the same instance, with a gap
        Life(2298, 2600, "c", "3"),
        Life(2601, 2880, "c", "3"),
    ]
    return Day(2880, lives=lives, collector_restarts=(1800,)), 1440


def evaluate(day: Day, since: int) -> Seen:
    """Run every rule over the day; what fired after minute ``since``."""
    with tempfile.TemporaryDirectory(prefix="taximeter-pages-") as name:
        folder = Path(name)
        (folder / "recording.yaml").write_text(recording_file())
        (folder / "alerts.yaml").write_text(alerts_file())
        moments = f"min by (alertname) (timestamp({FIRING}) > {since * 60} or {FIRST})"
        first = {"groups": [{"name": "first", "rules": [{"record": FIRST, "expr": moments}]}]}
        (folder / "first.yaml").write_text(yaml.safe_dump(first))
        groups = [
            group["name"]
            for file in ("recording.yaml", "alerts.yaml", "first.yaml")
            for group in yaml.safe_load((folder / file).read_text())["groups"]
        ]
        series = [{"series": key, "values": notation(values)} for key, values in day.series.items()]
        last = f"{day.minutes - 1}m"
        test = {
            "rule_files": ["recording.yaml", "alerts.yaml", "first.yaml"],
            "evaluation_interval": "1m",
            "group_eval_order": groups,
            "tests": [
                {
                    "interval": "1m",
                    "input_series": series,
                    # Nothing is expected, so promtool reports all there is.
                    "promql_expr_test": [{"expr": FIRST, "eval_time": last, "exp_samples": []}],
                }
            ],
        }
        (folder / "test.yaml").write_text(yaml.safe_dump(test, width=1 << 20))
        done = subprocess.run(
            ["promtool", "test", "rules", "test.yaml"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    return read(done.returncode, done.stdout + done.stderr)


def read(code: int, report: str) -> Seen:
    """The samples in promtool's report of the one expectation; anything else in it is an error."""
    if code == 0:
        return Seen()
    found = re.search(rf'expr: "{FIRST}".*?got:(?P<got>.*)', report, re.DOTALL)
    if found is None:
        raise RuntimeError(f"promtool failed:\n{report[-2000:]}")
    seen = Seen()
    for sample in _GOT.finditer(found["got"]):
        name = re.search(r'alertname="(\w+)"', sample["labels"])
        assert name is not None, sample
        seen.minutes[name[1]] = float(sample["value"]) / 60
    return seen


def main() -> int:
    """Print the table; 0 if the day was silent and every regression was caught."""
    began = time.monotonic()
    day, since = normal_day()
    cases = regressions()

    def judge(case: Regression) -> Seen:
        minutes = case.start + round(case.hours * 60)
        return evaluate(
            Day(minutes, effect=case.effect, lives=case.lives, starts_at=660),
            case.start,
        )

    with ThreadPoolExecutor(2) as pool:
        quiet = pool.submit(evaluate, day, since)
        missed = 0
        print(f"{'regression':36}{'caught by':40}{'kind':8}{'after':>8}  also")
        for case, seen in zip(cases, pool.map(judge, cases), strict=True):
            hit = seen.first(case.alerts)
            missed += hit is None
            print(row(case, seen, hit), flush=True)
        fired = quiet.result()
    print(f"\n{len(cases) - missed} of {len(cases)} regressions caught")
    print(f"24 hours of normal traffic ({len(day.series)} series, {len(KINDS) - 1} alerts): ", end="")
    print("nothing fired" if not fired.minutes else f"FIRED: {fired.minutes}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(bool(fired.minutes) or missed > 0)


def row(case: Regression, seen: Seen, hit: tuple[str, float] | None) -> str:
    """One line of the table."""
    name, minute = hit or ("MISSED", 0.0)
    also = ", ".join(sorted(other.removeprefix("Taximeter") for other in seen.minutes if other != name))
    after = f"{minute - case.start:.0f} min" if hit else ""
    return f"{case.name:36}{name:40}{KINDS.get(name, ''):8}{after:>8}  {also}"


if __name__ == "__main__":
    sys.exit(main())
