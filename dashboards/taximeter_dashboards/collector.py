"""Collector: does telemetry arrive, is it stored and passed on, and what is lost on the way."""

from __future__ import annotations

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards import standard as s
from taximeter_dashboards.limits import Limits
from taximeter_dashboards.model import Dashboard, Panel, Query, Row, Variable

COLLECTOR = Variable("collector", "Collector", c.UPTIME, c.INSTANCE)
SCOPE = f'{c.INSTANCE}=~"$collector"'
EXPORTER = "exporter"
KIND = "data_type"


def _rate(metric: str) -> str:
    return p.rate(metric, scope=SCOPE)


def dashboard(limits: Limits) -> Dashboard:
    """The page that alerts about telemetry link to."""
    return Dashboard(
        "collector",
        "Taximeter / Collector",
        "Rates, refusals, lag of every exporter, dead letters, memory, cardinality; losses in the agents.",
        (s.JOB, COLLECTOR),
        (_flow(), _trouble(), _state(limits), _agents()),
    )


def _flow() -> Row:
    return Row(
        "Flow",
        (
            Panel(
                "Answers Prometheus",
                "1: scraped, 0: not. At 0 the collector is down, or Prometheus has its address wrong: start "
                "it, "
                "then `taximeter verify`.",
                "short",
                (
                    Query(
                        f'{c.UP}{{{c.JOB}=~"{c.SCRAPE_JOB}|{c.COLLECTOR_JOB}"}}',
                        f"{s.legend(c.JOB)} {s.legend(c.INSTANCE)}",
                    ),
                ),
                kind="stat",
                width=6,
            ),
            Panel(
                "Received",
                "Per second, stored before they were acknowledged. To 0: no service sends; check its "
                "OTEL_EXPORTER_OTLP_ENDPOINT and its log.",
                "short",
                (
                    Query(p.total(_rate(c.ACCEPTED_SPANS)), "spans"),
                    Query(p.total(_rate(c.ACCEPTED_POINTS)), "metric points"),
                ),
                width=9,
            ),
            Panel(
                "Delivered",
                "Per second and exporter. Below 'Received' for long: that exporter lags, see 'Waiting'.",
                "short",
                (
                    Query(
                        f"{p.total(_rate(c.SENT_SPANS), EXPORTER)}",
                        f"{s.legend(EXPORTER)} spans",
                    ),
                    Query(
                        f"{p.total(_rate(c.SENT_POINTS), EXPORTER)}",
                        f"{s.legend(EXPORTER)} metric points",
                    ),
                ),
                width=9,
            ),
            Panel(
                "Waiting, by exporter",
                "Requests acknowledged and not yet delivered. They are safe in the log. Growing: the "
                "destination is down or too slow; the collector's log names the error.",
                "short",
                (
                    Query(
                        f"sum by ({EXPORTER}, {KIND}) ({p.select(c.QUEUE_SIZE, scope=SCOPE)})",
                        f"{s.legend(EXPORTER)} {s.legend(KIND)}",
                    ),
                ),
                width=24,
            ),
        ),
    )


def _trouble() -> Row:
    refused = ((c.REFUSED_SPANS, "spans"), (c.REFUSED_POINTS, "metric points"))
    return Row(
        "Trouble",
        (
            Panel(
                "Refused",
                "Per second: the log is full or memory is short. Senders retry, then drop: free the "
                "destination "
                "that lags, or raise memory_limiter or max_size_mib.",
                "short",
                tuple(Query(p.total(_rate(metric)), name) for metric, name in refused),
                width=8,
            ),
            Panel(
                "Dead letters",
                "Requests that a destination refused for good in the time range, by exporter. They lie in "
                "dead-letters/ of the data directory, with the reason.",
                "short",
                (
                    Query(
                        f"sum by ({EXPORTER}) (increase({p.select(c.DEAD_LETTERS, scope=SCOPE)}[$__range]))",
                        s.legend(EXPORTER),
                    ),
                ),
                width=8,
            ),
            Panel(
                "Failed deliveries that will be repeated",
                "Per second and exporter. Steady: the destination is down or misaddressed.",
                "short",
                (
                    Query(
                        p.total(_rate(c.EXPORT_RETRIES), EXPORTER),
                        s.legend(EXPORTER),
                        empty_when_healthy="every destination takes what it gets",
                    ),
                ),
                width=8,
            ),
            Panel(
                "Refused for good",
                "Requests per second that are no OTLP. A sender with the wrong protocol or port: its address "
                "is in the collector's log at debug level.",
                "short",
                (
                    Query(
                        p.total(_rate(c.MALFORMED), "reason"),
                        s.legend("reason"),
                        empty_when_healthy="every request is OTLP",
                    ),
                ),
                width=12,
                height=6,
            ),
            Panel(
                "Duplicates",
                "Requests and spans that came twice and were counted once. Many: senders time out before "
                "they "
                "get the acknowledgement; the disk may be slow.",
                "short",
                (
                    Query(
                        p.total(_rate(c.DUPLICATE_REQUESTS)),
                        "requests",
                        empty_when_healthy="nobody sends twice",
                    ),
                    Query(p.total(_rate(c.DUPLICATE_SPANS)), "spans"),
                ),
                width=12,
                height=6,
            ),
        ),
    )


