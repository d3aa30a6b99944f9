"""The components Taximeter has, with their official keys and defaults: the whole of what may be configured.

Where a default differs from the official collector's, the line says why.
"""

from __future__ import annotations

from taximeter_collector.config.actions import ATTRIBUTES, PRICING, REQUEST_ACCOUNT, RESOURCE
from taximeter_collector.config.connectors import CONNECTORS
from taximeter_collector.config.fields import (
    Key,
    Section,
    anything,
    boolean,
    duration,
    endpoint,
    number,
    one_of,
    text,
    text_map,
    whole,
)
from taximeter_collector.config.sampling import TAIL_SAMPLING
from taximeter_collector.config.security import AUTH, BASIC, BEARER, TLS_CLIENT, TLS_SERVER
from taximeter_collector.config.shaping import FILE, FILTER, PROBABILISTIC_SAMPLER, REDACTION

_LOG_IS_QUEUE = "the durable log with one cursor per exporter takes the sending queue's place"

_RETRY = Section(
    {
        "enabled": Key(boolean, True),
        "initial_interval": Key(duration, 5.0),
        "randomization_factor": Key(number, 0.5),
        "multiplier": Key(number, 1.5),
        "max_interval": Key(duration, 30.0),
        "max_elapsed_time": Key(
            duration,
            0.0,
            differs="officially 300s, then the data is dropped; what is in the durable log can wait for "
            "ever, and after any other limit a request goes to the dead letters",
        ),
    }
)

_WRITE_RETRY = Section({**_RETRY.keys, "initial_interval": Key(duration, 0.05)})

_QUEUE = Section(
    {
        key: Key(anything, None, _LOG_IS_QUEUE)
        for key in (
            "enabled", "num_consumers", "queue_size", "storage", "sizer", "block_on_overflow",
            "wait_for_result", "batch",
        )
    }
)  # fmt: skip

_CLIENT_OFFICIAL = (
    "balancer_name", "keepalive", "read_buffer_size", "write_buffer_size", "wait_for_ready",
    "authority", "middlewares", "max_conns_per_host", "max_idle_conns", "max_idle_conns_per_host",
    "idle_conn_timeout", "disable_keep_alives", "http2_read_idle_timeout", "http2_ping_timeout",
    "cookies", "force_attempt_http2", "proxy_url", "compression_params", "user_agent",
)  # fmt: skip

_OTLP_GRPC = Section(
    {
        "endpoint": Key(text),
        "tls": TLS_CLIENT,
        "auth": AUTH,
        "headers": Key(text_map, {}),
        "compression": Key(one_of("gzip", "none"), "gzip"),
        "timeout": Key(duration, 5.0),
        "retry_on_failure": _RETRY,
        "sending_queue": _QUEUE,
    },
    official=_CLIENT_OFFICIAL,
)

_OTLP_HTTP = Section(
    {
        "endpoint": Key(text),
        "traces_endpoint": Key(text),
        "metrics_endpoint": Key(text),
        "logs_endpoint": Key(text),
        "tls": TLS_CLIENT,
        "auth": AUTH,
        "headers": Key(text_map, {}),
        "compression": Key(one_of("gzip", "none"), "gzip"),
        "encoding": Key(one_of("proto"), "proto"),
        "timeout": Key(duration, 30.0),
        "retry_on_failure": _RETRY,
        "sending_queue": _QUEUE,
    },
    official=(*_CLIENT_OFFICIAL, "profiles_endpoint"),
)

