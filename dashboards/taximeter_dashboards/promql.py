"""Small pieces of PromQL, so that every panel counts, rates and divides in the same safe way.

``rate`` always over ``$__rate_interval`` (which Grafana makes at least four scrapes long) unless a
panel's meaning is a window of its own; a ratio's numerator is 0 where its series does not exist yet
(no error so far, no hit so far) and its denominator is above 0, so a ratio is absent only where
nothing was counted at all.
"""

from __future__ import annotations

from taximeter_collector.prometheus import catalogue as c

WINDOW = "$__rate_interval"
ROUTES = f'{c.JOB}=~"$job",{c.ROUTE}=~"$route"'
JOBS = f'{c.JOB}=~"$job"'


def select(metric: str, *matchers: str, scope: str = ROUTES) -> str:
    """The metric's series within the dashboard's variables."""
    return f"{metric}{{{','.join((scope, *matchers))}}}"


def rate(metric: str, *matchers: str, scope: str = ROUTES, window: str = WINDOW, offset: str = "") -> str:
    """Per second, of a counter."""
    shift = f" offset {offset}" if offset else ""
    return f"rate({select(metric, *matchers, scope=scope)}[{window}]{shift})"


def total(expression: str, *by: str) -> str:
    """Summed, by the given labels or altogether."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def quantile(q: float, rated_buckets: str, *by: str) -> str:
    """A quantile of a histogram's rated buckets."""
    return f"histogram_quantile({q:g}, sum by ({', '.join((*by, 'le'))}) ({rated_buckets}))"


def mean(histogram: c.Histogram, *by: str) -> str:
    """Per observation, of a histogram of what a request causes: queries per request, money per request."""
    return f"{total(rate(histogram.sum), *by)} / ({total(rate(histogram.count), *by)} > 0)"


def ratio(part: str, whole: str) -> str:
    """``part / whole``, both summed by the same labels; 0 where there is no part yet."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"
