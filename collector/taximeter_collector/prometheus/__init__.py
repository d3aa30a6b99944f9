"""OTLP metrics as a Prometheus scrape target, exact across restarts."""
