"""The provider's temper: how long things take, and which first attempts fail.

Everything is drawn from one seed. A request that its sender named (``request`` in the W3C baggage) meets
the same weather in every run, whatever runs beside it; others draw in order of arrival, so that a run
against a sequential client repeats exactly. Retries of model calls never fail: a client that retries once
always succeeds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from .models import Model

_SIGMA = 0.28  # of the logarithm: P95 is about 1.6 times the median


@dataclass(frozen=True, slots=True)
class Fault:
    """An injected failure, with the wait that the answer's ``retry-after-ms`` asks for."""

    status: int  # 429 or 500
    retry_after_ms: int


class Weather:
    """Latencies in seconds, already scaled, and faults."""

    def __init__(self, seed: int | str, latency_scale: float, fail_rate: float) -> None:
        self._seed = seed
        self._scale = latency_scale
        self._fail_rate = fail_rate
        self._latency = random.Random(f"{seed}:latency")
        self._faults = random.Random(f"{seed}:faults")
        self._booking_faults = random.Random(f"{seed}:booking")

    def over(self, *names: object) -> Weather:
        """The weather over one attempt: of the request named first, then what tells its attempts apart."""
        if not names[0]:
            return self
        return Weather(f"{self._seed}:{names}", self._scale, self._fail_rate)

    def first_token_s(self, model: Model) -> float:
        return model.first_token_s * self._lognormal() * self._scale

    def per_token_s(self, model: Model) -> float:
        """Time between two output tokens; 0 for a model that produces none."""
        if model.tokens_per_s == 0:
            return 0.0
        return self._lognormal() * self._scale / model.tokens_per_s

    def booking_s(self) -> float:
        """The third-party booking service: 0.9 to 2.6 s, most of them near 1.4."""
        return min(2.6, max(0.9, 1.4 * self._lognormal())) * self._scale

    def booking_fails(self) -> bool:
        """The booking service is down now and then, and nobody retries it: five times as often as
        a model call fails at first."""
        return self._booking_faults.random() < 5 * self._fail_rate

    def fault(self, retry_count: int) -> Fault | None:
        """The fate of the next attempt; only first attempts draw from the seed."""
        if retry_count > 0 or self._faults.random() >= self._fail_rate:
            return None
        status = 429 if self._faults.random() < 0.6 else 500
        return Fault(status, self._faults.randint(20, 80))

    def _lognormal(self) -> float:
        return math.exp(self._latency.gauss(0.0, _SIGMA))
