"""The metrics that dashboards and alerts read, under the names Prometheus shows them.

Every name is made by :func:`metric_name` from ``taximeter.semconv``, so a renamed metric changes
here too, and a test that runs the whole stack finds each of them in a real Prometheus. What
Prometheus or another exporter names by itself stands at the end, as it is spelled there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taximeter import semconv
from taximeter_collector.own_metrics import METRICS
from taximeter_collector.prometheus.names import label_name, metric_name


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram's base name and the three series it consists of."""

    name: str

    @property
    def bucket(self) -> str:
        return f"{self.name}_bucket"

    @property
    def count(self) -> str:
        return f"{self.name}_count"

    @property
    def sum(self) -> str:
        return f"{self.name}_sum"


def _histogram(name: str, unit: str) -> Histogram:
    return Histogram(metric_name(name, unit, monotonic=False, gauge=False))


def _counter(name: str, unit: str) -> str:
    return metric_name(name, unit, monotonic=True, gauge=False)


def _own(name: str) -> str:
    assert name in METRICS, f"{name} is not a metric of the collector"
    return name


# --- Requests -------------------------------------------------------------------------
REQUESTS: Final = _histogram(semconv.HTTP_SERVER_REQUEST_DURATION, "s")
DB_CALLS: Final = _histogram(semconv.REQUEST_DB_CALLS, "{call}")
DB_SECONDS: Final = _counter(semconv.REQUEST_DB_DURATION, "s")
DB_REPEATED: Final = _counter(semconv.REQUEST_DB_REPEATED, "{call}")
DB_OPERATIONS: Final = _histogram(semconv.DB_CLIENT_OPERATION_DURATION, "s")
MODEL_CALLS: Final = _counter(semconv.REQUEST_MODEL_CALLS, "{call}")
MODEL_ATTEMPTS: Final = _counter(semconv.REQUEST_MODEL_ATTEMPTS, "{attempt}")
EMBEDDING_CALLS: Final = _counter(semconv.REQUEST_EMBEDDING_CALLS, "{call}")
EMBEDDING_INPUTS: Final = _counter(semconv.REQUEST_EMBEDDING_INPUTS, "{input}")
EMBEDDING_DUPLICATES: Final = _counter(semconv.REQUEST_EMBEDDING_DUPLICATES, "{input}")
POOL_WAIT: Final = _counter(semconv.REQUEST_POOL_WAIT, "s")
CONNECTION_WAIT: Final = _histogram(semconv.DB_CLIENT_CONNECTION_WAIT_TIME, "s")
TOKENS_INPUT: Final = _counter(semconv.REQUEST_TOKENS_INPUT, "{token}")
TOKENS_OUTPUT: Final = _counter(semconv.REQUEST_TOKENS_OUTPUT, "{token}")
TOKENS_CACHED: Final = _counter(semconv.REQUEST_TOKENS_CACHED, "{token}")
REQUEST_COST: Final = _histogram(semconv.REQUEST_COST, "{USD}")
CACHE_LOOKUPS: Final = _counter(semconv.REQUEST_CACHE_LOOKUPS, "{lookup}")
CACHE_HITS: Final = _counter(semconv.REQUEST_CACHE_HITS, "{lookup}")
CACHE_REPEATS: Final = _counter(semconv.REQUEST_CACHE_REPEATS, "{lookup}")
FIRST_BYTE: Final = _histogram(semconv.REQUEST_FIRST_BYTE, "s")
REQUEST_UNPRICED: Final = _counter(semconv.REQUEST_UNPRICED_CALLS, "{call}")
STREAMED: Final = _counter(semconv.REQUEST_STREAMED, "{request}")

# --- Models and money -----------------------------------------------------------------
COST: Final = _counter(semconv.COST_USD, "{USD}")
UNPRICED: Final = _counter(semconv.UNPRICED_CALLS, "{call}")
MODEL_SECONDS: Final = _histogram(semconv.GEN_AI_CLIENT_OPERATION_DURATION, "s")
MODEL_TOKENS: Final = _histogram(semconv.GEN_AI_CLIENT_TOKEN_USAGE, "{token}")
MODEL_COST: Final = _histogram(semconv.GEN_AI_CLIENT_OPERATION_COST, "{USD}")
FIRST_CHUNK: Final = _histogram(semconv.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, "s")

