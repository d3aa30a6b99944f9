"""The limits that alerts and dashboards hold a service against, and their defaults.

One object, so that both show the same line. Where a budget sets a limit, it replaces the default.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of a service. Ratios are 0 to 1, times seconds, money USD."""

    slow_seconds: float = 2.0
    """A slow request; must be a bucket bound of ``http.server.request.duration``."""
    latency_objective: float = 0.99
    """Share of requests that are to be faster than ``slow_seconds``."""
    availability_objective: float = 0.995
    """Share of requests that are not to fail (status 5xx)."""
    latency_factor: float = 1.5
    latency_delta_seconds: float = 0.1
    """A regression of P95 is more than the factor and more than the difference."""
    db_calls_factor: float = 1.25
    db_calls_delta: float = 0.8
    """One statement more on a route of three is a regression; noise of a mixed route is not."""
    repeated_factor: float = 1.5
    repeated_delta: float = 4.0
    """Repeated statements per request that are more than before: an N+1 query came in."""
    embedding_factor: float = 1.5
    embedding_delta: float = 0.3
    cost_factor: float = 2.0
    cost_delta_usd_per_hour: float = 0.5
    """A model whose money per hour is more than the factor and the difference above its own median."""
    usd_per_day: float = 50.0
    usd_per_month: float = 1000.0
    tenant_usd_per_day: float = 20.0
    cache_hit_ratio: float = 0.8
    cache_drop: float = 0.25
    """Hit ratio lost against the cache's own median: an alert where the target was never reached."""
    first_chunk_seconds: float = 2.0
    min_requests_per_second: float = 0.1
    """Routes with less are grouped, and looked at over hours."""
    min_job_requests_per_second: float = 0.02
    database_connections_ratio: float = 0.8
    collector_queue: float = 100
    collector_log_ratio: float = 0.5
    series_limit: float = 50_000
