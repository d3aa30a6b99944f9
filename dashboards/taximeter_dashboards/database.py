"""Database: how many statements a request sends, how long they take, and how the server bears it."""

from __future__ import annotations

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards import standard as s
from taximeter_dashboards.limits import Limits
from taximeter_dashboards.model import Dashboard, Panel, Query, Row

EXPORTER = "prometheus-postgres-exporter"


def dashboard(limits: Limits) -> Dashboard:
    """The page that alerts about queries link to."""
    return Dashboard(
        "database",
        "Taximeter / Database",
        "Queries per request, N+1 queries, the share of a request spent in the database, and the server.",
        (s.JOB, s.ROUTE),
        (_requests(limits), _statements(), _pool(), _server(limits)),
    )


def _requests(limits: Limits) -> Row:
    requests = p.total(p.rate(c.DB_CALLS.count), c.ROUTE)
    repeated = p.total(p.rate(c.DB_REPEATED), c.ROUTE)
    return Row(
        "What a request asks",
        (
            Panel(
                "Queries per request",
                "Statements per request, mean, by route. It is deterministic: a step up is a change of code "
                "or "
                "a cache that stopped hitting. Open a trace of the route and count its equal spans.",
                "short",
                (Query(p.mean(c.DB_CALLS, c.ROUTE), s.legend(c.ROUTE)),),
                limit=limits.db_calls,
                decimals=1,
            ),
            Panel(
                "Repeated statements per request (N+1)",
                "Statements whose text the same request had already sent. More than a few per request is an "
                "N+1 query: fetch the rows in one statement (JOIN, or WHERE id = ANY). The runbook of "
                "TaximeterRepeatedStatements leads from here to the line of code.",
                "short",
                (Query(p.ratio(repeated, requests), s.legend(c.ROUTE)),),
                decimals=1,
            ),
            Panel(
                "Queries per request, P95",
                "The requests with most statements. Far above the mean: the number grows with the data "
                "(one statement per row), which the mean hides while tables are small.",
                "short",
                (
                    Query(
                        p.quantile(0.95, p.rate(c.DB_CALLS.bucket), c.ROUTE),
                        s.legend(c.ROUTE),
                        exemplars=True,
                    ),
                ),
            ),
            Panel(
                "Share of the request spent in the database",
                "Seconds in statements per second of request; above 100 % they run in parallel. High: make "
                "statements fewer or faster (index). Low with a slow route: look at the models instead. "
                "No line: under 100 ms of requests in the window.",
                "percentunit",
                (Query(p.share_of_request(c.DB_SECONDS, c.ROUTE), s.legend(c.ROUTE)),),
                see=("overview",),
            ),
        ),
    )


def _statements() -> Row:
    buckets = p.rate(c.DB_OPERATIONS.bucket, scope=p.JOBS)
    count = p.rate(c.DB_OPERATIONS.count, scope=p.JOBS)
    over = "$__range"
    each = {
        "calls/s": p.rate(c.DB_OPERATIONS.count, scope=p.JOBS, window=over),
        "busy": p.rate(c.DB_OPERATIONS.sum, scope=p.JOBS, window=over),
    }
    slowest = p.quantile(0.95, p.rate(c.DB_OPERATIONS.bucket, scope=p.JOBS, window=over), c.DB_SUMMARY)
    return Row(
        "Statements",
        (
            Panel(
                "Statement time, P95",
                "By operation. Up for all: the server (CPU, I/O, locks). Up for one: a plan changed or an "
                "index "
                "is missing; `taximeter report` lists the slowest statements.",
                "s",
                (Query(p.quantile(0.95, buckets, c.DB_OPERATION), s.legend(c.DB_OPERATION), exemplars=True),),
                width=8,
            ),
            Panel(
                "Statements",
                "Per second, by operation. Rising faster than requests: see 'Queries per request' above.",
                "ops",
                (Query(p.total(count, c.DB_OPERATION), s.legend(c.DB_OPERATION)),),
                stacked=True,
                width=8,
            ),
            Panel(
                "Time in statements",
                "Seconds of statement time per second, by operation: how many connections are busy on "
                "average. "
                "The largest is where an improvement pays.",
                "short",
                (
                    Query(
                        p.total(p.rate(c.DB_OPERATIONS.sum, scope=p.JOBS), c.DB_OPERATION),
                        s.legend(c.DB_OPERATION),
                    ),
                ),
                stacked=True,
                width=8,
            ),
            Panel(
                "Slow statements",
                "Every statement by its summary, over the time range; click a heading to sort. Much time "
                "with a low P95: sent too often (N+1, no cache). A high P95: look at its plan, and for an "
                "index. `taximeter report` has its text and a trace.",
                "short",
                (
                    Query(f"{slowest} >= 0", "P95"),
                    Query(
                        f"{p.total(each['busy'], c.DB_SUMMARY)} "
                        f"/ ({p.total(each['calls/s'], c.DB_SUMMARY)} > 0)",
                        "mean",
                    ),
                    Query(p.total(each["calls/s"], c.DB_SUMMARY), "calls/s"),
                    Query(
                        f"{p.total(each['busy'], c.DB_SUMMARY)} "
                        f"/ on () group_left () ({p.total(each['busy'])} > 0)",
                        "of all time",
                    ),
                ),
                kind="table",
                units_by_column={"P95": "s", "mean": "s", "calls/s": "ops", "of all time": "percentunit"},
                headings={c.DB_SUMMARY: "statement"},
                sort_by="of all time",
                width=24,
                height=11,
            ),
        ),
    )