def _state(limits: Limits) -> Row:
    log = p.select(c.LOG_BYTES, scope=SCOPE)
    limit = p.select(c.LOG_LIMIT, scope=SCOPE)
    return Row(
        "State",
        (
            Panel(
                "Log in use",
                "Share of the log's size that an exporter has yet to pass, by signal. At 100 % it refuses: "
                "find the exporter that lags.",
                "percentunit",
                (Query(f"max by ({KIND}) ({log} / ({limit} > 0))", s.legend(KIND)),),
                limit=limits.log_share,
                width=6,
            ),
            Panel(
                "Memory",
                "Resident bytes. Near memory_limiter's limit it refuses: raise the limit or send less.",
                "bytes",
                (Query(p.select(c.MEMORY, scope=SCOPE), s.legend(c.INSTANCE)),),
                width=6,
            ),
            Panel(
                "CPU",
                "Cores in use. One process uses one core at most: near 1, run a second collector.",
                "short",
                (Query(_rate(c.CPU), s.legend(c.INSTANCE)),),
                decimals=2,
                width=6,
            ),
            Panel(
                "Series shown to Prometheus",
                "Samples per scrape. A jump: a label got unbounded values; find it with "
                "topk(10, count by (__name__) (...)) and bound it with TAXIMETER_LABEL_LIMIT.",
                "short",
                (
                    Query(
                        f'{c.SAMPLES}{{{c.JOB}=~"{c.SCRAPE_JOB}|{c.COLLECTOR_JOB}"}}',
                        f"{s.legend(c.JOB)} {s.legend(c.INSTANCE)}",
                    ),
                ),
                limit=limits.series,
                width=6,
            ),
        ),
    )


def _agents() -> Row:
    by = (c.JOB, c.HOOK)
    return Row(
        "What others lose",
        (
            Panel(
                "Spans dropped by agents",
                "Per second, by service. The collector was out of reach for longer than the agent's queue "
                "lasts. Metrics stay exact; traces have gaps.",
                "short",
                (
                    Query(
                        p.total(p.rate(c.AGENT_DROPPED, scope=p.JOBS), c.JOB),
                        s.legend(c.JOB),
                        empty_when_healthy="no agent drops spans",
                    ),
                ),
                width=8,
            ),
            Panel(
                "Failures inside agents",
                "Since the start of each process: most happen once, and a rate would not show the first. "
                "Caught; the "
                "request went on. The service's log has the first of each: report "
                "it.",
                "short",
                (
                    Query(
                        p.total(f"max_over_time({p.select(c.AGENT_ERRORS, scope=p.JOBS)}[$__range])", *by),
                        f"{s.legend(c.JOB)} {s.legend(c.HOOK)}",
                        empty_when_healthy="no hook fails",
                    ),
                ),
                width=8,
            ),
            Panel(
                "Spans discarded by Tempo",
                "Tempo answers OK and drops over its limits: raise the limit that the reason names.",
                "short",
                (
                    Query(
                        f"sum by (reason) (rate({c.TEMPO_DISCARDED}[{p.WINDOW}]))",
                        s.legend("reason"),
                        empty_when_healthy="Tempo takes everything",
                        needs="tempo",
                    ),
                ),
                width=8,
            ),
        ),
    )
