"""The same questions where the data lives elsewhere: OTLP files, Tempo, Prometheus.

Files and Tempo hold spans. They are read into a span store of their own in a temporary directory, by the
collector's own writer, so that one code path answers (`readers.spans`). Prometheus holds sums and
histograms: `readers.prometheus` makes a report of those, which says within which bounds its figures are.
"""
