"""Models and cost: what is spent, on which model, by which route and tenant, and where it leads."""

from __future__ import annotations

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards import standard as s
from taximeter_dashboards.limits import Limits
from taximeter_dashboards.model import Dashboard, Panel, Query, Row

SCOPE = f'{p.ROUTES},{c.MODEL}=~"$model",{c.TENANT}=~"$tenant"'
_MODELS = f'{p.JOBS},{c.MODEL}=~"$model"'


def dashboard(limits: Limits) -> Dashboard:
    """The page that alerts about money link to."""
    return Dashboard(
        "money",
        "Taximeter / Models and cost",
        "Money for models by model, route, operation and tenant; tokens, cached share, unpriced calls.",
        (s.JOB, s.ROUTE, s.MODEL, s.TENANT),
        (_now(limits), _who(limits), _tokens(), _calls()),
    )


def _now(limits: Limits) -> Row:
    day = f"sum(increase({p.select(c.COST, scope=SCOPE)}[1d]))"
    return Row(
        "Now",
        (
            Panel(
                "Per hour",
                "USD per hour at the present rate. Twice as much as usual: look at 'By model' for the one "
                "that "
                "grew, then at its route.",
                "currencyUSD",
                (Query(s.usd_per_hour(scope=SCOPE)),),
                kind="stat",
                decimals=2,
                width=6,
                height=4,
            ),
            Panel(
                "Last 24 hours",
                "USD spent in the last day, exactly: a counter of money, not an average of calls.",
                "currencyUSD",
                (Query(day),),
                kind="stat",
                limit=limits.usd_per_day,
                decimals=2,
                width=6,
                height=4,
            ),
            Panel(
                "Month, projected",
                "The present hourly rate for 30 days. A nightly batch misleads it: choose a whole day as "
                "time "
                "range to judge.",
                "currencyUSD",
                (Query(f"86400 * 30 * {p.total(p.rate(c.COST, scope=SCOPE, window='$__range'))}"),),
                kind="stat",
                limit=limits.usd_per_month,
                decimals=0,
                width=6,
                height=4,
            ),
            Panel(
                "Unpriced calls",
                "Calls per second whose model has no known price: their money is missing from every figure "
                "here. `taximeter prices` or TAXIMETER_PRICES_FILE adds it.",
                "ops",
                (
                    Query(
                        p.total(p.rate(c.UNPRICED, scope=_MODELS)),
                        empty_when_healthy="every model has a price",
                    ),
                ),
                kind="stat",
                width=6,
                height=4,
            ),
        ),
    )


def _who(limits: Limits) -> Row:
    return Row(
        "Who spends it (USD per hour)",
        (
            *(
                Panel(
                    f"By {what}",
                    advice,
                    "currencyUSD",
                    (Query(s.usd_per_hour(label, scope=SCOPE), s.legend(label)),),
                    stacked=True,
                    see=see,
                )
                for what, label, advice, see in (
                    (
                        "model",
                        c.MODEL,
                        "The dearest model on top. Growing without more requests: longer prompts, or traffic "
                        "moved to it. Ask whether simple questions need it.",
                        (),
                    ),
                    (
                        "route",
                        c.ROUTE,
                        "Which route costs. Open a trace of it and look at the spans' "
                        "gen_ai.usage.cost.amount.",
                        ("overview",),
                    ),
                    (
                        "operation",
                        c.OPERATION,
                        "Chat against embeddings. Embeddings that cost: see Embeddings and caches.",
                        ("caches",),
                    ),
                    (
                        "tenant",
                        c.TENANT,
                        "Who pays for whom. One that outgrows the rest: a bug in its integration, or abuse.",
                        (),
                    ),
                )
            ),
            Panel(
                "Per request, mean",
                "USD per request that called a model, by route. A step up at a version marker is a prompt, a "
                "model or a loop that changed.",
                "currencyUSD",
                (Query(p.mean(c.REQUEST_COST, c.ROUTE), s.legend(c.ROUTE)),),
                limit=limits.cost,
                decimals=4,
            ),
            Panel(
                "Per request, P95",
                "The dear requests: long conversations, retries, agents that loop. Click an exemplar.",
                "currencyUSD",
                (
                    Query(
                        p.quantile(0.95, p.rate(c.REQUEST_COST.bucket), c.ROUTE),
                        s.legend(c.ROUTE),
                        exemplars=True,
                    ),
                ),
                decimals=4,
            ),
        ),
    )  # fmt: skip


def _tokens() -> Row:
    kinds = ((c.TOKENS_INPUT, "input"), (c.TOKENS_CACHED, "of it cached"), (c.TOKENS_OUTPUT, "output"))
    cached = p.total(p.rate(c.TOKENS_CACHED), c.ROUTE)
    tokens = p.total(p.rate(c.TOKENS_INPUT), c.ROUTE)
    return Row(
        "Tokens",
        (
            Panel(
                "Tokens",
                "Per second. Input includes cached tokens and embeddings. Input growing with steady "
                "requests: "
                "prompts or histories grow.",
                "short",
                tuple(Query(p.total(p.rate(metric)), name) for metric, name in kinds),
                width=8,
            ),
            Panel(
                "Tokens per request",
                "Input and output per request, by route, mean. The plan's target is 25 % fewer.",
                "short",
                (
                    Query(f"{tokens} / ({p.total(s.REQUESTS, c.ROUTE)} > 0)", f"{s.legend(c.ROUTE)} input"),
                    Query(
                        f"{p.total(p.rate(c.TOKENS_OUTPUT), c.ROUTE)} / ({p.total(s.REQUESTS, c.ROUTE)} > 0)",
                        f"{s.legend(c.ROUTE)} output",
                    ),
                ),
                decimals=0,
                width=8,
                see=("compare",),
            ),
            Panel(
                "Input read from the provider's cache",
                "Share of input tokens billed at the cached price. Low with long prompts: put what never "
                "changes first, and keep it byte for byte the same.",
                "percentunit",
                (Query(p.ratio(cached, tokens), s.legend(c.ROUTE)),),
                width=8,
            ),
        ),
    )


def _calls() -> Row:
    calls = f"({p.total(p.rate(c.MODEL_CALLS))} + {p.total(p.rate(c.EMBEDDING_CALLS))})"
    return Row(
        "Calls",
        (
            Panel(
                "Model calls",
                "Per second, by model, failed calls included. A fall with steady requests: a cache or a "
                "provider's "
                "outage; a rise: a loop, or retries in your own code.",
                "ops",
                (Query(p.total(p.rate(c.MODEL_SECONDS.count, scope=_MODELS), c.MODEL), s.legend(c.MODEL)),),
                stacked=True,
                width=8,
            ),
            Panel(
                "Call duration, P95",
                "By model. Up for one provider: its status page; up with output tokens: answers grew longer.",
                "s",
                (
                    Query(
                        p.quantile(0.95, p.rate(c.MODEL_SECONDS.bucket, scope=_MODELS), c.MODEL),
                        s.legend(c.MODEL),
                        exemplars=True,
                    ),
                ),
                width=8,
            ),
            Panel(
                "Tries per call",
                "HTTP tries per logical call; 1 is no retry. Above 1.05: the provider limits or fails; "
                "retries cost time, and money if an answer was lost.",
                "short",
                (Query(f"{p.total(p.rate(c.MODEL_ATTEMPTS))} / ({calls} > 0)"),),
                decimals=2,
                width=8,
            ),
        ),
    )