def _pool() -> Row:
    return Row(
        "The service's pool",
        (
            Panel(
                "Wait for a connection, P95",
                "By pool. Above a few milliseconds the pool is too small for the traffic, or requests hold "
                "connections while they wait for a model: give them back before the call.",
                "s",
                (
                    Query(
                        p.quantile(0.95, p.rate(c.CONNECTION_WAIT.bucket, scope=p.JOBS), c.POOL),
                        s.legend(c.POOL),
                        exemplars=True,
                    ),
                ),
            ),
            Panel(
                "Share of the request spent waiting for a connection",
                "By route. The route on top is not always the one that holds them: look for slow statements "
                "and for transactions that stay open. No line: under 100 ms of requests in the window.",
                "percentunit",
                (Query(p.share_of_request(c.POOL_WAIT, c.ROUTE), s.legend(c.ROUTE)),),
            ),
        ),
    )


def _server(limits: Limits) -> Row:
    by = c.PG_DATABASE
    named = f'{{{by}!=""}}'  # what all databases share has no name, and would have no legend
    hit = f"sum by ({by}) (rate({c.PG_BLOCKS_HIT}{named}[{p.WINDOW}]))"
    read = f"sum by ({by}) (rate({c.PG_BLOCKS_READ}{named}[{p.WINDOW}]))"
    return Row(
        "The server (prometheus-postgres-exporter)",
        (
            Panel(
                "Connections used",
                "Share of max_connections. Near the line: give the service a smaller pool or use a pooler; "
                "when "
                "it is full new connections fail. Empty: scrape prometheus-postgres-exporter.",
                "percentunit",
                (
                    Query(
                        f"sum by ({c.INSTANCE}) ({c.PG_BACKENDS}) / on ({c.INSTANCE}) {c.PG_MAX_CONNECTIONS}",
                        s.legend(c.INSTANCE),
                        needs=EXPORTER,
                    ),
                ),
                limit=limits.connections,
                width=8,
            ),
            Panel(
                "Connections by state",
                "`active` near the number of cores is a busy server; many `idle in transaction` hold locks: "
                "find who leaves transactions open.",
                "short",
                (Query(f"sum by ({c.PG_STATE}) ({c.PG_ACTIVITY})", s.legend(c.PG_STATE), needs=EXPORTER),),
                stacked=True,
                width=8,
            ),
            Panel(
                "Blocks found in memory",
                "Share of blocks read from shared buffers. A fall under 95 % with slower statements: the "
                "data "
                "no longer fits; look for sequential scans, then for memory.",
                "percentunit",
                (Query(f"{hit} / (({hit} + {read}) > 0)", s.legend(by), needs=EXPORTER),),
                width=8,
            ),
            Panel(
                "Transactions",
                "Commits and rollbacks per second. Rollbacks up: the service's errors, or lock time-outs.",
                "ops",
                (
                    Query(f"sum(rate({c.PG_COMMITS}[{p.WINDOW}]))", "commits", needs=EXPORTER),
                    Query(f"sum(rate({c.PG_ROLLBACKS}[{p.WINDOW}]))", "rollbacks", needs=EXPORTER),
                ),
                width=8,
                height=6,
            ),
            Panel(
                "CPU of the database's host",
                "Share of the host's CPU that is busy. Above four fifths: the statements with most time in "
                "'Time in statements' first. Needs prometheus-node-exporter on that host.",
                "percentunit",
                (
                    Query(
                        f'1 - avg by ({c.INSTANCE}) (rate({c.NODE_CPU}{{mode="idle"}}[{p.WINDOW}]))',
                        s.legend(c.INSTANCE),
                        needs="prometheus-node-exporter",
                    ),
                ),
                limit=limits.connections,
                width=8,
                height=6,
            ),
            Panel(
                "Waiting at the pooler",
                "Clients that wait for a connection of PgBouncer. Above 0 for long: its pool is too small, "
                "or "
                "transactions are too long. Needs prometheus-pgbouncer-exporter.",
                "short",
                (
                    Query(
                        f"sum by ({c.INSTANCE}) ({c.PGBOUNCER_WAITING})",
                        s.legend(c.INSTANCE),
                        needs="prometheus-pgbouncer-exporter",
                    ),
                ),
                width=8,
                height=6,
            ),
        ),
    )
