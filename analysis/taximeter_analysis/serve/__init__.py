"""``taximeter serve``: the report's page, live in a browser on this machine."""
