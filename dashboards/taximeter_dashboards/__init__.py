"""Grafana dashboards, written as data and rendered to committed JSON.

A dashboard is a :class:`~taximeter_dashboards.model.Dashboard` of rows of panels of PromQL queries.
Every metric and label in a query comes from ``taximeter_collector.prometheus.catalogue``, so what is
renamed there changes here, and a test that runs each query against a real Prometheus finds what is
not exposed. This layer imports the parts below it, and nothing of alerts.
"""
