"""``make prove-n-plus-one``: a labelled set of traces from real runs, and three detectors on it."""