RECEIVERS: dict[str, Section] = {
    "otlp": Section(
        {
            "protocols": Section(
                {
                    "grpc": Section(
                        {
                            "endpoint": Key(endpoint, "localhost:4317"),
                            "max_recv_msg_size_mib": Key(whole, 4),
                            "max_concurrent_streams": Key(whole, 100, differs="officially no limit"),
                            "tls": TLS_SERVER,
                            "auth": AUTH,
                            "max_connections": Key(whole, 1000, own=True),
                        },
                        official=(
                            "transport", "read_buffer_size", "write_buffer_size", "keepalive",
                            "include_metadata", "middlewares",
                        ),
                        optional=True,
                    ),
                    "http": Section(
                        {
                            "endpoint": Key(endpoint, "localhost:4318"),
                            "max_request_body_size": Key(whole, 20 << 20),
                            "traces_url_path": Key(text, "/v1/traces"),
                            "metrics_url_path": Key(text, "/v1/metrics"),
                            "logs_url_path": Key(text, "/v1/logs"),
                            "tls": TLS_SERVER,
                            "auth": AUTH,
                            "read_header_timeout": Key(duration, 60.0),
                            "read_timeout": Key(
                                duration, 60.0, differs="officially 0: slow senders could hold it up"
                            ),
                            "idle_timeout": Key(
                                duration, 75.0, differs="officially 60s, which closes under a sender a minute"
                            ),
                            "max_connections": Key(whole, 1000, own=True),
                        },
                        official=(
                            "cors", "include_metadata", "response_headers", "transport",
                            "compression_algorithms", "write_timeout", "keep_alives_enabled",
                            "middlewares", "profiles_url_path",
                        ),
                        optional=True,
                    ),
                }
            )
        }
    )
}  # fmt: skip

PROCESSORS: dict[str, Section] = {
    "attributes": ATTRIBUTES,
    "filter": FILTER,
    "probabilistic_sampler": PROBABILISTIC_SAMPLER,
    "redaction": REDACTION,
    "pricing": PRICING,
    "request_account": REQUEST_ACCOUNT,
    "resource": RESOURCE,
    "tail_sampling": TAIL_SAMPLING,
    "batch": Section(
        {
            "timeout": Key(duration, 0.2),
            "send_batch_size": Key(whole, 8192),
            "send_batch_max_size": Key(whole, 0),
        },
        official=("metadata_keys", "metadata_cardinality_limit"),
    ),
    "memory_limiter": Section(
        {
            "check_interval": Key(duration, 0.0),
            "limit_mib": Key(whole, 0),
            "spike_limit_mib": Key(whole, 0),
            "limit_percentage": Key(whole, 0),
            "spike_limit_percentage": Key(whole, 0),
        },
        official=("min_gc_interval_when_soft_limited", "min_gc_interval_when_hard_limited"),
    ),
}

