"""One pass over the selected requests: their sums by service, method, route and tenant.

Totals, routes and tenants are sums of these sums, so a hundred million spans are read once for all
three. Deviations add up too, from each group's own (Chan, Golub and LeVeque's rule), without the
cancellation that sums of squares would bring.
"""

from __future__ import annotations

from taximeter_analysis.store import Store

KEY = ("service", "method", "route", "tenant")

_COUNTS = (
    "db_calls", "model_calls", "model_attempts", "embedding_calls", "input_tokens", "output_tokens",
    "cached_tokens", "unpriced_calls", "cache_lookups", "cache_hits", "embedding_inputs",
    "embedding_duplicates", "seen_db_calls", "seen_model_calls", "seen_embedding_calls", "seen_input_tokens",
    "seen_output_tokens", "seen_cached_tokens", "duration_ns",
)  # fmt: skip
_REALS = (
    "db_s", "cost_usd", "split_db_s", "split_model_s", "split_http_s", "seen_cost_usd",
)  # fmt: skip
#: The columns of a `Spread`, in its order.
SPREAD = ("db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens", "cost_usd")

_ROLLED = f"""
CREATE OR REPLACE TEMP TABLE rolled AS
SELECT {", ".join(KEY)}, count(*) AS requests, count(*) FILTER (failed) AS errors,
    count(*) FILTER (streamed) AS streams, count(streamed) AS streamable, max(duration_ns) AS longest_ns,
    count(*) FILTER (derived) AS derived, count(*) FILTER (duration_ns >= getvariable('slow_ns')) AS slow,
    count(first_byte_s) AS first_bytes, min(start_ns) AS first_ns, max(end_ns) AS last_ns,
    {", ".join(f"sum({name}) AS {name}" for name in _COUNTS)},
    {", ".join(f"fsum({name}) AS {name}" for name in _REALS)},
    {", ".join(f"count({name}) AS n_{name}, var_pop({name}) AS var_{name}" for name in SPREAD)}
FROM req GROUP BY ALL"""


def roll_up(store: Store) -> None:
    """Make the table ``rolled`` for the present selection, once."""
    if "rolled" not in store.kept:
        store.rows(_ROLLED)
        store.kept["rolled"] = True


def with_means(key: str) -> str:
    """``rolled`` with the common mean of each group of ``key`` (columns; empty: all): ``mid_<name>``."""
    window = f"OVER (PARTITION BY {key})" if key else "OVER ()"
    mids = ", ".join(
        f"{name} / nullif(n_{name}, 0) AS mean_{name}, "
        f"sum({name}) {window} / nullif(sum(n_{name}) {window}, 0) AS mid_{name}"
        for name in SPREAD
    )
    return f"(SELECT *, {mids} FROM rolled)"


def deviation(name: str) -> str:
    """The standard deviation of a column over the requests of a group of `with_means`; null: under two."""
    squares = f"sum(n_{name} * (var_{name} + (mean_{name} - mid_{name}) ** 2))"
    return f"CASE WHEN sum(n_{name}) > 1 THEN sqrt({squares} / (sum(n_{name}) - 1)) END"
