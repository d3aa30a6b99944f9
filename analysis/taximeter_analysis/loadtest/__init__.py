"""``taximeter loadtest``: guests from a Locust file, in interleaved blocks that `compare` reads."""
