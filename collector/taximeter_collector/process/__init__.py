"""Between the log and the exporters: what a pipeline's processors do."""
