"""``taximeter top``: the service in a terminal, second by second."""