# --- The agent and the collector about themselves -------------------------------------
AGENT_ERRORS: Final = _counter(semconv.AGENT_ERRORS, "{error}")
AGENT_DROPPED: Final = _counter(semconv.AGENT_DROPPED_SPANS, "{span}")
ACCEPTED_SPANS: Final = _own("otelcol_receiver_accepted_spans")
ACCEPTED_POINTS: Final = _own("otelcol_receiver_accepted_metric_points")
REFUSED_SPANS: Final = _own("otelcol_receiver_refused_spans")
REFUSED_POINTS: Final = _own("otelcol_receiver_refused_metric_points")
SENT_SPANS: Final = _own("otelcol_exporter_sent_spans")
SENT_POINTS: Final = _own("otelcol_exporter_sent_metric_points")
QUEUE_SIZE: Final = _own("otelcol_exporter_queue_size")
MEMORY: Final = _own("otelcol_process_memory_rss")
CPU: Final = _own("otelcol_process_cpu_seconds")
DEAD_LETTERS: Final = _own("taximeter_collector_dead_letters")
EXPORT_RETRIES: Final = _own("taximeter_collector_export_retries")
DUPLICATE_SPANS: Final = _own("taximeter_collector_duplicate_spans")
DUPLICATE_REQUESTS: Final = _own("taximeter_collector_duplicate_requests")
MALFORMED: Final = _own("taximeter_collector_malformed_requests")
UPTIME: Final = _own("otelcol_process_uptime")
LOG_BYTES: Final = _own("taximeter_collector_log_bytes")
LOG_LIMIT: Final = _own("taximeter_collector_log_limit_bytes")
CLOCK_LEAD: Final = _own("taximeter_collector_clock_lead_seconds")

VERIFY_CANARY: Final = metric_name(semconv.VERIFY_CANARY, "s", monotonic=False, gauge=True)

# --- Labels ---------------------------------------------------------------------------
JOB: Final = "job"  # the service's name: the collector's scrape target is scraped with honor_labels
INSTANCE: Final = "instance"
ROUTE: Final = label_name(semconv.HTTP_ROUTE)
METHOD: Final = label_name(semconv.HTTP_REQUEST_METHOD)
STATUS: Final = label_name(semconv.HTTP_RESPONSE_STATUS_CODE)
TENANT: Final = label_name(semconv.TENANT)
MODEL: Final = label_name(semconv.GEN_AI_REQUEST_MODEL)
ANSWERED: Final = label_name(semconv.GEN_AI_RESPONSE_MODEL)
TOKEN_TYPE: Final = label_name(semconv.GEN_AI_TOKEN_TYPE)
ERROR_TYPE: Final = label_name(semconv.ERROR_TYPE)
OPERATION: Final = label_name(semconv.GEN_AI_OPERATION_NAME)
PROVIDER: Final = label_name(semconv.GEN_AI_PROVIDER_NAME)
CACHE: Final = label_name(semconv.CACHE)
POOL: Final = label_name(semconv.DB_CLIENT_CONNECTION_POOL_NAME)
HOOK: Final = label_name(semconv.HOOK)
VERSION: Final = label_name(semconv.SERVICE_VERSION)
DB_OPERATION: Final = label_name(semconv.DB_OPERATION_NAME)
DB_SUMMARY: Final = label_name(semconv.DB_QUERY_SUMMARY)

# --- Named by Prometheus, and by the scrape configuration in deploy/ ------------------
TARGET_INFO: Final = "target_info"
UP: Final = "up"
SAMPLES: Final = "scrape_samples_post_metric_relabeling"
SCRAPE_JOB: Final = "taximeter"  # job of the scrape of the services' metrics
COLLECTOR_JOB: Final = "taximeter-collector"  # job of the scrape of the collector's own metrics
DATABASE_JOB: Final = "taximeter-database"  # job of the scrapes of what runs on the database's host

# --- Named by others ------------------------------------------------------------------
TEMPO_DISCARDED: Final = "tempo_discarded_spans_total"
PG_BACKENDS: Final = "pg_stat_database_numbackends"  # prometheus-postgres-exporter
PG_MAX_CONNECTIONS: Final = "pg_settings_max_connections"
PGBOUNCER_WAITING: Final = "pgbouncer_pools_client_waiting_connections"  # prometheus-pgbouncer-exporter
NODE_CPU: Final = "node_cpu_seconds_total"  # prometheus-node-exporter, on the database's host
PG_ACTIVITY: Final = "pg_stat_activity_count"
PG_COMMITS: Final = "pg_stat_database_xact_commit"
PG_ROLLBACKS: Final = "pg_stat_database_xact_rollback"
PG_BLOCKS_HIT: Final = "pg_stat_database_blks_hit"
PG_BLOCKS_READ: Final = "pg_stat_database_blks_read"
PG_DATABASE: Final = "datname"
PG_STATE: Final = "state"


def at_most(seconds: float) -> str:
    """The matcher of a bucket's bound: ``2`` in plain text is ``2.0`` in OpenMetrics."""
    text = f"{seconds:g}"
    return f'le=~"{text}(\\\\.0)?"' if "." not in text else f'le="{text}"'
