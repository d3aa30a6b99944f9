"""The configuration files of Prometheus, Tempo, Grafana and the collector, for any set of addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from taximeter_cli.stack.addresses import Addresses, Place
from taximeter_collector.prometheus import catalogue as c

PROMETHEUS_UID = "taximeter-prometheus"
TEMPO_UID = "taximeter-tempo"
ALERTMANAGER_UID = "taximeter-alertmanager"
_HEADER = "# Rendered by {tool}: do not edit. {note}\n"


def prometheus(a: Addresses, *, rules: str, tempo: bool, alertmanager: bool, interval: str = "15s") -> str:
    """``prometheus.yml``; ``rules`` is the pattern of the rule files, ``interval`` that of scrapes."""
    jobs: list[dict[str, Any]] = [
        # job and instance are the service's: the collector knows them, Prometheus only its address.
        {**_job(c.SCRAPE_JOB, a.metrics), "honor_labels": True},
        _job(c.COLLECTOR_JOB, a.own_metrics),
    ]
    if tempo:
        jobs.append(_job("tempo", a.tempo))
    if a.postgres_exporter is not None:
        jobs.append(_job("postgres", a.postgres_exporter))
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [rules],
        "scrape_configs": jobs,
    }
    if alertmanager:
        targets = [{"targets": [a.alertmanager.address]}]
        config["alerting"] = {"alertmanagers": [{"static_configs": targets}]}
    return _yaml(config, "Needs --enable-feature=exemplar-storage and --web.enable-remote-write-receiver.")


def _job(name: str, place: Place) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [place.address]}]}


def tempo(a: Addresses, *, storage: str) -> str:
    """``tempo.yaml`` of Tempo 3: one process, local disk, and the service graph that Grafana draws."""
    config = {
        "server": {
            "http_listen_address": a.tempo.bind,
            "http_listen_port": a.tempo.port,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": a.tempo_otlp.port + 2,
            "log_level": "warn",
        },
        "distributor": {"receivers": {"otlp": {"protocols": {"grpc": {"endpoint": a.tempo_otlp.listen}}}}},
        "metrics_generator": {
            "storage": {
                "path": f"{storage}/generator",
                "remote_write": [{"url": f"{a.prometheus.url}/api/v1/write", "send_exemplars": True}],
            },
        },
        "storage": {
            "trace": {
                "backend": "local",
                "wal": {"path": f"{storage}/wal"},
                "local": {"path": f"{storage}/blocks"},
            }
        },
        # Over its limits Tempo answers OK and drops: the Collector dashboard shows how many.
        # Without these, it writes to /var/tempo whatever `storage` says.
        "live_store": {
            "wal": {"path": f"{storage}/live/traces"},
            "shutdown_marker_dir": f"{storage}/live/shutdown-marker",
        },
        "backend_scheduler": {"local_work_path": f"{storage}/scheduler"},
        "overrides": {
            "defaults": {
                "metrics_generator": {"processors": ["service-graphs"]},
                "compaction": {"block_retention": "336h"},
            }
        },
        "usage_report": {"reporting_enabled": False},
    }
    return _yaml(config, "For Tempo 3.0 or later. Single process; for more, see deploy/kubernetes.")


def data_sources(a: Addresses, *, tempo: bool, alertmanager: bool) -> str:
    """Grafana's data sources, with the uids that dashboards and alerts link to.

    In provisioning files ``$`` starts an environment variable, so Grafana's own ``$`` are doubled.
    """
    exemplar = {"name": "trace_id", "datasourceUid": TEMPO_UID}
    sources: list[dict[str, Any]] = [
        {
            "name": "Prometheus",
            "type": "prometheus",
            "uid": PROMETHEUS_UID,
            "access": "proxy",
            "url": a.prometheus.url,
            "isDefault": True,
            "jsonData": {
                "httpMethod": "POST",
                "timeInterval": "15s",
                **({"exemplarTraceIdDestinations": [exemplar]} if tempo else {}),
            },
        }
    ]
    if tempo:
        sources.append(_tempo_source(a))
    if alertmanager:
        sources.append(
            {
                "name": "Alertmanager",
                "type": "alertmanager",
                "uid": ALERTMANAGER_UID,
                "access": "proxy",
                "url": a.alertmanager.url,
                "jsonData": {"implementation": "prometheus"},
            }
        )
    return _yaml({"apiVersion": 1, "datasources": sources}, "Mounted at provisioning/datasources.")


def _tempo_source(a: Addresses) -> dict[str, Any]:
    p95 = (
        f"histogram_quantile(0.95, sum by (le) (rate({c.REQUESTS.bucket}"
        "{$$__tags}[$$__rate_interval])))"
    )  # fmt: skip
    return {
        "name": "Tempo",
        "type": "tempo",
        "uid": TEMPO_UID,
        "access": "proxy",
        "url": a.tempo.url,
        "jsonData": {
            "serviceMap": {"datasourceUid": PROMETHEUS_UID},
            "nodeGraph": {"enabled": True},
            "tracesToMetrics": {
                "datasourceUid": PROMETHEUS_UID,
                "spanStartTimeShift": "-15m",
                "spanEndTimeShift": "15m",
                "tags": [
                    {"key": "service.name", "value": c.JOB},
                    {"key": "http.route", "value": c.ROUTE},
                ],
                "queries": [
                    {"name": "P95 of the route", "query": p95},
                    {
                        "name": "Requests of the route",
                        "query": f"sum(rate({c.REQUESTS.count}{{$$__tags}}[$$__rate_interval]))",
                    },
                ],
            },
            # The agent puts trace ids into log lines; any Loki with this uid is linked.
            "tracesToLogsV2": {
                "datasourceUid": "taximeter-loki",
                "filterByTraceID": True,
                "spanStartTimeShift": "-5m",
                "spanEndTimeShift": "5m",
                "tags": [{"key": "service.name", "value": "service_name"}],
            },
        },
    }


def dashboard_provider(folder: str) -> str:
    """Grafana reads the dashboards from ``folder``."""
    provider = {
        "name": "taximeter",
        "folder": "Taximeter",
        "folderUid": "taximeter",
        "type": "file",
        "allowUiUpdates": False,
        "updateIntervalSeconds": 30,
        "options": {"path": folder},
    }
    return _yaml({"apiVersion": 1, "providers": [provider]}, "Mounted at provisioning/dashboards.")


def collector(a: Addresses, *, data: str, tempo: bool) -> str:
    """The collector's configuration, in the official collector's format."""
    exporters: dict[str, Any] = {
        "span_store": {"directory": f"{data}/store"},
        "prometheus": {"endpoint": a.metrics.listen, "enable_open_metrics": True},
    }
    if tempo:
        exporters["otlp_grpc/tempo"] = {"endpoint": a.tempo_otlp.address, "tls": {"insecure": True}}
    traces: Sequence[str] = ["span_store", *(["otlp_grpc/tempo"] if tempo else [])]
    return _yaml(
        {
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {"endpoint": a.otlp_grpc.listen},
                        "http": {"endpoint": a.otlp_http.listen},
                    }
                }
            },
            "processors": {
                "memory_limiter": {"check_interval": "1s", "limit_mib": 512},
                "batch": {"timeout": "200ms"},
            },
            "exporters": exporters,
            "extensions": {
                "health_check": {"endpoint": a.health.listen},
                "file_storage": {"directory": f"{data}/log", "create_directory": True},
            },
            "service": {
                "extensions": ["health_check", "file_storage"],
                "pipelines": {
                    "traces": _pipeline(["memory_limiter", "batch"], traces),
                    "metrics": _pipeline(["memory_limiter"], ["prometheus"]),
                },
                "telemetry": {
                    "metrics": {
                        "readers": [
                            {
                                "pull": {
                                    "exporter": {
                                        "prometheus": {
                                            "host": a.own_metrics.bind,
                                            "port": a.own_metrics.port,
                                        }
                                    }
                                }
                            }
                        ]
                    }
                },
            },
        },
        "taximeter collector run --config THIS",
    )


def _pipeline(processors: Sequence[str], exporters: Sequence[str]) -> dict[str, Any]:
    return {"receivers": ["otlp"], "processors": list(processors), "exporters": list(exporters)}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(config: Any, note: str) -> str:
    body = yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=110)
    return _HEADER.format(tool="taximeter", note=note) + body
