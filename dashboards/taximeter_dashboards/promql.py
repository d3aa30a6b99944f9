"""Small pieces of PromQL, so that every panel counts, rates and divides in the same safe way.

``rate`` always over ``$__rate_interval`` (which Grafana makes at least four scrapes long) unless a
panel's meaning is a window of its own; a ratio's numerator is 0 where its series does not exist yet
(no error so far, no hit so far) and its denominator is above 0, so a ratio is absent only where
nothing was counted at all.

A rate does not see a series' first value. Two metrics with the same labels lose theirs together; where
they differ (a route's requests are told apart by status, its statements are not), the one loses a
request that the other has, and around a restart their ratio is anything. Such pairs take `gained`.
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


def gained(metric: str, *by: str) -> str:
    """What a counter grew by in the window, summed; a series that is new in it grew from 0.

    New is what the window before has nothing of. So all metrics of a process speak of the same requests
    from its first export on, and where all is new at once (Prometheus itself began), of its whole life.
    """
    series = select(metric)
    before = f"count_over_time({series}[{WINDOW}] offset {WINDOW})"
    grown = f"increase({series}[{WINDOW}]) and {before}"
    return total(f"({grown}) or (max_over_time({series}[{WINDOW}]) unless {before})", *by)


def total(expression: str, *by: str) -> str:
    """Summed, by the given labels or altogether."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def quantile(q: float, rated_buckets: str, *by: str) -> str:
    """A quantile of a histogram's rated buckets."""
    return f"histogram_quantile({q:g}, sum by ({', '.join((*by, 'le'))}) ({rated_buckets}))"


def mean(histogram: c.Histogram, *by: str) -> str:
    """Per observation, of a histogram of what a request causes: queries per request, money per request."""
    return f"{total(rate(histogram.sum), *by)} / ({total(rate(histogram.count), *by)} > 0)"


def ratio(part: str, whole: str, floor: float = 0) -> str:
    """``part / whole``, both summed by the same labels; 0 where there is no part yet.

    Absent where the whole is not above the floor: of too little, a share says nothing.
    """
    return f"({part} or 0 * {whole}) / ({whole} > {floor:g})"


def share_of_request(seconds: str, *by: str) -> str:
    """Part of the requests' time that a counter of seconds takes: of at least 100 ms of requests a window."""
    return ratio(gained(seconds, *by), gained(c.REQUESTS.sum, *by), 0.1)
