"""What counters and histograms grew by in a window, exactly; and quantiles within their buckets' bounds.

PromQL's ``increase()`` extrapolates to the window's edges and misses a series' first value: of a new
model's first $500 it sees $0. So the growth of a series is taken as its last value less its last value before
the window (none: 0), and where a series was reset in between, its raw samples are added up.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taximeter_analysis.inference.quantiles import rank_of
from taximeter_analysis.model import P95_FIRM_FROM, P99_FIRM_FROM, Quantiles, Within
from taximeter_analysis.readers.web import Web
from taximeter_analysis.store import StoreError

#: How far before the window a series' last value is looked for.
LOOKBACK_S = 3600
Key = tuple[str, ...]


def text(value: str) -> str:
    """A PromQL string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@dataclass(frozen=True)
class Growth:
    """Asks one Prometheus about one window. ``selector``: matchers without braces, may be empty."""

    web: Web
    since: float
    until: float
    selector: str = ""

    @property
    def range_ms(self) -> int:
        return max(1000, round((self.until - self.since) * 1000))

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query at the window's end."""
        answer = self.web.json("/api/v1/query", query=expression, time=f"{self.until:.3f}")
        return _result(answer)

    def steps(self, expression: str, step_s: float) -> list[dict[str, Any]]:
        """A range query over the window, and to the end of the step that the window ends in."""
        last = self.since + math.ceil((self.until - self.since) / step_s) * step_s
        answer = self.web.json(
            "/api/v1/query_range",
            query=expression,
            start=f"{self.since:.3f}",
            end=f"{last:.3f}",
            step=step_s,
        )
        return _result(answer)

    def of(self, name: str, *by: str) -> dict[Key, float]:
        """How much a counter grew, by these labels (an absent label is the empty text)."""
        series = f"{name}{{{self.selector}}}"
        if self.query(f"count(resets({series}[{self.range_ms}ms]) > 0)"):
            return self._from_samples(series, by)
        before, ago = f"[{LOOKBACK_S}s] offset {self.range_ms}ms", f"[{self.range_ms + LOOKBACK_S * 1000}ms]"
        grown: dict[Key, float] = defaultdict(float)
        for sign, expression in (
            (1, f"last_over_time({series}{ago})"),
            (-1, f"last_over_time({series}{before})"),
        ):
            for item in self.query(f"sum by ({', '.join(by)}) ({expression})"):
                grown[_key(item["metric"], by)] += sign * float(item["value"][1])
        return {key: value for key, value in grown.items() if value > 0}

    def _from_samples(self, series: str, by: Sequence[str]) -> dict[Key, float]:
        grown: dict[Key, list[float]] = defaultdict(list)
        for item in self.query(f"{series}[{self.range_ms + LOOKBACK_S * 1000}ms]"):
            last = 0.0
            for instant, value in item["values"]:
                number = float(value)
                if instant > self.since:
                    grown[_key(item["metric"], by)].append(number - last if number >= last else number)
                last = number
        return {key: total for key, values in grown.items() if (total := math.fsum(values)) > 0}


def _result(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise StoreError("the server's answer is none of Prometheus's; is the address right?")
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def _key(metric: Mapping[str, str], by: Sequence[str]) -> Key:
    return tuple(metric.get(name, "") for name in by)


@dataclass(frozen=True)
class Buckets:
    """A histogram's growth: how many observations lie at or below each bound, the last one infinite."""

    bounds: tuple[float, ...]
    at_most: tuple[float, ...]

    @classmethod
    def of(cls, counts: Mapping[str, float]) -> Buckets:
        """From ``le`` label to count; a bound that several series spell differently (2, 2.0) is one."""
        sums: dict[float, float] = defaultdict(float)
        for bound, value in counts.items():
            sums[float(bound)] += value
        ordered = sorted(sums.items())
        reached, most = [], 0.0
        for _, value in ordered:  # a scrape between two series' updates must not make it shrink
            most = max(most, value)
            reached.append(most)
        return cls(tuple(bound for bound, _ in ordered), tuple(reached))

    @property
    def count(self) -> int:
        return round(self.at_most[-1]) if self.at_most else 0

    def within(self, q: float) -> Within:
        """The bucket that the quantile lies in, and its place by linear interpolation."""
        rank = rank_of(q, self.count)
        index = next(i for i, reached in enumerate(self.at_most) if round(reached) >= rank)
        low = self.bounds[index - 1] if index else 0.0
        high = self.bounds[index]
        if math.isinf(high):
            return Within(q, low, low, None)
        before = self.at_most[index - 1] if index else 0.0
        share = (rank - before) / max(self.at_most[index] - before, 1e-9)
        return Within(q, low + (high - low) * min(1.0, max(0.0, share)), low, high)

    def over(self, limit: float) -> int | None:
        """How many were above a bound of the histogram; None for what is no bound of it."""
        for bound, reached in zip(self.bounds, self.at_most, strict=True):
            if math.isclose(bound, limit):
                return round(self.at_most[-1] - reached)
        return None

    def quantiles(self) -> Quantiles:
        """P50, P95 and P99, each with the bucket that it is in."""
        count = self.count
        if not count:
            return Quantiles(0, None, None, None, None, p95_weak=True, p99_weak=True)
        p50, p95, p99 = found = tuple(self.within(q) for q in (0.5, 0.95, 0.99))
        weak95, weak99 = count < P95_FIRM_FROM, count < P99_FIRM_FROM
        return Quantiles(count, p50.value, p95.value, p99.value, None, weak95, weak99, found)
