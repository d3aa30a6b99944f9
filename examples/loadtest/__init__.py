"""Scenarios for ``taximeter loadtest``."""
