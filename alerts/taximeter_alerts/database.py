"""Alerts about the database: statements that come in, and a server or pooler near its limit.

What the server says of itself comes from exporters of others, which must be scraped:
prometheus-postgres-exporter, prometheus-pgbouncer-exporter, and prometheus-node-exporter on the
database's host under the job ``taximeter-database``. Without them these alerts are silent.
"""

from __future__ import annotations

from taximeter import semconv
from taximeter_alerts import recording as r
from taximeter_alerts.model import PAGE, TICKET, Alert, ref
from taximeter_alerts.profile import Profile
from taximeter_alerts.requests import ROUTE_TRACES, busy, regressed
from taximeter_alerts.thresholds import Thresholds
from taximeter_collector.prometheus import catalogue as c


def alerts(t: Thresholds, p: Profile) -> list[Alert]:
    """Statements per request, then the server."""
    return [*_statements(t, p), *_server(t, p)]


def _statements(t: Thresholds, p: Profile) -> list[Alert]:
    return [
        Alert(
            "TaximeterRepeatedStatements",
            PAGE,
            f"{regressed(r.ROUTE_REPEATED, t.repeated_factor, t.repeated_delta, p)}\n{busy(t)}",
            p.brief,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: an N+1 query has come in",
            'A request repeats {{ $value | printf "%.1f" }} statements it has already sent, more than '
            f"{t.repeated_factor:g} times the median of the last {p.history}. The load on the database grows "
            "with the number of rows.",
            "database",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
            traces=f"{ROUTE_TRACES} && span.{semconv.REQUEST_DB_REPEATED} > {t.repeated_delta:g} }}",
        ),
        Alert(
            "TaximeterDatabaseCallsRegression",
            TICKET,
            f"{regressed(r.ROUTE_DB_CALLS, t.db_calls_factor, t.db_calls_delta, p)}\n{busy(t)}",
            p.hold,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: more statements per request",
            'A request sends {{ $value | printf "%.1f" }} statements, more than '
            f"{t.db_calls_factor:g} times the median of the last {p.history}.",
            "database",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
            traces=f"{ROUTE_TRACES} && span.{semconv.REQUEST_DB_CALLS} > 1 }}",
        ),
    ]


def _server(t: Thresholds, p: Profile) -> list[Alert]:
    return [
        Alert(
            "TaximeterDatabaseCpu",
            TICKET,
            f'1 - avg by ({c.INSTANCE}) (rate({c.NODE_CPU}{{{c.JOB}="{c.DATABASE_JOB}", mode="idle"}}'
            f"[{p.short}])) > {t.database_cpu_ratio:g}",
            p.hold,
            f"{ref(c.INSTANCE)}: the database's CPU is nearly used up",
            "{{ $value | humanizePercentage }} of the CPU time of the database's host are in use.",
            "database",
            by=(),
        ),
        Alert(
            "TaximeterDatabaseConnections",
            TICKET,
            f"sum by ({c.INSTANCE}) ({c.PG_BACKENDS})\n"
            f"/ max by ({c.INSTANCE}) ({c.PG_MAX_CONNECTIONS}) > {t.database_connections_ratio:g}",
            p.hold,
            f"{ref(c.INSTANCE)}: the database is running out of connections",
            "{{ $value | humanizePercentage }} of max_connections are in use.",
            "database",
            by=(),
        ),
        Alert(
            "TaximeterPoolerWaiting",
            TICKET,
            f"min_over_time({c.PGBOUNCER_WAITING}[{p.short}]) > 0",
            p.hold,
            f"{ref(c.INSTANCE)}: clients wait for a connection of the pooler ({ref('database')})",
            "{{ $value }} clients have been waiting all the time: all of the pool's connections are in use.",
            "database",
            by=(),
        ),
    ]
