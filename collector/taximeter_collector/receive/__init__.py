"""OTLP in: over HTTP and gRPC, validated, appended to the log, and only then acknowledged."""