EXPORTERS: dict[str, Section] = {
    "file": FILE,
    "otlp_grpc": _OTLP_GRPC,
    "otlp_http": _OTLP_HTTP,
    "prometheus": Section(
        {
            "endpoint": Key(endpoint),
            "namespace": Key(text, ""),
            "const_labels": Key(text_map, {}),
            "send_timestamps": Key(boolean, False),
            "metric_expiration": Key(duration, 300.0),
            "enable_open_metrics": Key(boolean, False),
            "add_metric_suffixes": Key(boolean, True),
            "without_scope_info": Key(boolean, False),
            "resource_to_telemetry_conversion": Section({"enabled": Key(boolean, False)}),
            "start_at_zero": Key(boolean, True, own=True),  # `*_usd_total` series begin at 0
        },
        official=(
            "tls", "translation_strategy", "auth", "cors", "compression_algorithms", "include_metadata",
            "max_request_body_size", "response_headers", "read_timeout", "read_header_timeout",
            "write_timeout", "idle_timeout", "keep_alives_enabled", "transport", "middlewares",
        ),
    ),
    "prometheus_remote_write": Section(
        {
            "endpoint": Key(text),
            "namespace": Key(text, ""),
            "external_labels": Key(text_map, {}),
            "headers": Key(text_map, {}),
            "timeout": Key(duration, 5.0),
            "tls": TLS_CLIENT,
            "auth": AUTH,
            "compression": Key(one_of("snappy"), "snappy"),
            "retry_on_failure": _WRITE_RETRY,
            "remote_write_queue": Section(
                {
                    key: Key(anything, None, _LOG_IS_QUEUE)
                    for key in ("enabled", "queue_size", "num_consumers")
                }
            ),
            "max_batch_size_bytes": Key(whole, 3_000_000),
            "max_batch_request_parallelism": Key(whole, 1, "samples are sent in their order"),
            "add_metric_suffixes": Key(boolean, True),
            "disable_scope_info": Key(boolean, False),
            "target_info": Section({"enabled": Key(boolean, True)}),
            "resource_to_telemetry_conversion": Section(
                {"enabled": Key(boolean, False)}, official=("exclude_service_attributes",)
            ),
            "start_at_zero": Key(boolean, True, own=True),  # `*_usd_total` series begin at 0
        },
        official=(*_CLIENT_OFFICIAL, "wal", "translation_strategy", "send_metadata", "protobuf_message"),
    ),
    "debug": Section(
        {
            "verbosity": Key(one_of("basic", "normal", "detailed"), "basic", "one line a batch is written"),
            "sampling_initial": Key(whole, 2, "one line a batch is written"),
            "sampling_thereafter": Key(whole, 1, "one line a batch is written"),
        },
        official=("use_internal_logger", "output_paths", "sending_queue"),
    ),
    "span_store": Section(  # Taximeter's own
        {
            "directory": Key(text),
            "flush_interval": Key(duration, 2.0),
            "max_rows": Key(whole, 100_000),
            "upkeep_interval": Key(duration, 60.0),  # compaction and retention; 0: never
            # 0: no limit
            "retention": Section({"max_age": Key(duration, 0.0), "max_size_mib": Key(whole, 0)}),
        }
    ),
}  # fmt: skip

EXTENSIONS: dict[str, Section] = {
    "basicauth": BASIC,
    "bearertokenauth": BEARER,
    "file_storage": Section(
        {
            "directory": Key(text),
            "create_directory": Key(boolean, True, differs="officially false"),
            "timeout": Key(duration, 1.0, "the directory is locked at once or not at all"),
            "fsync": Key(boolean, True, "every acknowledged request is fsynced (officially off)"),
            "max_size_mib": Key(whole, 1024, own=True),  # payload per signal, then refusals
        },
        official=("compaction", "directory_permissions", "recreate"),
    ),
    "health_check": Section(
        {"endpoint": Key(endpoint, "localhost:13133"), "path": Key(text, "/")},
        official=("tls", "response_body", "check_collector_pipeline", "cors", "auth", "use_v2", "http",
                  "grpc", "component_health"),
    ),
}  # fmt: skip

#: Older names that the official collector still accepts.
ALIASES = {
    "exporters": {
        "otlp": "otlp_grpc",
        "otlphttp": "otlp_http",
        "prometheusremotewrite": "prometheus_remote_write",
    },
    "connectors": {"spanmetrics": "span_metrics"},
    "extensions": {"basic_auth": "basicauth", "bearer_token_auth": "bearertokenauth"},
}

#: Which signals an exporter takes; absent: all.
EXPORTER_SIGNALS = {
    "prometheus": ("metrics",),
    "prometheus_remote_write": ("metrics",),
    "span_store": ("traces",),
}

#: Keys without which a component makes no sense.
REQUIRED = {
    "prometheus": ("endpoint",),
    "file": ("path",),
    "span_store": ("directory",),
    "otlp_grpc": ("endpoint",),
    "prometheus_remote_write": ("endpoint",),
    "tail_sampling": ("policies",),
    "attributes": ("actions",),
    "resource": ("attributes",),
}

KINDS: dict[str, dict[str, Section]] = {
    "receivers": RECEIVERS,
    "processors": PROCESSORS,
    "exporters": EXPORTERS,
    "extensions": EXTENSIONS,
    "connectors": CONNECTORS,
}
