"""Out of the log: a cursor, a retry policy and a task of its own for every pipeline and exporter."""
