"""Prometheus rules, Alertmanager's configuration and runbooks, rendered from Python.

``taximeter alerts render`` writes what this package says. Metric names come from
``taximeter_collector.prometheus.catalogue``; limits from :class:`~taximeter_alerts.thresholds.Thresholds`.
"""
