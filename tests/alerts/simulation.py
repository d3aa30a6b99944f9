"""A service's day as Prometheus would have scraped it, a sample a minute: rhythm, noise, deploys, restarts.

Knows nothing of the rules. Requests arrive by Poisson with the day's rhythm, durations are lognormal,
statements and money vary from request to request, caches are cold after a start. An `Effect` changes
one of these from a minute on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from taximeter.bounds import HTTP_DURATION_BOUNDS
from taximeter_collector.prometheus import catalogue as c

JOB = "chat"
CHUNK_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
TENANTS = (("acme", 0.5), ("globex", 0.3), ("initech", 0.2))
_KEPT_AFTER_END = 5  # minutes that the collector goes on showing an instance that is gone


@dataclass(frozen=True)
class Route:
    """What a request of this route does. ``statements``: those it may send, each as likely."""

    name: str
    share: float
    seconds: float  # median
    statements: Sequence[int]
    repeated: float = 0.0
    sigma: float = 0.5
    cost: float = 0.0  # USD, mean
    embeds: bool = False  # asks the embedding cache, and embeds on a miss


ROUTES = (
    Route("/chat", 0.30, 0.5, (6,), cost=0.00022, embeds=True),
    Route("/rooms", 0.35, 0.03, (2, 2, 2, 3)),
    Route("/reservations", 0.34, 0.12, (4, 8, 12, 16, 20), repeated=9),
    Route("/admin/stats", 0.006, 0.25, (4,)),
    Route("/sync", 0.004, 0.3, (2,)),
)


@dataclass(frozen=True)
class Effect:
    """What changes from minute ``since`` on, on ``routes`` (all, if empty)."""

    since: int = 1 << 30
    routes: tuple[str, ...] = ()
    latency: float = 1.0
    added_seconds: float = 0.0
    slow_share: float = 0.0  # of requests that take 4 s
    statements: int = 0
    repeated: float = 0.0
    errors: float = 0.0005
    cost: float = 1.0
    hit_rate: float = 0.88
    embeddings: float = 1.0
    traffic: float = 1.0
    first_chunk: float = 1.0
    unpriced: bool = False
    silent: bool = False
    collector_down: bool = False

    def on(self, route: Route, minute: int) -> Effect:
        hit = minute >= self.since and (not self.routes or route.name in self.routes)
        return self if hit else Effect()


@dataclass(frozen=True)
class Life:
    """One process of the service: minutes it serves, its instance and version."""

    start: int
    end: int
    instance: str
    version: str


@dataclass
class Day:
    """All samples: series to one value a minute, None where there is none."""

    minutes: int
    effect: Effect = field(default_factory=Effect)
    lives: Sequence[Life] = ()
    collector_restarts: Sequence[int] = ()
    peak: float = 10.0  # requests per second
    starts_at: int = 0  # minute of the day
    seed: int = 1
    series: dict[str, list[float | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        lives = self.lives or [Life(0, self.minutes, "a", "1")]
        for life in lives:
            self._live(life)
        self._collector()

    def rate(self, minute: int) -> float:
        """Requests per second by the time of day: a tenth of the peak at 4:00, the peak at 16:00."""
        phase = (self.starts_at + minute - 240) / 1440
        return self.peak * (0.1 + 0.9 * (0.5 - 0.5 * math.cos(2 * math.pi * phase)))

    def _live(self, life: Life) -> None:
        totals: dict[str, float] = {}
        about = f'job="{JOB}",instance="{life.instance}"'

        def add(name: str, labels: str, amount: float) -> None:
            if amount or name.endswith("_bucket"):  # as the agent: a counter gets no zeros
                key = f"{name}{{{about}{labels}}}"
                totals[key] = totals.get(key, 0.0) + amount

        for minute in range(life.start, life.end):
            if self.effect.silent and minute >= self.effect.since:
                break
            overlapping = sum(other.start <= minute < other.end for other in self.lives) or 1
            for route in ROUTES:
                effect = self.effect.on(route, minute)
                expected = 60 * self.rate(minute) * route.share * effect.traffic / overlapping
                count = self._poisson(expected)
                if count:
                    self._requests(add, route, effect, count, minute - life.start)
            for key, value in totals.items():
                self._put(key, minute, value)
            self._put(f'{c.TARGET_INFO}{{{about},{c.VERSION}="{life.version}"}}', minute, 1)
        for minute in range(life.end, min(life.end + _KEPT_AFTER_END, self.minutes)):
            for key, value in totals.items():
                self._put(key, minute, value)

    def _requests(
        self, add: Callable[[str, str, float], None], route: Route, e: Effect, count: int, age: int
    ) -> None:
        where = f',{c.ROUTE}="{route.name}"'
        failed = self._binomial(count, e.errors)
        slow = self._binomial(count - failed, e.slow_share)
        median = route.seconds * e.latency + e.added_seconds
        for status, number, middle, sigma in (
            ("200", count - failed - slow, median, route.sigma),
            ("200", slow, 4.0, 0.1),
            ("500", failed, 0.01, 0.3),
        ):
            labels = f'{where},{c.STATUS}="{status}"'
            self._histogram(add, c.REQUESTS, labels, HTTP_DURATION_BOUNDS, number, middle, sigma)
        statements = sum(self.random.choice(route.statements) for _ in range(count)) + e.statements * count
        repeated = self._poisson(count * (route.repeated + e.repeated))
        add(c.DB_CALLS.count, where, count)
        add(c.DB_CALLS.sum, where, statements + self._poisson(count * e.repeated))
        add(c.DB_REPEATED, where, repeated)
        if route.embeds:
            hits = self._binomial(count, e.hit_rate * (1 - math.exp(-(age + 1) / 5)))
            cache = f'{where},{c.CACHE}="embedding"'
            add(c.CACHE_LOOKUPS, cache, count)
            add(c.CACHE_HITS, cache, hits)
            add(c.EMBEDDING_CALLS, where, self._poisson((count - hits) * e.embeddings))
            self._histogram(
                add, c.FIRST_CHUNK, f',{c.MODEL}="gpt-4o"', CHUNK_BOUNDS, count, 0.4 * e.first_chunk, 0.4
            )
        if route.cost:
            for tenant, share in TENANTS:
                money = count * share * route.cost * e.cost * self.random.gauss(1, 1.2 / math.sqrt(count))
                add(c.COST, f'{where},{c.MODEL}="gpt-4o",{c.TENANT}="{tenant}"', max(0.0, money))
            if e.unpriced:
                add(c.UNPRICED, f',{c.MODEL}="brand-new"', count)

    def _histogram(  # noqa: PLR0917
        self,
        add: Callable[[str, str, float], None],
        histogram: c.Histogram,
        labels: str,
        bounds: Sequence[float],
        count: int,
        median: float,
        sigma: float,
    ) -> None:
        """Lognormal values, drawn bucket by bucket."""
        if not count:
            return
        left, below, passed = count, 0.0, 0
        for bound in bounds:
            share = 0.5 * (1 + math.erf(math.log(bound / median) / sigma / math.sqrt(2)))
            inside = self._binomial(left, min(1.0, (share - below) / max(1e-12, 1 - below)))
            left, below, passed = left - inside, share, passed + inside
            add(histogram.bucket, f'{labels},le="{float(bound)}"', passed)
        add(histogram.bucket, f'{labels},le="+Inf"', count)
        add(histogram.count, labels, count)
        add(histogram.sum, labels, count * median)

    def _collector(self) -> None:
        own = f'job="{c.COLLECTOR_JOB}",instance="collector:8888"'
        shown = f'job="{c.SCRAPE_JOB}",instance="collector:8889"'
        for minute in range(self.minutes):
            down = minute in self.collector_restarts or (
                self.effect.collector_down and minute >= self.effect.since
            )
            for labels in (own, shown):
                self._put(f"{c.UP}{{{labels}}}", minute, 0 if down else 1)
            if down:
                continue
            self._put(f"{c.SAMPLES}{{{shown}}}", minute, 3000)
            exporter = f'{own},exporter="prometheus"'
            self._put(f"{c.QUEUE_SIZE}{{{exporter}}}", minute, self._poisson(2))
            self._put(f"{c.DEAD_LETTERS}{{{exporter}}}", minute, 0)
            self._put(f"{c.CLOCK_LEAD}{{{exporter}}}", minute, 0.02)
            self._put(f'{c.REFUSED_SPANS}{{{own},receiver="otlp"}}', minute, 0)
            self._put(f'{c.LOG_BYTES}{{{own},data_type="traces"}}', minute, self._poisson(40))
            self._put(f'{c.LOG_LIMIT}{{{own},data_type="traces"}}', minute, 1000)

    def _put(self, key: str, minute: int, value: float) -> None:
        self.series.setdefault(key, [None] * self.minutes)[minute] = value

    def _poisson(self, mean: float) -> int:
        if mean > 50:
            return max(0, round(self.random.gauss(mean, math.sqrt(mean))))
        limit, count, product = math.exp(-mean), 0, self.random.random()
        while product > limit:
            count, product = count + 1, product * self.random.random()
        return count

    def _binomial(self, n: int, p: float) -> int:
        if n <= 0 or p <= 0:
            return 0
        if p >= 1:
            return n
        spread = math.sqrt(n * p * (1 - p))
        if spread > 4:
            return min(n, max(0, round(self.random.gauss(n * p, spread))))
        return sum(self.random.random() < p for _ in range(n))


def notation(values: Sequence[float | None]) -> str:
    """The samples as promtool reads them: runs of one value are ``5x9``, absence is ``_`` or ``stale``."""
    parts: list[str] = []
    at = 0
    while at < len(values):
        run = at
        while run + 1 < len(values) and values[run + 1] == values[at]:
            run += 1
        value, more = values[at], run - at
        if value is None:
            ended = at > 0
            parts += (["stale"] if ended else []) + ([f"_x{more + 1 - ended}"] if more + 1 - ended else [])
        else:
            parts.append(f"{value:.9g}" + (f"x{more}" if more else ""))
        at = run + 1
    return " ".join(parts)
