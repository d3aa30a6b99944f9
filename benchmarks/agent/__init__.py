"""What watching a service costs: ours, stock OpenTelemetry, OpenLIT, ddtrace and Logfire, side by side."""
