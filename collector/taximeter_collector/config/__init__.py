"""The official OpenTelemetry Collector's YAML, for the supported subset, read strictly."""
