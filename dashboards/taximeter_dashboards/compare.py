"""Before and after: two versions, or two windows, side by side against the plan's targets.

Versions are told apart by ``service.version`` in ``target_info``, joined by instance: one series per
(job, instance) and version, so a restart under the same instance id does not break the join. A figure
here is an estimate that ignores chance; ``taximeter compare`` gives intervals and a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards import standard as s
from taximeter_dashboards.limits import Limits
from taximeter_dashboards.model import Dashboard, Limit, Panel, Query, Row, Variable

BEFORE = Variable("before", "Version before", c.TARGET_INFO, c.VERSION, many=False)
AFTER = Variable("after", "Version after", c.TARGET_INFO, c.VERSION, many=False)
AGO = Variable("ago", "Compare with", "", "", many=False, options=("1d", "1h", "7d", "28d"))
WINDOW = "$__range"

#: A rate of a metric with matchers, over the time range, in one of the two conditions.
Rated = Callable[..., str]


@dataclass(frozen=True)
class Figure:
    """One line of the plan's table of targets."""

    title: str
    unit: str
    target: float
    """Wanted change, as a share: -0.4 is 40 % less. 0: shown without a line."""
    expr: Callable[[Rated], str]
    advice: str
    decimals: int = 2


def _per_request(metric: str) -> Callable[[Rated], str]:
    return lambda rated: f"sum({rated(metric)}) / (sum({rated(c.REQUESTS.count)}) > 0)"


def _latency(q: float) -> Callable[[Rated], str]:
    return lambda rated: f"histogram_quantile({q:g}, sum by (le) ({rated(c.REQUESTS.bucket)}))"


def _hit_rate(rated: Rated) -> str:
    return f"(sum({rated(c.CACHE_HITS)}) or vector(0)) / (sum({rated(c.CACHE_LOOKUPS)}) > 0)"


FIGURES = (
    Figure("P50", "s", -0.4, _latency(0.5), "Less is what every guest feels.", 3),
    Figure("P95", "s", -0.35, _latency(0.95), "Less is what the unlucky feel.", 3),
    Figure(
        "Queries per request",
        "short",
        -0.3,
        lambda rated: f"sum({rated(c.DB_CALLS.sum)}) / (sum({rated(c.DB_CALLS.count)}) > 0)",
        "More after a release: an N+1 query; see Database.",
    ),
    Figure(
        "Embedding calls per request",
        "short",
        -0.5,
        _per_request(c.EMBEDDING_CALLS),
        "More after a release: a cache key changed; see Embeddings and caches.",
        3,
    ),
    Figure(
        "Tokens per request",
        "short",
        -0.25,
        lambda rated: (
            f"(sum({rated(c.TOKENS_INPUT)}) + sum({rated(c.TOKENS_OUTPUT)}))"
            f" / (sum({rated(c.REQUESTS.count)}) > 0)"
        ),
        "More after a release: a longer prompt or history.",
        0,
    ),
    Figure(
        "Money per request",
        "currencyUSD",
        -0.5,
        _per_request(c.COST),
        "More after a release: a dearer model, longer prompts, or a loop; see Models and cost.",
        5,
    ),
    Figure("Cache hit rate", "percentunit", 0, _hit_rate, "The plan's target is 80 % or more."),
)


def dashboard(limits: Limits) -> Dashboard:
    """The page to open at a deploy."""
    return Dashboard(
        "compare",
        "Taximeter / Before and after",
        "Two versions, or now and some time ago, against the targets of the plan.",
        (s.JOB, s.ROUTE, BEFORE, AFTER, AGO),
        (
            _row(
                "Two versions",
                ("$before", _version("before")),
                ("$after", _version("after")),
                "of the versions",
            ),
            _row("Two windows", ("$ago ago", _window("$ago")), ("now", _window("")), "of the range, shifted"),
        ),
        since="now-1h",
    )


def _version(variable: str) -> Rated:
    this = p.select(c.TARGET_INFO, f'{c.VERSION}="${variable}"', scope=p.JOBS)
    # last_over_time: an instance that was replaced during the range still counts.
    join = f"* on ({c.JOB}, {c.INSTANCE}) group_left () " + (
        f"max by ({c.JOB}, {c.INSTANCE}) (last_over_time({this}[{WINDOW}]))"
    )
    return lambda metric, *matchers: f"{p.rate(metric, *matchers, window=WINDOW)} {join}"


def _window(offset: str) -> Rated:
    return lambda metric, *matchers: p.rate(metric, *matchers, window=WINDOW, offset=offset)


def _row(title: str, before: tuple[str, Rated], after: tuple[str, Rated], what: str) -> Row:
    (left, rated_before), (right, rated_after) = before, after
    panels = []
    for figure in FIGURES:
        old, new = figure.expr(rated_before), figure.expr(rated_after)
        panels.append(
            Panel(
                figure.title,
                f"{figure.title} {what}. {figure.advice} `taximeter compare` says whether the difference is "
                "more than chance.",
                figure.unit,
                (Query(old, left), Query(new, right)),
                kind="bars",
                decimals=figure.decimals,
                width=8,
                height=7 if figure is FIGURES[-1] else 5,
            )
        )
    changes = tuple(
        Query(f"({figure.expr(rated_after)}) / ({figure.expr(rated_before)} > 0) - 1", _target(figure))
        for figure in FIGURES
        if figure.target
    )
    panels.append(
        Panel(
            "Change against the plan's targets",
            "Change from before to after, per request; the plan's target is in the name. Positive is worse: "
            "go to the figure's own panel, then to the dashboard it names.",
            "percentunit",
            changes,
            kind="bars",
            ends=(-1, 1),
            limit=Limit(0.0, "no change"),
            width=16,
            height=7,
            see=("database", "money", "caches"),
        )
    )
    return Row(title, tuple(panels))


def _target(figure: Figure) -> str:
    """Short, or it is clipped where the bar begins: the panel says that all is per request."""
    return f"{figure.title.removesuffix(' per request')} (target {figure.target:+.0%})"
